"""Metadata of plates are read as JSON; zarr-python reads what is unusual, and finds the same."""

import json
import pickle
from dataclasses import fields

import numpy as np
import pytest
import zarr
from zarr.codecs import BytesCodec, ZstdCodec

from viscy_train.plates.metadata_files import read_node
from viscy_train.plates.ome_store import OmeStore
from viscy_train.plates.stored_array import StoredArray

SHAPE, CHUNKS = (4, 6), (2, 3)
KINDS = {
    "raw 3": {"compressors": None},
    "zstd 3": {"compressors": ZstdCodec()},
    "sharded 3": {"shards": SHAPE},
    "named as 2": {"chunk_key_encoding": {"name": "v2", "configuration": {"separator": "/"}}},
    "raw 2": {"zarr_format": 2, "compressors": None},
    "blosc 2": {"zarr_format": 2},
    "slashes 2": {"zarr_format": 2, "chunk_key_encoding": {"name": "v2", "configuration": {"separator": "/"}}},
}
UNUSUAL = {
    "big-endian 3": {"serializer": BytesCodec(endian="big")},
    "big-endian 2": {"zarr_format": 2, "dtype": ">u2"},
    "Fortran 2": {"zarr_format": 2, "order": "F"},
}


def write(path, zarr_format=3, dtype="uint16", **options):
    group = zarr.create_group(path, zarr_format=zarr_format, attributes={"name": "image"})
    array = group.create_array("0", shape=SHAPE, chunks=CHUNKS, dtype=dtype, **options)
    array[...] = np.arange(24).reshape(SHAPE)
    return array


@pytest.mark.parametrize("kind", KINDS)
def test_metadata_are_read_as_zarr_reads_them(tmp_path, kind):
    array = write(tmp_path / "p.zarr", **KINDS[kind])
    found, expected = OmeStore(tmp_path / "p.zarr").array("0"), StoredArray.of(array)
    assert "opened" not in vars(found)
    compared = {field.name for field in fields(StoredArray)} - {"chunk_keys", "codecs"}
    assert {name: getattr(found, name) for name in compared} == {name: getattr(expected, name) for name in compared}
    assert found.is_encoded == expected.is_encoded == ("raw" not in kind)
    assert found.chunk_key((1, 0)) == expected.chunk_key((1, 0))
    assert found.directory == tmp_path / "p.zarr/0"
    assert pickle.loads(pickle.dumps(found)) == found
    np.testing.assert_array_equal(found.opened[...], array[...])


@pytest.mark.parametrize("kind", UNUSUAL)
def test_zarr_opens_what_is_unusual(tmp_path, kind):
    array = write(tmp_path / "p.zarr", **UNUSUAL[kind])
    found = OmeStore(tmp_path / "p.zarr").array("0")
    assert "opened" in vars(found)
    assert found.dtype == array.dtype
    assert found.chunk_key((1, 0)) == array.metadata.encode_chunk_key((1, 0))


@pytest.mark.parametrize(
    "changes",
    [
        {"codecs": [{"name": "unheard of"}]},
        {"shape": [4, 6.5]},
        {"shape": "large"},
        {"unheard_of": {"must_understand": True}},
    ],
)
def test_zarr_says_what_is_wrong_with_metadata(tmp_path, changes):
    write(tmp_path / "p.zarr")
    file = tmp_path / "p.zarr/0/zarr.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | changes))
    with pytest.raises(Exception) as expected:  # noqa: PT011 (many types)
        zarr.open_array(tmp_path / "p.zarr/0", mode="r")
    with pytest.raises(type(expected.value)) as error:
        OmeStore(tmp_path / "p.zarr").array("0")
    assert str(error.value) == str(expected.value)


def test_a_group_is_not_an_array(tmp_path):
    write(tmp_path / "p.zarr")
    store = OmeStore(tmp_path / "p.zarr")
    assert store.ome()["name"] == "image"
    with pytest.raises(TypeError, match="0 is an array"):
        store.ome("0")


def test_what_is_missing_damaged_or_outside_is_left_to_zarr(tmp_path):
    write(tmp_path / "p.zarr")
    assert read_node(tmp_path / "p.zarr", "0", 3) is not None
    for name, version in (("1", 3), ("../p.zarr", 3), ("0", 2)):
        assert read_node(tmp_path / "p.zarr", name, version) is None
    (tmp_path / "p.zarr/0/zarr.json").write_text("[")
    assert read_node(tmp_path / "p.zarr", "0") is None
