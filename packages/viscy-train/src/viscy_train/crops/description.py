"""Description: which slices a crop shows and how its intensities are normalized, in words."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from viscy_train.config.schema import CropSettings

_BY = {
    "experiment": "channel in each experiment",
    "position": "channel in each position",
    "frame": "channel in each frame of a position",
}
_METHOD = {
    "mean_std": "the mean and standard deviation",
    "percentiles": "the median and the range from percentile 1 to 99",
}
_ONE = {"middle": "the middle", "sharpest": "the sharpest", "random": "a random"}
_WHERE = {"middle": "in the middle", "sharpest": "around the sharpest one", "random": "at a random height"}


def describe_pixels(crops: CropSettings) -> str:
    """Return two sentences: which slices of a stack are read, and how intensities are normalized."""
    method, by = _METHOD[crops.normalization.method], _BY[crops.normalization.by]
    normalization = f"Intensities are normalized by {method} of each {by} (data.normalization)."
    return f"Of a stack, {_slices(crops)} (data.z). {normalization}"


def _slices(crops: CropSettings) -> str:
    if crops.z == "maximum":
        return "the maximum of all slices is taken"
    if crops.depth_um is not None:
        return f"{crops.depth_um:g} micrometers {_WHERE[crops.z]} are read"
    if crops.z_slices > 1:
        return f"{crops.z_slices} slices {_WHERE[crops.z]} are read"
    return f"{_ONE[crops.z]} slice is read"
