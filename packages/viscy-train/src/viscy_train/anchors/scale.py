"""Scale: the size of the pixels and the distance of the slices of images, in micrometers."""

from __future__ import annotations

import math
from collections import Counter
from typing import TYPE_CHECKING, Any

from viscy_train.errors import UserError

if TYPE_CHECKING:
    from viscy_train.anchors.experiments import Experiment
    from viscy_train.anchors.position_image import PositionImage
    from viscy_train.config.schema import CropSettings


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
