"""Crop stores at URLs: the same crops as from a directory, requested crop by crop, and one line where that fails."""

from dataclasses import replace

import numpy as np
import pytest

from viscy_train.crop_store import crop_array
from viscy_train.crop_store.crop_store import CropStore
from viscy_train.errors import UserError
from viscy_train.loading.crops import CropReader
from viscy_train.packing.pack import pack
from viscy_train.remote.path import as_path

from .servers import upload, web_server

ROWS = np.arange(96)[::-5]


@pytest.fixture
def packed(noise, tmp_path, monkeypatch, capsys):
    """The directory of a crop store of the table of noise, with 10 shards."""
    monkeypatch.setattr(crop_array, "_BYTES_PER_SHARD", 10 * 2 * 8 * 8 * 2)
    pack(noise[0], tmp_path / "crops.zarr", cache_mb=64)
    capsys.readouterr()
    return tmp_path / "crops.zarr"


@pytest.fixture
def in_bucket(packed, bucket, store_address):
    """The URL of this store in a bucket."""
    upload(packed, store_address, "packed")
    return as_path("s3://packed")


def test_crops_of_a_store_in_a_bucket_are_those_of_the_plates(noise, in_bucket, faults):
    table, _ = noise
    faults.of = lambda path, n_before: "500" if n_before == 0 and "/c." in path else None
    source = CropReader(table, store=in_bucket)
    np.testing.assert_array_equal(source.read(ROWS), CropReader(table).read(ROWS))
    assert faults.n_injected > 0


def test_crops_of_a_store_on_a_web_server_are_those_of_the_plates(noise, packed):
    table, _ = noise
    with web_server(packed) as address:
        np.testing.assert_array_equal(
            CropReader(table, store=as_path(address)).read(ROWS), CropReader(table).read(ROWS)
        )


def test_a_store_in_a_bucket_that_lacks_a_shard_is_unfinished(noise, packed, bucket, store_address):
    (packed / "0" / "c.3.0.0.0.0").unlink()
    upload(packed, store_address, "unfinished")
    with pytest.raises(UserError, match=r"crop store s3://unfinished is unfinished: 1 of 10 shards is missing"):
        CropStore(as_path("s3://unfinished"), noise[0].fingerprint)


def test_a_store_in_a_bucket_of_other_crops_is_refused(noise, in_bucket):
    other = replace(noise[0], crops=replace(noise[0].crops, crop=16))
    with pytest.raises(UserError, match="has the crops of another anchor table"):
        CropStore(in_bucket, other.fingerprint)


def test_a_shard_that_a_web_server_lacks_is_named(noise, packed):
    (packed / "0" / "c.3.0.0.0.0").unlink()
    with web_server(packed) as address:
        store = CropStore(as_path(address), noise[0].fingerprint)
        with pytest.raises(UserError, match=r"cannot read http://.*/0/c\.3\.0\.0\.0\.0 ") as raised:
            store.read(np.arange(96))
    assert "\n" not in str(raised.value)


def test_a_bucket_that_fails_while_crops_are_read_is_not_taken_for_a_damaged_store(noise, in_bucket, faults):
    store = CropStore(in_bucket, noise[0].fingerprint)
    faults.of = lambda path, n_before: "500" if "/c." in path else None
    with pytest.raises(UserError, match=r"cannot read s3://packed/0/c\.\d\.0\.0\.0\.0 of the crop store \(") as raised:
        store.read(ROWS)
    assert "run the command again" in str(raised.value)
    assert "delete" not in str(raised.value)


def test_a_store_that_is_not_there_is_not_found(noise, bucket):
    with pytest.raises(UserError, match="crop store not found: s3://project/none"):
        CropStore(as_path("s3://project/none"), noise[0].fingerprint)
