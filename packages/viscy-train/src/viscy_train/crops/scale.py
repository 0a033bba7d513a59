"""Scale: the size of the pixels and the distance of the slices of images, in micrometers."""

from __future__ import annotations

import math
from collections import Counter
from operator import itemgetter
from typing import TYPE_CHECKING, Any

from viscy_train.errors import UserError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from viscy_train.config.schema import CropSettings
    from viscy_train.experiments.experiments_file import Experiment
    from viscy_train.plates.position_image import PositionImage

# Scales that differ by less than this factor are equal.
_EQUAL = 1.01
_MAX_NAMES = 8
# Scales that differ by less than this do not contradict each other; digits may have been rounded.
_ROUNDED = 0.03
# Outside of these, a number of micrometers is a mistake in the unit.
_SMALLEST_PIXEL, _LARGEST_PIXEL = 1e-3, 1e3


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


def odd_scale(image: PositionImage, experiment: Experiment) -> list[str]:
    """Return what the user should know about the scale of an image, a sentence each; usually nothing.

    Parameters
    ----------
    image : PositionImage
        The image of a position.
    experiment : Experiment
        Its experiment, whose scale overrules that of the image.

    Returns
    -------
    list of str
        Where the experiment and the metadata of the image differ, which parts of the metadata are ignored, and why, and
        a size of pixels that cannot be.
    """
    sentences = []
    scale, stated = image.scale, experiment.micrometers_per_pixel
    per_pixel, _ = scale_of(image, experiment)
    if stated is not None:
        sentences += _overruled("pixel", stated, scale.y, scale.x)
    elif per_pixel is None:
        sentences += _ignored(image, "yx", "micrometers_per_pixel")
        if scale.y is not None and scale.x is not None:
            sentences.append(
                f"the size of a pixel counts as unknown, because the metadata give {scale.y:g} x {scale.x:g} "
                "micrometers (height x width), not a square; micrometers_per_pixel overrules them"
            )
    elif not _SMALLEST_PIXEL <= per_pixel <= _LARGEST_PIXEL:
        sentences.append(
            f"a pixel has {per_pixel:g} micrometers in the metadata, which is hardly possible; micrometers_per_pixel "
            "overrules them"
        )
    if experiment.micrometers_per_slice is not None:
        sentences += _overruled("slice", experiment.micrometers_per_slice, scale.z)
    elif image.shape[2] > 1:
        sentences += _ignored(image, "z", "micrometers_per_slice")
    return sentences


def _overruled(what: str, stated: float, *others: float | None) -> list[str]:
    known = {one for one in others if one is not None}
    contrary = sorted(one for one in known if not math.isclose(one, stated, rel_tol=_ROUNDED))
    values = " and ".join(f"{one:g}" for one in contrary)
    key = f"micrometers_per_{what}"
    return [f"{key} of the experiment, {stated:g}, overrules {values} in the metadata of the images"] * bool(contrary)


def _ignored(image: PositionImage, axes: str, key: str) -> list[str]:
    reasons = {axis: image.scale.ignored[axis] for axis in axes if axis in image.scale.ignored}
    return [
        f"the scale of axis {axis} in the metadata is ignored, because {reason}; {key} overrules it"
        for axis, reason in reasons.items()
    ]


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


def describe_crops(
    crops: CropSettings, experiments: Sequence[Experiment], scales: Mapping[str, list[list[Any]]]
) -> list[str]:
    """Return the sentences of `describe_sizes`, and the warnings of `warn_of_scales`."""
    warnings = warn_of_scales(crops, experiments, scales)
    return [*describe_sizes(crops, experiments, scales), *(f"Warning: {warning}" for warning in warnings)]


def describe_sizes(
    crops: CropSettings, experiments: Sequence[Experiment], scales: Mapping[str, list[list[Any]]]
) -> list[str]:
    """Return how large crops are in micrometers, a sentence for each size.

    Parameters
    ----------
    crops : CropSettings
        What a crop contains.
    experiments : sequence of Experiment
        Experiments of the table.
    scales : mapping of str to list of list
        Scales of each experiment, as `count_scales` returns them.

    Returns
    -------
    list of str
        Sentences; none if no scale is known and no size was given.
    """
    sizes: dict[str, list[str]] = {}
    for experiment in experiments:
        known = [scale for scale in scales.get(experiment.name, []) if scale[0] is not None]
        size = " or ".join(dict.fromkeys(_size(crops, *scale[:2]) for scale in known)) or "an unknown size"
        sizes.setdefault(size, []).append(experiment.name)
    if list(sizes) == ["an unknown size"]:
        return []
    return [
        f"Crops of {crops.crop} x {crops.crop} pixels show {size} in {_names(names)}" for size, names in sizes.items()
    ]


def _size(crops: CropSettings, per_pixel: float, per_slice: float | None) -> str:
    side = crops.crop * per_pixel if crops.crop_um is None else crops.crop_um
    depth = crops.depth_um
    if depth is None and per_slice is not None and crops.z != "maximum" and crops.z_slices > 1:
        depth = crops.z_slices * per_slice
    depth_text = "" if depth is None else f" and a depth of {depth:.4g}"
    return f"{side:.4g} x {side:.4g}{depth_text} micrometers ({per_pixel:.4g} a pixel of the image)"


def warn_of_scales(
    crops: CropSettings, experiments: Sequence[Experiment], scales: Mapping[str, list[list[Any]]]
) -> list[str]:
    """Return warnings where crops of experiments differ in size, a sentence for each direction.

    Parameters
    ----------
    crops, experiments, scales
        As for `describe_sizes`.
    """
    warnings = []
    for index, (option, unit) in enumerate((("crop_um", "pixel"), ("depth_um", "slice"))):
        known = [
            (experiment.name, scale[index])
            for experiment in experiments
            for scale in scales.get(experiment.name, [])
            if scale[index] is not None
        ]
        matters = index == 0 or crops.z_slices > 1
        if getattr(crops, option) is not None or not matters or not known:
            continue
        (small, least), (large, most) = (choose(known, key=itemgetter(1)) for choose in (min, max))
        if most > least * _EQUAL:
            warnings.append(
                f"a {unit} has {least:.4g} micrometers in {small} and {most:.4g} in {large}, so crops show different "
                f"sizes; data.{option} makes them equal"
            )
    return warnings


def describe_odd(sentences: Mapping[str, list[str]]) -> list[str]:
    """Return sentences of `odd_scale`, each with the positions to which it applies."""
    return [f"{sentence} ({_positions(names)})" for sentence, names in sentences.items()]


def _positions(names: list[str]) -> str:
    return names[0] if len(names) == 1 else f"{names[0]} and {len(names) - 1} more"


def _names(names: list[str]) -> str:
    more = f" and {len(names) - _MAX_NAMES} more experiments" if len(names) > _MAX_NAMES else ""
    return ", ".join(names[:_MAX_NAMES]) + more
