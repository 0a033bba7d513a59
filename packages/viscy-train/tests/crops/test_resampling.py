"""Resampling is a weighted mean around each new pixel, from any coordinate, whatever is read around a crop."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.nn.functional import interpolate

from viscy_train.crops.resampling import ResampledAxis


@st.composite
def axes(draw):
    """Draw an axis, and where crops are centered."""
    n = draw(st.integers(4, 200))
    length = draw(st.floats(1.0, n))
    center = draw(st.floats(-0.5, n + 0.5))
    return ResampledAxis(n, length, draw(st.integers(1, 64))), center


def resample(axis, image, center):
    """Cut a crop from an image of one row, in the way of the readers."""
    start = axis.start(center)
    first = int(axis.first(start))
    read = image[first : first + axis.n_read]
    assert len(read) == axis.n_read
    return axis.resample(read[None, None, None].astype(np.float32), 3, float(start))[0, 0, 0], float(start)


@given(axes())
def test_a_constant_image_stays_constant_and_a_crop_is_inside(case):
    axis, center = case
    crop, start = resample(axis, np.full(axis.n, 7.0), center)
    assert crop.shape == (axis.n_resampled,)
    assert 0 <= start <= axis.n - axis.length + 1e-6 * axis.n or axis.is_exact
    np.testing.assert_allclose(crop, 7.0, rtol=1e-5)


@given(axes())
def test_new_pixels_are_where_the_crop_has_them(case):
    """A ramp shows the coordinate of each new pixel; at the borders of the image, weights reach to one side only."""
    axis, center = case
    crop, start = resample(axis, np.arange(axis.n) + 0.5, center)
    ratio = axis.length / axis.n_resampled
    expected = start + (np.arange(axis.n_resampled) + 0.5) * ratio
    reach = max(ratio, 1.0) + 1
    inside = (expected - reach >= 0) & (expected + reach <= axis.n)
    # Triangular weights, taken at pixels, are not exactly centered.
    np.testing.assert_allclose(crop[inside], expected[inside], atol=0.15)


@pytest.mark.parametrize("n_resampled", [16, 40, 64, 100])
def test_a_whole_image_is_resampled_as_by_torch(n_resampled):
    image = np.random.default_rng(0).random((2, 3, 64, 64)).astype(np.float32)
    axis = ResampledAxis(64, 64, n_resampled)
    got = axis.resample_all(axis.resample_all(image, 2), 3)
    expected = interpolate(torch.from_numpy(image), size=(n_resampled,) * 2, mode="bilinear", antialias=True).numpy()
    np.testing.assert_allclose(got, expected, atol=1e-5)


def test_a_crop_is_a_part_of_the_resampled_image():
    """What is read around a crop does not matter, as long as the weights reach no further."""
    image = np.random.default_rng(1).random(200)
    axis = ResampledAxis(200, 60.0, 24)
    whole = ResampledAxis(200, 200.0, 80).resample_all(image[None, None, None].astype(np.float32), 3)[0, 0, 0]
    for first in range(2, 54):
        crop, start = resample(axis, image, first * 2.5 + 30.0)
        assert start == first * 2.5
        np.testing.assert_allclose(crop, whole[first : first + 24], atol=1e-5)


def test_aliasing_is_suppressed():
    """Stripes that the new pixels cannot show become gray instead of other stripes."""
    stripes = np.arange(240) % 2.0
    crop, _ = resample(ResampledAxis(240, 180.0, 48), stripes, 120.0)
    np.testing.assert_allclose(crop, 0.5, atol=0.06)


def test_a_crop_of_as_many_pixels_has_the_pixels_of_the_image():
    image = np.random.default_rng(2).random(50)
    axis = ResampledAxis(50, 16.0 * (1 + 1e-9), 16)
    crop, start = resample(axis, image, 20.3)
    assert start == 12
    np.testing.assert_array_equal(crop, image[12:28].astype(np.float32))
