"""Spoilt cells: those whose crops lack chunks of the plate, or have pixels that cannot be read or are no numbers."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from viscy_train.anchors.cell_crops import Crops
from viscy_train.anchors.chunks import lie_in_missing_chunks
from viscy_train.errors import UserError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from viscy_train.anchors.intensity import IntensityStatistics

WHOLE, IN_MISSING_CHUNK, WITH_BAD_PIXELS = range(3)
REASONS = {
    IN_MISSING_CHUNK: "left out: the plate lacks a chunk of their frame, it is blank or lost",
    WITH_BAD_PIXELS: "left out: their pixels cannot be read or are no numbers",
}
# Its multiples fall evenly between 0 and 1, however many there are (Weyl 1916).
_GOLDEN = (5**0.5 - 1) / 2


def find_unreadable(
    crops: Crops, light: IntensityStatistics, n_frames: int, number: int, *, read_all: bool, where: str
) -> NDArray[np.int8]:
    """Find the cells that cannot be trained on, and add some frames to the brightness.

    Parameters
    ----------
    crops : Crops
        The cells.
    light : IntensityStatistics
        Receives the frames.
    n_frames : int
        How many.
    number : int
        Of the position in its experiment: each gives other frames, so that together they are of all times.
    read_all : bool
        Whether to read all frames rather than only those.
    where : str
        The position, for the message.

    Returns
    -------
    numpy.ndarray
        `WHOLE`, `IN_MISSING_CHUNK` or `WITH_BAD_PIXELS` for each cell, shape (n_cells,).

    Raises
    ------
    UserError
        If cells have bad pixels while not all frames are read: there may be more of them.
    """
    missing = lie_in_missing_chunks(
        crops.image, crops.frame, crops.channels, crops.z, crops.top, crops.left, crops.side
    )
    frames = np.unique(crops.frame[~missing])
    # Of a frame that lacks a chunk, a part would be counted as black.
    whole = np.setdiff1d(frames, crops.frame[missing])
    candidates = whole if len(whole) else frames
    sampled = set(candidates[_spread(len(candidates), n_frames, number)].tolist())
    bad = np.zeros(len(missing), dtype=bool)
    for frame in frames.tolist() if read_all else sorted(sampled):
        here = np.flatnonzero((crops.frame == frame) & ~missing)
        pixels, bad[here], problem = _look_at(crops, frame, here)
        if bad[here].any() and not read_all:
            raise UserError(
                f"{where}, frame {frame} {problem}; restore it, or leave its cells out with "
                f"`viscy-train index --config FILE --pixels all`"
            )
        if pixels is not None and frame in sampled:
            light.add(pixels)
    return np.where(missing, IN_MISSING_CHUNK, np.where(bad, WITH_BAD_PIXELS, WHOLE)).astype(np.int8)


def _spread(n: int, wanted: int, number: int) -> NDArray[np.int64]:
    """Return so many of n places, evenly spread, and others for each number."""
    wanted = min(n, wanted)
    return ((np.arange(wanted) + number * _GOLDEN % 1) * n / max(wanted, 1)).astype(np.int64)


def _look_at(crops: Crops, frame: int, here: NDArray[np.int64]) -> tuple[NDArray[np.float32] | None, list[bool], str]:
    """Return the pixels of a frame, which of the cells in it are spoilt, and by what."""
    try:
        pixels = crops.pixels(frame)
    except Exception as error:  # of many types: those of zarr and of each codec
        reason = " ".join(str(error).split()) or type(error).__name__
        return None, [not _is_readable(crops, frame, cell) for cell in here], f"cannot be read ({reason})"
    finite = np.isfinite(pixels).all(axis=(0, 1))
    if finite.all():
        return pixels, [False] * len(here), ""
    return pixels, [not finite[crops.window(cell)].all() for cell in here], "has pixels that are NaN or infinite"


def _is_readable(crops: Crops, frame: int, cell: int) -> bool:
    """Tell whether the crop of a cell can be read where its frame cannot."""
    try:
        return bool(np.isfinite(crops.pixels(frame, crops.window(cell))).all())
    except Exception:  # as above
        return False
