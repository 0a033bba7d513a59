import numpy as np
import pytest

from viscy_train.plates.pixels import PixelReader
from viscy_train.plates.plate import open_plate, write_plate
from viscy_train.viewer.channel import Channel


@pytest.fixture(params=[1, 4], ids=["one slice", "a stack"])
def channel(request, tmp_path):
    pixels = np.random.default_rng(0).integers(0, 1000, (5, 2, request.param, 12, 9), dtype=np.uint16)
    write_plate(tmp_path / "plate.zarr", ["a", "b"], {"A/1/0": pixels})
    image = open_plate(tmp_path / "plate.zarr").image("A/1/0")
    expected = pixels[:, 1] if request.param > 1 else pixels[:, 1, 0]
    return Channel(PixelReader(1), image.array, 1), expected


def test_a_channel_has_the_shape_and_type_of_its_image(channel):
    lazy, expected = channel
    assert (lazy.shape, lazy.ndim, lazy.size, len(lazy)) == (expected.shape, expected.ndim, expected.size, 5)
    assert lazy.dtype == np.uint16
    np.testing.assert_array_equal(np.asarray(lazy), expected)
    assert np.asarray(lazy, dtype=np.float32).dtype == np.float32


@pytest.mark.parametrize(
    "index",
    [
        2,
        -1,
        np.int64(3),
        slice(1, 4),
        slice(None, None, 2),
        slice(None, None, -1),
        slice(3, 3),
        (1, slice(0, 1)),
        (..., slice(2, 7), slice(None, None, 3)),
        (0, ...),
        (..., 3),
    ],
)
def test_parts_are_those_of_the_array(channel, index):
    lazy, expected = channel
    np.testing.assert_array_equal(lazy[index], expected[index])


def test_a_frame_that_does_not_exist_is_an_index_error(channel):
    with pytest.raises(IndexError):
        _ = channel[0][5]
