"""Crop text: slices and normalization in words."""

import pytest

from viscy_train.config.schema import CropSettings, NormalizationConfig
from viscy_train.crops.description import describe_pixels


@pytest.mark.parametrize(
    ("options", "read"),
    [
        ({}, "the middle slice is read"),
        ({"z_slices": 3}, "3 slices in the middle are read"),
        ({"z": "sharpest"}, "the sharpest slice is read"),
        ({"z": "sharpest", "z_slices": 5}, "5 slices around the sharpest one are read"),
        ({"z": "random"}, "a random slice is read"),
        ({"z": "random", "z_slices": 2, "depth_um": 4}, "4 micrometers at a random height are read"),
        ({"z": "maximum"}, "the maximum of all slices is taken"),
    ],
)
def test_the_slices_that_are_read_are_named(options, read):
    assert describe_pixels(CropSettings(**options)).startswith(f"Of a stack, {read} (data.z). Intensities")


@pytest.mark.parametrize(
    ("options", "by"),
    [
        ({}, "the mean and standard deviation of each channel in each experiment"),
        ({"by": "position"}, "the mean and standard deviation of each channel in each position"),
        (
            {"by": "frame", "method": "percentiles"},
            "the median and the range from percentile 1 to 99 of each channel in each frame of a position",
        ),
    ],
)
def test_the_normalization_is_named(options, by):
    sentence = f" Intensities are normalized by {by} (data.normalization)."
    assert describe_pixels(CropSettings(normalization=NormalizationConfig(**options))).endswith(sentence)
