"""Images that lack axes have the pixels of images in which these axes have length 1."""

from itertools import combinations

import numpy as np
import pytest

from viscy_train.plates import pixels as pixels_module
from viscy_train.plates.image_array import AXES, ImageArray
from viscy_train.plates.pixels import PixelReader, read_with_zarr
from viscy_train.plates.stored_array import StoredArray
from viscy_train.plates.stored_chunks import StoredChunks

from .odd_plates import OddPlate, noise

ALL_AXES = ["".join(some) + "YX" for n in range(4) for some in combinations("TCZ", n)]
LENGTHS = dict(zip(AXES, (3, 2, 4, 20, 24), strict=True))
CHUNK = dict(zip(AXES, (1, 1, 2, 8, 16), strict=True))


def write(path, axes, **options):
    """Write an image with some axes; return it as an array, and its pixels with all axes."""
    image = noise(1, shape=tuple(LENGTHS[axis] for axis in axes))
    options = {"chunks": tuple(CHUNK[axis] for axis in axes)} | options
    stored = StoredArray.of(OddPlate(path / "plate.zarr").write_image("A/1/0", image, axes=axes.lower(), **options))
    return ImageArray(stored, axes), image.reshape([LENGTHS[axis] if axis in axes else 1 for axis in AXES])


def regions_of(shape):
    """Return regions of each kind that readers request: an index or slice of frames, indices or a slice of channels."""
    last = [length - 1 for length in shape]
    box = (slice(last[2] // 2, last[2] + 1), slice(3, 19), slice(0, 9))
    return [
        (last[0], np.arange(shape[1])[::-1], *box),
        (last[0], slice(0, shape[1]), *box),
        (slice(0, shape[0]), np.array([last[1]]), *box),
        (slice(0, shape[0]), slice(0, shape[1]), *box),
        (0, np.array([0]), slice(0, shape[2]), slice(None), slice(None)),
    ]


@pytest.mark.parametrize("axes", ALL_AXES)
@pytest.mark.parametrize("reader", ["tensorstore", "zarr-python"])
def test_a_missing_axis_has_length_1(tmp_path, monkeypatch, axes, reader):
    monkeypatch.setattr(pixels_module, "may_use_tensorstore", lambda: reader == "tensorstore")
    array, image = write(tmp_path, axes)
    assert (array.shape, array.dtype) == (image.shape, image.dtype)
    assert array.chunks == tuple(CHUNK[axis] if axis in axes else 1 for axis in AXES)
    pixels = PixelReader(1).open(array, fill_missing=False)
    for frame, channels, *box in regions_of(image.shape):
        expected = image[frame][..., channels, :, :, :][..., *box]
        np.testing.assert_array_equal(np.asarray(pixels.request((frame, channels, *box)).result()), expected)
        np.testing.assert_array_equal(np.asarray(read_with_zarr(array, (frame, channels, *box))), expected)


@pytest.mark.parametrize("axes", ["YX", "TYX", "CYX", "TZYX", "TCZYX"])
@pytest.mark.parametrize("options", [{}, {"shards": True}])
def test_a_missing_chunk_is_noticed_whatever_axes_there_are(tmp_path, axes, options):
    shards = {"shards": tuple(2 * CHUNK[axis] for axis in axes)} if options else {}
    array, _ = write(tmp_path, axes, **shards)
    last = array.of_stored((2, 1, 1, 2, 1))
    assert (2, 1, 1, 2, 1) in StoredChunks(array)
    array.stored.opened[tuple(slice(i * n, (i + 1) * n) for i, n in zip(last, array.stored.chunks, strict=True))] = 0
    stored = StoredChunks(array)
    assert (2, 1, 1, 2, 1) not in stored
    assert (2, 1, 1, 1, 1) in stored
