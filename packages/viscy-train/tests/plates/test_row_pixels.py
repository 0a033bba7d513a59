"""Rows of chunks that are not compressed have the pixels that zarr-python reads, and damage is an error."""

import os

import numpy as np
import pytest
from zarr.codecs import BytesCodec, TransposeCodec, ZstdCodec

from viscy_train.plates.image_array import AXES, ImageArray
from viscy_train.plates.row_pixels import open_rows
from viscy_train.plates.stored_array import StoredArray

from .odd_plates import OddPlate, noise

LENGTHS = (4, 3, 5, 37, 41)


def write(path, *, zarr_format=3, axes=AXES, dtype=np.uint16, seed=0, **options):
    """Write an image without compression; return it as an array, and its pixels with all axes."""
    lengths = tuple(LENGTHS[AXES.index(axis)] for axis in axes)
    image = noise(seed, dtype, lengths)
    stored = OddPlate(path / "plate.zarr", zarr_format=zarr_format).write_image(
        "A/1/0", image, axes=axes.lower(), **({"compressors": None} | options)
    )
    return ImageArray(StoredArray.of(stored), axes), image.reshape(
        [LENGTHS[AXES.index(axis)] if axis in axes else 1 for axis in AXES]
    )


def rows_of(array):
    rows = open_rows(array)
    assert rows is not None
    return rows


def check_boxes(array, image, rng, n=15):
    """Compare random boxes, also those that reach the borders of the image, with the pixels of the image."""
    rows = rows_of(array)
    for _ in range(n):
        depth, height, width = rng.integers(1, np.array(image.shape[2:]) + 1).tolist()
        z, top, left = rng.integers(0, np.array(image.shape[2:]) - (depth, height, width) + 1).tolist()
        frame = int(rng.integers(image.shape[0]))
        channels = rng.permutation(image.shape[1])[: rng.integers(1, image.shape[1] + 1)].tolist()
        crop = np.empty((len(channels), depth, height, width), dtype=image.dtype.newbyteorder("="))
        n_chunks, n_bytes = rows.read_into(crop, frame, channels, z, top, left)
        expected = image[frame, channels, z : z + depth, top : top + height, left : left + width]
        np.testing.assert_array_equal(crop, expected)
        assert n_chunks > 0
        assert n_bytes >= crop.nbytes


@pytest.mark.parametrize("zarr_format", [2, 3])
@pytest.mark.parametrize("seed", range(6))
def test_boxes_have_the_pixels_of_the_image_whatever_its_chunks(tmp_path, zarr_format, seed):
    rng = np.random.default_rng(seed)
    chunks = tuple(int(rng.integers(1, n + 2)) for n in LENGTHS)
    dtype = np.dtype(["uint8", "<u2", ">u2", "int32", "float32", "bool"][seed])
    separator = {"name": "v2" if zarr_format == 2 else "default", "separator": ["/", "."][seed % 2]}
    array, image = write(
        tmp_path, zarr_format=zarr_format, dtype=dtype, seed=seed, chunks=chunks, chunk_key_encoding=separator
    )
    check_boxes(array, image, rng)


def test_boxes_are_read_in_the_byte_order_of_their_codec(tmp_path):
    array, image = write(tmp_path, chunks=(1, 1, 2, 16, 16), serializer=BytesCodec(endian="big"))
    check_boxes(array, image, np.random.default_rng(0))


@pytest.mark.parametrize("axes", ["YX", "TYX", "CYX", "ZYX", "TZYX"])
def test_boxes_are_read_from_images_that_lack_axes(tmp_path, axes):
    array, image = write(tmp_path, axes=axes, chunks=(1,) * (len(axes) - 2) + (16, 16))
    check_boxes(array, image, np.random.default_rng(0))


@pytest.mark.parametrize(
    "options",
    [
        {"compressors": ZstdCodec()},
        {"filters": [TransposeCodec(order=(0, 1, 2, 4, 3))]},
        {"shards": (2, 2, 2, 32, 32), "chunks": (1, 1, 1, 16, 16)},
        {"dtype": np.complex64},
    ],
    ids=["compressed", "transposed", "sharded", "complex"],
)
def test_rows_are_not_read_from_chunks_that_a_codec_changes(tmp_path, options):
    assert open_rows(write(tmp_path, **({"chunks": (1, 1, 1, 16, 16)} | options))[0]) is None


def test_rows_are_not_read_from_chunks_in_fortran_order(tmp_path):
    assert open_rows(write(tmp_path, zarr_format=2, chunks=(1, 1, 1, 16, 16), order="F")[0]) is None


@pytest.mark.parametrize("damage", ["missing", "cut", "longer", "a named pipe", "a directory"])
def test_a_chunk_of_another_size_is_an_error(tmp_path, damage):
    array, _ = write(tmp_path, chunks=(1, 1, 1, 16, 16))
    chunk = tmp_path / "plate.zarr/A/1/0/0/c/1/0/2/1/0"
    content = chunk.read_bytes()
    chunk.unlink()
    if damage in ("cut", "longer"):
        chunk.write_bytes(content[:-1] if damage == "cut" else content + b"x")
    elif damage == "a named pipe":
        os.mkfifo(chunk)
    elif damage == "a directory":
        chunk.mkdir()
    crop = np.empty((1, 1, 8, 8), dtype=np.uint16)
    rows = rows_of(array)
    rows.read_into(crop, 1, [0], 2, 0, 0)
    expected = "is missing" if damage == "missing" else "must be a file of 512 bytes, got"
    with pytest.raises(ValueError, match=r"chunk \{1, 0, 2, 1, 0\} stored at .*/c/1/0/2/1/0\" " + expected):
        rows.read_into(crop, 1, [0], 2, 12, 4)
