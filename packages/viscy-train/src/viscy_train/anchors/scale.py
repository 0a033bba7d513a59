"""Scale: how many pixels and slices of an image a crop covers, and how large it is in micrometers."""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from viscy_train.anchors.geometry import middle_slices
from viscy_train.anchors.resampling import resample
from viscy_train.errors import UserError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from viscy_train.anchors.experiments import Experiment
    from viscy_train.anchors.position_image import PositionImage
    from viscy_train.config.schema import CropSettings

# A crop of fewer pixels shows nothing.
_MIN_SIDE = 4


@dataclass(frozen=True, kw_only=True)
class CropWindow:
    """The part of an image that crops cover, in pixels and slices of the image.

    Parameters
    ----------
    side : int
        Side of the square around a cell, in pixels.
    depth : int
        Number of slices of a crop before they are resampled or projected.
    n_slices : int
        Number of slices of the image.
    z : str
        Which slices, as `CropSettings.z`.
    """

    side: int
    depth: int
    n_slices: int
    z: str

    @property
    def middle(self) -> slice:
        """The slices of a crop in the middle of the stack."""
        return middle_slices(self.n_slices, self.depth)

    @property
    def reachable(self) -> slice:
        """The slices that a crop may contain, whichever they are."""
        return slice(0, self.n_slices) if self.z in ("sharpest", "random") else self.middle

    def slices_around(self, focus: int) -> slice:
        """Return the slices around the sharpest one; at an end of the stack, they are moved inside."""
        first = min(max(focus - self.depth // 2, 0), self.n_slices - self.depth)
        return slice(first, first + self.depth)

    def random_slices(self, draw: float) -> slice:
        """Return slices that begin anywhere, given a random number in [0, 1)."""
        first = int(draw * (self.n_slices - self.depth + 1))
        return slice(first, first + self.depth)


def crop_window(image: PositionImage, experiment: Experiment, crops: CropSettings) -> CropWindow:
    """Return what crops cover of an image.

    Parameters
    ----------
    image : PositionImage
        Image of a position.
    experiment : Experiment
        Its experiment, whose scale overrides that of the image's metadata.
    crops : CropSettings
        What a crop contains.

    Returns
    -------
    CropWindow
        Pixels and slices of the image.

    Raises
    ------
    UserError
        If pixels are not numbers, if crops do not fit into the image, or if they have a physical size and the scale of
        the image is unknown.
    """
    image.check_type()
    _, _, n_slices, height, width = image.shape
    side = _side(image, experiment, crops, min(height, width))
    return CropWindow(side=side, depth=_depth(image, experiment, crops), n_slices=n_slices, z=crops.z)


def _side(image: PositionImage, experiment: Experiment, crops: CropSettings, largest: int) -> int:
    _, _, _, height, width = image.shape
    pixels = f"{height} x {width} pixels in {image.where}"
    if crops.crop_um is None:
        if crops.crop > largest:
            raise UserError(f"data.crop must fit into the image, {pixels}, got {crops.crop}")
        return crops.crop
    scale = _known(micrometers_per_pixel(image, experiment), "crop_um", "micrometers_per_pixel", image, experiment)
    side = round(crops.crop_um / scale)
    if side > largest:
        raise UserError(
            f"data.crop_um must fit into the image, {pixels} of {scale:g} micrometers, got {crops.crop_um:g} ({side} "
            "pixels)"
        )
    if side < _MIN_SIDE:
        raise UserError(
            f"data.crop_um must be at least {_MIN_SIDE} pixels of the image, which have {scale:g} micrometers in "
            f"{image.where}, got {crops.crop_um:g} ({side} pixels)"
        )
    return side


def _depth(image: PositionImage, experiment: Experiment, crops: CropSettings) -> int:
    n_slices = image.shape[2]
    if crops.depth_um is not None:
        scale = _known(micrometers_per_slice(image, experiment), "depth_um", "micrometers_per_slice", image, experiment)
        depth = max(1, round(crops.depth_um / scale))
        if depth > n_slices:
            raise UserError(
                f"data.depth_um must fit into the stack, {n_slices} slices of {scale:g} micrometers in {image.where}, "
                f"got {crops.depth_um:g} ({depth} slices)"
            )
        return depth
    if crops.z_slices > n_slices:
        raise UserError(
            f"data.z_slices must fit into the stack, {n_slices} slices in {image.where}, got {crops.z_slices}"
        )
    return n_slices if crops.z == "maximum" else crops.z_slices


def _known(scale: float | None, option: str, key: str, image: PositionImage, experiment: Experiment) -> float:
    if scale is None:
        raise UserError(
            f"data.{option} needs the scale of every image, which the metadata of {image.where} do not give; set {key} "
            f"of experiment {experiment.name!r}"
        )
    return scale


def micrometers_per_pixel(image: PositionImage, experiment: Experiment) -> float | None:
    """Return the side of a pixel in micrometers, or None if neither experiment nor metadata give it.

    Raises
    ------
    UserError
        If the pixels of the image are not square, and the experiment does not give their side.
    """
    return image.micrometers_per_pixel if experiment.micrometers_per_pixel is None else experiment.micrometers_per_pixel


def micrometers_per_slice(image: PositionImage, experiment: Experiment) -> float | None:
    """Return the distance of two slices in micrometers, or None if neither experiment nor metadata give it."""
    return image.micrometers_per_slice if experiment.micrometers_per_slice is None else experiment.micrometers_per_slice


def scale_of(image: PositionImage, experiment: Experiment) -> tuple[float | None, float | None]:
    """Return micrometers a pixel and a slice, None where they are unknown or pixels are not square."""
    try:
        per_pixel = micrometers_per_pixel(image, experiment)
    except UserError:
        per_pixel = None
    return per_pixel, micrometers_per_slice(image, experiment)


def count_scales(scales: list[tuple[float | None, float | None]]) -> list[list[Any]]:
    """Return each scale once, as micrometers a pixel, micrometers a slice and number of positions, ascending."""
    counts = Counter(scales)
    return [[*scale, n] for scale, n in sorted(counts.items(), key=lambda item: [one or 0.0 for one in item[0]])]


def check_scale(image: PositionImage, experiment: Experiment, crops: CropSettings, before: list[list[Any]]) -> None:
    """Refuse an image whose scale no image of its experiment had when the anchor table was built.

    Parameters
    ----------
    image, experiment, crops
        As for `crop_window`. Without a physical size, the scale of the image does not matter.
    before : list of list
        Scales of the experiment, as `count_scales` returns them.

    Raises
    ------
    UserError
        If a crop would have other pixels than before.
    """
    options = (crops.crop_um, crops.depth_um)
    names = ("micrometers a pixel", "micrometers a slice")
    for index, (option, name) in enumerate(zip(options, names, strict=True)):
        known = [scale[index] for scale in before]
        now = (micrometers_per_pixel, micrometers_per_slice)[index](image, experiment) if option is not None else None
        if now is not None and not any(one is not None and math.isclose(one, now, rel_tol=1e-6) for one in known):
            raise UserError(
                f"the anchor table was built when {name} were {', '.join(f'{one:g}' for one in known if one)}, but "
                f"{image.where} has {now:g}; rebuild it with `viscy-train index --config FILE`"
            )


def to_crop_scale(pixels: NDArray[Any], window: CropWindow, crops: CropSettings) -> NDArray[Any]:
    """Project and resample pixels of an image as those of a crop.

    Parameters
    ----------
    pixels : numpy.ndarray
        Shape (n_channels, n_slices, height, width): those that a crop covers, or more.
    window : CropWindow
        What a crop covers.
    crops : CropSettings
        What a crop contains.

    Returns
    -------
    numpy.ndarray
        With the scale of a crop; the same pixels if their scale is that of a crop.
    """
    if not needs_scaling(window, crops):
        return pixels
    if crops.z == "maximum":
        pixels = np.max(pixels, axis=1, keepdims=True)
    depth = 1 if crops.z == "maximum" else window.depth
    ratio, ratio_z = crops.crop / window.side, crops.z_slices / depth
    n_slices, height, width = pixels.shape[1:]
    size = (n_slices * ratio_z, height * ratio, width * ratio)
    n_slices, height, width = (max(1, round(length)) for length in size)
    return resample(pixels, (n_slices, height, width))


def needs_scaling(window: CropWindow, crops: CropSettings) -> bool:
    """Return whether the pixels of an image are projected or resampled to those of a crop."""
    return crops.z == "maximum" or (window.side, window.depth) != (crops.crop, crops.z_slices)
