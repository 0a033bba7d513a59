"""Unreadable observations: those in frames without content, or whose crops lack chunks or contain invalid pixels."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from viscy_train.crops.constant_frames import find_constant_frames, screened_array
from viscy_train.crops.image_intensity import CountedFrame
from viscy_train.crops.intensity import sample_of
from viscy_train.errors import UserError, one_line
from viscy_train.plates.chunks import need_missing_chunks

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from viscy_train.config.schema import NormalizationConfig
    from viscy_train.crops.constant_frames import ScreenedArray
    from viscy_train.crops.position_crops import PositionCrops

READABLE, MISSING_CHUNK, INVALID_PIXELS, CONSTANT_FRAME = range(4)
REASONS = {
    MISSING_CHUNK: "excluded: a chunk of the frame is missing from the plate (blank or lost)",
    INVALID_PIXELS: "excluded: pixels cannot be read, or are NaN or infinite",
    CONSTANT_FRAME: "excluded: a channel of the frame has one value in all pixels (blank or saturated)",
}
# The fractional parts of its multiples are evenly spread over [0, 1), however many there are (Weyl 1916).
_GOLDEN_RATIO = (5**0.5 - 1) / 2


def find_unreadable(
    crops: PositionCrops,
    normalization: NormalizationConfig,
    n_sampled: int,
    position_index: int,
    *,
    read_all: bool,
    where: str,
) -> tuple[NDArray[np.int8], list[CountedFrame]]:
    """Find the observations that cannot be used for training, and sample the intensities of frames.

    Parameters
    ----------
    crops : PositionCrops
        Crops of the position's observations.
    normalization : NormalizationConfig
        How intensities are normalized.
    n_sampled : int
        Number of frames to sample.
    position_index : int
        Index of the position in its experiment. Each position samples other frames, so that together they cover the
        time course.
    read_all : bool
        Whether to read all frames, not just the sampled ones. Frames that are constant are found in both cases.
    where : str
        The position, for error messages.

    Returns
    -------
    defects : numpy.ndarray
        `READABLE` or the reason why not, a key of `REASONS`, for each observation, shape (n_observations,).
    counted : list of CountedFrame
        The sampled frames, ascending, or all of them if intensities are normalized by frame.

    Raises
    ------
    UserError
        If pixels are invalid and `read_all` is False: frames that were not read may have more of them.
    """
    array, stored = crops.image.array, crops.stored
    read_all = read_all or not stored.are_known
    missing = _need_missing_chunks(crops)
    screened = screened_array(array, crops.source, stored, thorough=read_all)
    constant_frames, damaged = _find_constant_frames(crops, screened, missing)
    constant = ~missing & np.isin(crops.frame, sorted(constant_frames))
    unusable = missing | constant
    frames = np.unique(crops.frame[~unusable])
    # A missing chunk would count as black pixels.
    complete = np.setdiff1d(frames, crops.frame[missing])
    candidates = complete if len(complete) else frames
    sampled = set(candidates[_spread_evenly(len(candidates), n_sampled, position_index)].tolist())
    invalid = np.zeros(len(missing), dtype=bool)
    counted: list[CountedFrame] = []
    counts_all = normalization.by == "frame"
    is_read_whole = read_all or counts_all
    for frame in frames.tolist() if is_read_whole else sorted(sampled | damaged & set(frames.tolist())):
        in_frame = np.flatnonzero((crops.frame == frame) & ~unusable)
        pixels, invalid[in_frame], problem = _check_frame(crops, frame, in_frame)
        if invalid[in_frame].any() and not read_all:
            raise UserError(
                f"{where}, frame {frame} {problem}; restore it, or exclude the affected observations with "
                f"`viscy-train index --config FILE --pixels all`"
            )
        if pixels is None:
            # Its intensities are unknown.
            invalid[in_frame] |= counts_all
        elif frame in sampled or counts_all:
            counted.append(_count(crops, normalization, frame, pixels, is_sampled=frame in sampled))
    defects = np.select([missing, constant, invalid], [MISSING_CHUNK, CONSTANT_FRAME, INVALID_PIXELS], READABLE)
    return defects.astype(np.int8), counted


def _need_missing_chunks(crops: PositionCrops) -> NDArray[np.bool_]:
    """Return which crops need a chunk that is missing."""
    missing = np.zeros(len(crops.frame), dtype=bool)
    for z, rows in crops.by_slices():
        missing[rows] = need_missing_chunks(
            crops.stored,
            crops.image.array.chunks,
            crops.frame[rows],
            crops.channels,
            z,
            crops.top[rows],
            crops.left[rows],
            crops.extent.sides,
        )
    return missing


def _find_constant_frames(
    crops: PositionCrops, screened: ScreenedArray, missing: NDArray[np.bool_]
) -> tuple[set[int], set[int]]:
    """Return the constant and the damaged frames among those with an observation that lacks no chunk."""
    constant: set[int] = set()
    damaged: set[int] = set()
    for z, rows in crops.by_slices():
        frames = np.unique(crops.frame[rows[~missing[rows]]])
        of_slices, damaged_of_slices = find_constant_frames(screened, frames, crops.channels, z)
        constant |= set(of_slices)
        damaged |= damaged_of_slices
    return constant, damaged


def _count(
    crops: PositionCrops,
    normalization: NormalizationConfig,
    frame: int,
    pixels: NDArray[np.float32],
    *,
    is_sampled: bool,
) -> CountedFrame:
    if normalization.by == "frame":
        pixels = crops.without_missing(frame, pixels)
    sample = sample_of(normalization, crops.at_crop_scale(frame, pixels))
    if not is_sampled:
        sample = replace(sample, content=())
    return CountedFrame(frame=frame, is_sampled=is_sampled, sample=sample)


def _spread_evenly(n: int, n_selected: int, offset: int) -> NDArray[np.int64]:
    """Return indices below n, evenly spread and different for each offset, shape (min(n, n_selected),)."""
    n_selected = min(n, n_selected)
    return ((np.arange(n_selected) + offset * _GOLDEN_RATIO % 1) * n / max(n_selected, 1)).astype(np.int64)


def _check_frame(
    crops: PositionCrops, frame: int, in_frame: NDArray[np.int64]
) -> tuple[NDArray[np.float32] | None, list[bool], str]:
    """Return the pixels of a frame, whether each of its observations is invalid, and what the problem is."""
    try:
        pixels = crops.pixels(frame)
    except Exception as error:  # many types: zarr's and those of each codec
        reason = one_line(error)
        invalid = [not _is_readable(crops, frame, observation) for observation in in_frame]
        return None, invalid, f"cannot be read ({reason})"
    finite = np.isfinite(pixels).all(axis=(0, 1))
    if finite.all():
        return pixels, [False] * len(in_frame), ""
    invalid = [not finite[crops.window(observation)].all() for observation in in_frame]
    return pixels, invalid, "has pixels that are NaN or infinite"


def _is_readable(crops: PositionCrops, frame: int, observation: int) -> bool:
    """Return whether a single crop can be read, although its frame cannot."""
    try:
        return bool(np.isfinite(crops.pixels(frame, crops.window(observation))).all())
    except Exception:  # many types, as above
        return False
