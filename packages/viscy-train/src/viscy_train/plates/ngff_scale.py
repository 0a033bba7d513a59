"""Physical scale: what the transformations of an OME-Zarr image say about the size of its pixels and slices."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from viscy_train.errors import UserError

if TYPE_CHECKING:
    from collections.abc import Mapping

# Lengths in micrometers and durations in minutes, with the names of OME-NGFF and the abbreviations of some writers.
_LENGTHS = {
    **dict.fromkeys(("angstrom", "\u00e5"), 1e-4),
    **dict.fromkeys(("picometer", "pm"), 1e-6),
    **dict.fromkeys(("nanometer", "nanometre", "nm"), 1e-3),
    **dict.fromkeys(("micrometer", "micrometre", "micron", "microns", "um", "\u00b5m", "\u03bcm"), 1.0),
    **dict.fromkeys(("millimeter", "millimetre", "mm"), 1e3),
    **dict.fromkeys(("centimeter", "centimetre", "cm"), 1e4),
    **dict.fromkeys(("meter", "metre", "m"), 1e6),
    "inch": 25400.0,
}
_DURATIONS = {
    **dict.fromkeys(("millisecond", "ms"), 1 / 60000),
    **dict.fromkeys(("second", "seconds", "s", "sec"), 1 / 60),
    **dict.fromkeys(("minute", "minutes", "min"), 1.0),
    **dict.fromkeys(("hour", "hours", "h"), 60.0),
    **dict.fromkeys(("day", "days", "d"), 1440.0),
}
_AXES = ("t", "z", "y", "x")
_NO_UNIT = ("none", "")
# Pixels that differ less than this are square; some writers round one side.
_TOLERANCE = 0.01


@dataclass(frozen=True, kw_only=True)
class PhysicalScale:
    """The physical scale of an image, as far as its metadata give it; None for what they do not give.

    Parameters
    ----------
    x, y : float, optional
        Width and height of a pixel, in micrometers.
    z : float, optional
        Distance of two slices, in micrometers.
    t : float, optional
        Time between two frames, in minutes.
    ignored : dict of str to str
        Why the scale of an axis in the metadata is not used.
    """

    x: float | None = None
    y: float | None = None
    z: float | None = None
    t: float | None = None
    ignored: dict[str, str] = field(default_factory=dict, compare=False)

    def side(self, where: str) -> float | None:
        """Return the side of a pixel, in micrometers.

        Parameters
        ----------
        where : str
            The image, for the error message.

        Raises
        ------
        UserError
            If pixels are not square.
        """
        if self.x is None or self.y is None:
            return None
        if not math.isclose(self.x, self.y, rel_tol=_TOLERANCE):
            raise UserError(
                f"pixels must be square, got {self.y:g} x {self.x:g} micrometers (height x width) in the metadata of "
                f"{where}; correct them, or set micrometers_per_pixel of the experiment"
            )
        return self.y


def physical_scale(multiscale: Mapping[str, Any]) -> PhysicalScale:
    """Return the scale of the image with the full resolution.

    Parameters
    ----------
    multiscale : mapping
        An item of the metadata ``multiscales`` of an image.

    Returns
    -------
    PhysicalScale
        Product of the scales of the first dataset and of all datasets, for each axis with a unit. Metadata that make no
        sense count as none, and so does a scale of 1 along x, y and z alike, which writers use where they know none.
    """
    axes = [axis if isinstance(axis, dict) else {} for axis in multiscale["axes"]]
    scales = _scales(multiscale["datasets"][0], len(axes))
    if scales is None:
        return PhysicalScale()
    scales = [a * b for a, b in zip(scales, _scales(multiscale, len(axes)) or [1.0] * len(axes), strict=True)]
    raw = {str(axis.get("name")).lower(): scale for axis, scale in zip(axes, scales, strict=True)}
    units = {str(axis.get("name")).lower(): str(axis.get("unit")).strip().lower() for axis in axes}
    known: dict[str, float] = {}
    ignored: dict[str, str] = {}
    for name, scale in raw.items():
        factor = (_DURATIONS if name == "t" else _LENGTHS).get(units[name])
        if name not in _AXES:
            continue
        if factor is not None and math.isfinite(scale * factor) and scale > 0:
            known[name] = scale * factor
        elif scale != 1.0:
            ignored[name] = _reason(scale, units[name], is_known_unit=factor is not None)
    if all(raw.get(name, 1.0) == 1.0 for name in "zyx"):
        known = {name: scale for name, scale in known.items() if name == "t"}
    if raw.get("t") == 1.0:
        known.pop("t", None)
    return PhysicalScale(**known, ignored=ignored)


def _reason(scale: float, unit: str, *, is_known_unit: bool) -> str:
    """Return why a scale is not used."""
    if not (math.isfinite(scale) and scale > 0):
        return f"it is {scale:g}, not a number above 0"
    if is_known_unit:
        return f"it is {scale:g} {unit}, too large a number"
    return f"its unit {unit!r} is not a length" if unit not in _NO_UNIT else "it has no unit"


def _scales(metadata: Mapping[str, Any], n_axes: int) -> list[float] | None:
    """Return the product of the scales among coordinate transformations, one factor an axis; None without a scale."""
    transformations = metadata.get("coordinateTransformations")
    product: list[float] | None = None
    for one in transformations if isinstance(transformations, list) else ():
        scale = one.get("scale") if isinstance(one, dict) and one.get("type") == "scale" else None
        if isinstance(scale, list) and len(scale) == n_axes and all(map(_is_number, scale)):
            product = [a * float(b) for a, b in zip(product or [1.0] * n_axes, scale, strict=True)]
    return product


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)
