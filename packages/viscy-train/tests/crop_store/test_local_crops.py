"""Crops on a local file system are read as tensorstore and zarr-python read them, and damage is refused."""

import json

import numpy as np
import pytest

from viscy_train.crop_store import local_crops
from viscy_train.crop_store.crop_array import CHECKSUM_BYTES, encode_shard, metadata_of
from viscy_train.crop_store.crop_store import _TensorStoreCrops, _ZarrCrops
from viscy_train.crop_store.header import CropArray
from viscy_train.crop_store.local_crops import LocalCrops
from viscy_train.plates.access import kvstore_at

N, PER_SHARD = 25, 10


def array_of(dtype, shape=(N, 2, 1, 16, 16)):
    return CropArray(name="0", data_type=dtype, shape=shape, crops_per_shard=PER_SHARD, first_slot=0)


def write(directory, dtype="uint16"):
    """Write an array of crops; return it and its pixels."""
    array, rng = array_of(dtype), np.random.default_rng(0)
    pixels = (rng.random(array.shape) * 200).astype(dtype)
    pixels[3] = 0  # equal to the fill value
    pixels[4].view(np.uint8)[:] = rng.integers(0, 256, pixels[4].view(np.uint8).shape) & 1  # any bits
    (directory / "zarr.json").write_text(json.dumps(metadata_of(array)))
    for shard in range(array.n_shards):
        part = pixels[shard * PER_SHARD : (shard + 1) * PER_SHARD]
        (directory / array.shard_name(shard)).write_bytes(encode_shard(array, part))
    return array, pixels


@pytest.mark.parametrize("dtype", ["bool", "uint8", "int8", "uint16", "int64", "float16", "float32", "float64"])
def test_all_readers_read_the_same_crops(tmp_path, dtype):
    array, pixels = write(tmp_path, dtype)
    indices = np.array([24, 3, 3, 4, 0, 19, 20, 10])
    readers = [LocalCrops(tmp_path, array), _TensorStoreCrops(kvstore_at(tmp_path)), _ZarrCrops(tmp_path)]
    for crops in (reader[indices] for reader in readers):
        assert crops.dtype == dtype
        assert crops.dtype.isnative
        assert crops.tobytes() == pixels[indices].tobytes()


def test_no_crops_have_the_shape_of_crops(tmp_path):
    array, _ = write(tmp_path)
    assert LocalCrops(tmp_path, array)[np.array([], dtype=np.int64)].shape == (0, 2, 1, 16, 16)


def test_the_memory_for_indices_is_bounded(tmp_path, monkeypatch):
    array, pixels = write(tmp_path)
    monkeypatch.setattr(local_crops, "_INDEX_BYTES", 2 * 16 * PER_SHARD)
    crops = LocalCrops(tmp_path, array)
    for _ in range(2):
        np.testing.assert_array_equal(crops[np.arange(N)], pixels)
    assert crops._index_of.cache_info().currsize == 2


def refused(crops, error, text, index=12):
    with pytest.raises(error, match=text):
        crops[np.array([index])]
    assert len(crops[np.array([0])]) == 1, "other shards can be read"


def index_of(content):
    """Return the index at the end of the bytes of a shard."""
    return np.frombuffer(content, "<u8", 2 * PER_SHARD, len(content) - 16 * PER_SHARD - CHECKSUM_BYTES).reshape(-1, 2)


def with_index(content, index):
    import google_crc32c

    body = index.astype("<u8").tobytes()
    return content[: -len(body) - CHECKSUM_BYTES] + body + google_crc32c.value(body).to_bytes(4, "little")


@pytest.mark.parametrize("at", [5, -1, -CHECKSUM_BYTES - 16 * PER_SHARD, -CHECKSUM_BYTES - 1])
def test_a_changed_bit_anywhere_is_noticed(tmp_path, at):
    array, _ = write(tmp_path)
    file = tmp_path / array.shard_name(1)
    content = bytearray(file.read_bytes())
    begin, length = index_of(bytes(content))[2].tolist()
    content[begin + at if at == 5 else at] ^= 1
    file.write_bytes(content)
    refused(LocalCrops(tmp_path, array), ValueError, "a checksum is wrong")
    assert length > at


@pytest.mark.parametrize(
    ("change", "text"),
    [
        (lambda index: (2**64 - 1, 2**64 - 1), "a crop is missing"),
        (lambda index: (index[2, 0], 2), "the file is cut"),
        (lambda index: (10**6, index[2, 1]), "the file is cut"),
        (lambda index: (index[2, 0], index[2, 1] - 1), "a checksum is wrong"),
    ],
)
def test_an_index_that_is_wrong_is_refused(tmp_path, change, text):
    array, _ = write(tmp_path)
    file = tmp_path / array.shard_name(1)
    content = file.read_bytes()
    index = index_of(content).copy()
    index[2] = np.array(change(index), dtype=np.uint64)
    file.write_bytes(with_index(content, index))
    refused(LocalCrops(tmp_path, array), ValueError, text)


@pytest.mark.parametrize("size", [0, 3, 16 * PER_SHARD])
def test_a_file_that_is_shorter_than_its_index_is_refused(tmp_path, size):
    array, _ = write(tmp_path)
    file = tmp_path / array.shard_name(1)
    file.write_bytes(file.read_bytes()[:size])
    refused(LocalCrops(tmp_path, array), ValueError, "the file is cut")


def test_crops_of_another_size_are_refused(tmp_path):
    write(tmp_path)
    crops = LocalCrops(tmp_path, array_of("uint16", (N, 2, 1, 16, 15)))
    with pytest.raises(ValueError, match="a crop must have 960 bytes, got 1024"):
        crops[np.array([12])]


def test_a_missing_file_is_named(tmp_path):
    array, _ = write(tmp_path)
    (tmp_path / array.shard_name(1)).unlink()
    refused(LocalCrops(tmp_path, array), FileNotFoundError, "c.1.0.0.0.0")
