"""Units: coordinates of tracks in pixels, and frames counted from 0, or an error that names the key for them."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from viscy_train.errors import UserError
from viscy_train.experiments.track_options import AUTO, MICROMETER_NAMES, PIXEL_NAMES
from viscy_train.tracks.formats.track_file import count_rows

if TYPE_CHECKING:
    import pandas as pd
    from numpy.typing import ArrayLike

    from viscy_train.tracks.formats.track_file import TrackFile

_MICROMETERS = {
    **dict.fromkeys(MICROMETER_NAMES, 1.0),
    "nm": 1e-3,
    "nanometer": 1e-3,
    "nanometers": 1e-3,
    "mm": 1e3,
    "millimeter": 1e3,
    "millimeters": 1e3,
    "cm": 1e4,
    "centimeter": 1e4,
    "m": 1e6,
    "meter": 1e6,
    "inch": 25400.0,
    "inches": 25400.0,
}
_MINUTES = {
    "millisecond": 1 / 60000,
    "msec": 1 / 60000,
    "ms": 1 / 60000,
    "second": 1 / 60,
    "sec": 1 / 60,
    "s": 1 / 60,
    "minute": 1.0,
    "min": 1.0,
    "hour": 60.0,
    "hr": 60.0,
    "h": 60.0,
    "day": 1440.0,
    "d": 1440.0,
}
# Programs write an interval of 1 second if the image does not state one.
_UNKNOWN = 1 / 60
# If cells are anywhere in the image, they are all in the part of it that micrometers reach with this probability.
_IMPROBABLE = 1e-6
# Cells in this part of the height and width only are in another unit than the file states.
_CORNER = 0.02


def micrometers_in(unit: str | None) -> float | None:
    """Return how many micrometers a unit is, or None if it is not a length."""
    return _MICROMETERS.get(unit.strip().lower()) if unit else None


def minutes_in(unit: str | None) -> float | None:
    """Return how many minutes a unit is, or None if it is not a time."""
    name = unit.strip().lower() if unit else ""
    return _MINUTES.get(name) or _MINUTES.get(name.removesuffix("s"))


def stated_interval(interval: float | str | None, unit: str | None) -> float | None:
    """Return the minutes per frame that a file states, or None if it does not, or only seems to.

    Parameters
    ----------
    interval : float or str, optional
        Time between two frames.
    unit : str, optional
        Its unit.
    """
    minutes = minutes_in(unit)
    try:
        stated = float(interval or 0) * (minutes or 0)
    except ValueError:
        return None
    return stated if 0 < stated < math.inf and not math.isclose(stated, _UNKNOWN) else None


def interval_of_times(frames: ArrayLike, times: ArrayLike, unit: str | None) -> float | None:
    """Return the minutes per frame that follow from the frames and times of cells, or None if they do not.

    Parameters
    ----------
    frames, times : array_like of float, shape (n,)
        Frame and time of each cell; some may be missing.
    unit : str, optional
        Unit of the times.
    """
    frame, time = np.asarray(frames, dtype=float), np.asarray(times, dtype=float)
    known = np.isfinite(frame) & np.isfinite(time)
    if not known.any() or np.ptp(frame[known]) == 0:
        return None
    first, last = np.argmin(np.where(known, frame, np.inf)), np.argmax(np.where(known, frame, -np.inf))
    return stated_interval(float((time[last] - time[first]) / (frame[last] - frame[first])), unit)


def is_pixel(unit: str) -> bool:
    """Return whether a unit is the pixel."""
    return unit.strip().lower() in PIXEL_NAMES


def unit_of(file: TrackFile, stated: str) -> tuple[str, float | None]:
    """Return the name of the unit of a file's coordinates, and how many micrometers it is; None for pixels.

    Parameters
    ----------
    file : TrackFile
        The file.
    stated : str
        What the configuration states, ``auto`` for what the file states.

    Raises
    ------
    UserError
        If the file states a unit that is neither the pixel nor a length.
    """
    if stated == "micrometer":
        return "micrometers", 1.0
    if stated == "pixel" or not file.unit or is_pixel(file.unit):
        return "pixels", None
    factor = micrometers_in(file.unit)
    if factor is None:
        raise UserError(
            f"the unit of tracks must be the pixel or a length, {file.where} states {file.unit!r}; set `tracks_unit` "
            "to pixel or micrometer"
        )
    return "micrometers" if factor == 1 else file.unit, factor


def in_pixels(
    file: TrackFile,
    tracks: pd.DataFrame,
    stated: str,
    micrometers_per_pixel: float | None,
    shape: tuple[int, ...] | None,
) -> pd.DataFrame:
    """Return tracks with coordinates in pixels.

    Parameters
    ----------
    file : TrackFile
        The file that they were read from.
    tracks : pandas.DataFrame
        Checked tracks.
    stated : str
        What the configuration states, ``auto`` for what the file states.
    micrometers_per_pixel : float, optional
        Size of a pixel of the image.
    shape : tuple of int, optional
        Shape of the image (T, C, Z, Y, X).

    Raises
    ------
    UserError
        If the size of a pixel is needed and unknown, or if coordinates seem to be in another unit.
    """
    _, micrometers = unit_of(file, stated)
    if micrometers is None:
        if stated == AUTO and not file.unit and not file.image_size:  # label images have no unit but the pixel
            _refuse_micrometers(file, tracks, micrometers_per_pixel, shape)
        return tracks
    size = size_of_pixel(file, micrometers_per_pixel, shape)
    if not size:
        raise UserError(
            f"coordinates in {file.unit or 'micrometers'} need the size of a pixel, and neither the plate nor "
            f"{file.where} states that of square pixels; set `micrometers_per_pixel` of the experiment, or "
            "`tracks_unit: pixel` if they are pixels"
        )
    converted = tracks.assign(y=tracks["y"] * (micrometers / size), x=tracks["x"] * (micrometers / size))
    if stated == AUTO and shape and not fits_image(converted, shape) and fits_image(tracks, shape):
        raise UserError(
            f"coordinates of tracks must be inside the image, those of {file.where} are in {file.unit}, as it states, "
            f"and reach y {converted['y'].max():.4g}, x {converted['x'].max():.4g} at {size:g} micrometers per pixel; "
            "they would fit as pixels: set `tracks_unit: pixel`, or correct `micrometers_per_pixel`"
        )
    if stated == AUTO and shape and micrometers < 1:
        _refuse_corner(file, converted, shape)
    return converted


def _refuse_corner(file: TrackFile, converted: pd.DataFrame, shape: tuple[int, ...]) -> None:
    """Refuse coordinates that are all in the corner of the image, because the file states too small a unit."""
    height, width = shape[-2:]
    y, x = converted["y"].max(), converted["x"].max()
    if y < _CORNER * height and x < _CORNER * width:
        raise UserError(
            f"coordinates of tracks must be in the whole image, those of {file.where} are in {file.unit}, as it states,"
            f" and only reach y {y:.2g}, x {x:.2g} of {height} x {width} pixels, so the unit seems wrong; set "
            "`tracks_unit` to micrometer or pixel"
        )


def stated_size(file: TrackFile, shape: tuple[int, ...]) -> float | None:
    """Return the size of a pixel of an image as a file of tracks states it, also if it was tracked at another size."""
    if file.micrometers_per_pixel is None or file.tracked_size is None:
        return file.micrometers_per_pixel
    return file.micrometers_per_pixel * file.tracked_size[1] / shape[-1]


def size_of_pixel(file: TrackFile, micrometers_per_pixel: float | None, shape: tuple[int, ...] | None) -> float | None:
    """Return the size that converts coordinates: that with which this image was tracked, or that of the image."""
    is_same = shape is not None and file.tracked_size == tuple(shape[-2:])
    if is_same and file.micrometers_per_pixel:
        return file.micrometers_per_pixel  # right even if the image was tracked with another scale in its metadata
    return micrometers_per_pixel or file.micrometers_per_pixel


def _refuse_micrometers(
    file: TrackFile, tracks: pd.DataFrame, size: float | None, shape: tuple[int, ...] | None
) -> None:
    """Refuse coordinates without a unit that seem to be micrometers."""
    if not shape or not size or size == 1 or not fits_image(tracks, shape, size):
        return
    n = tracks["track_id"].nunique()
    if fits_image(tracks, shape) and size ** (2 * n) > _IMPROBABLE:
        return
    height, width = shape[-2] * size, shape[-1] * size
    raise UserError(
        f"coordinates of tracks seem to be micrometers, those of all {n} tracks of {file.where} are inside {height:.4g}"
        f" x {width:.4g}, the size of the image in micrometers (y up to {tracks['y'].max():.4g}, x up to "
        f"{tracks['x'].max():.4g}, image {shape[-2]} x {shape[-1]} pixels); set `tracks_unit` of the experiment to "
        "micrometer or pixel"
    )


def fits_image(tracks: pd.DataFrame, shape: tuple[int, ...], size: float = 1.0) -> bool:
    """Return whether all coordinates are inside an image whose pixels have a size."""
    return all(
        tracks[axis].between(-0.5 * size, (length - 0.5) * size).all()
        for axis, length in (("y", shape[-2]), ("x", shape[-1]))
    )


def from_frame_0(
    tracks: pd.DataFrame, first: int | str, shape: tuple[int, ...] | None, position: str, where: str
) -> pd.DataFrame:
    """Return tracks whose frames are counted from 0.

    Parameters
    ----------
    tracks : pandas.DataFrame
        Checked tracks.
    first : {"auto", 0, 1}
        Number of the first frame in the file.
    shape : tuple of int, optional
        Shape of the image (T, C, Z, Y, X).
    position, where : str
        The position and its file, for messages.

    Raises
    ------
    UserError
        If a frame is before the first, or if frames seem to be counted from 1.
    """
    if first == AUTO:
        if shape and tracks["t"].min() >= 1 and tracks["t"].max() == shape[0]:
            raise UserError(_counted_from_1(tracks, shape[0], position, where))
        return tracks
    if tracks["t"].min() < int(first):
        raise UserError(
            f"frames of tracks must be at least {first}, as `tracks_first_frame` states, got {tracks['t'].min()} in "
            f"{where}"
        )
    return tracks.assign(t=tracks["t"] - int(first))


def _counted_from_1(tracks: pd.DataFrame, n_frames: int, position: str, where: str) -> str:
    late = tracks[tracks["t"] == n_frames]
    return (
        f"tracks must be inside the image, t in [0, {n_frames - 1}], got {n_frames} for track "
        f"{late['track_id'].iloc[0]} in frame {n_frames} of position {position} of {where} ({count_rows(len(late))}); "
        f"frames seem to be counted from 1, as none is 0: set `tracks_first_frame` of the experiment to 1"
    )
