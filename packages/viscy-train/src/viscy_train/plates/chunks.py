"""Missing chunks: those that crops need and the plate lacks, which zarr would silently read as the fill value."""

from __future__ import annotations

from itertools import product
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from viscy_train.plates.stored_chunks import StoredChunks


def need_missing_chunks(
    stored: StoredChunks,
    size: tuple[int, ...],
    frames: NDArray[np.int64],
    channels: list[int],
    z: slice,
    top: NDArray[np.int64],
    left: NDArray[np.int64],
    sides: tuple[int, int],
) -> NDArray[np.bool_]:
    """Return which crops need at least one chunk that is missing.

    Parameters
    ----------
    stored : StoredChunks
        The chunks of an array of shape (n_frames, n_channels, n_slices, height, width).
    size : tuple of int
        Size of a chunk along each axis.
    frames, top, left : numpy.ndarray
        Frame, first row and first column of each crop, shape (n_crops,).
    channels : list of int
        Indices of the channels in a crop.
    z : slice
        Slices in a crop.
    sides : tuple of int
        Height and width of a crop, in pixels.

    Returns
    -------
    numpy.ndarray
        True where a chunk is missing, shape (n_crops,). Writers usually skip a chunk whose pixels all have the fill
        value, so such a chunk is missing, too.
    """
    missing = np.zeros(len(frames), dtype=bool)
    stacks = list(
        product(sorted({channel // size[1] for channel in channels}), range(z.start // size[2], -(-z.stop // size[2])))
    )
    height, width = sides
    last_row, last_column = (top + height - 1) // size[3], (left + width - 1) // size[4]
    # Along an axis, a crop overlaps at most (side - 2) // size + 2 chunks.
    for down, right in product(range((height - 2) // size[3] + 2), range((width - 2) // size[4] + 2)):
        row, column = top // size[3] + down, left // size[4] + right
        inside = np.flatnonzero((row <= last_row) & (column <= last_column))
        indices = np.stack([frames // size[0], row, column], axis=1)[inside]
        needed, crop_to_needed = np.unique(indices, axis=0, return_inverse=True)
        incomplete = [
            not all((frame, channel, slice_, row, column) in stored for channel, slice_ in stacks)
            for frame, row, column in needed.tolist()
        ]
        missing[inside] |= np.array(incomplete, dtype=bool)[crop_to_needed.ravel()]
    return missing
