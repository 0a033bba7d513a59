"""Chunks: which of those that crops need are missing from a plate, where zarr would read a fill value without a word."""

from __future__ import annotations

from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray


def lie_in_missing_chunks(
    image: Any,
    frames: NDArray[np.int64],
    channels: list[int],
    z: slice,
    top: NDArray[np.int64],
    left: NDArray[np.int64],
    side: int,
) -> NDArray[np.bool_]:
    """Tell which crops need a chunk, or a shard, whose file is not there.

    Parameters
    ----------
    image : iohub.ngff.nodes.ImageArray
        Of a plate on a file system; elsewhere no chunk is taken to be missing.
    frames, top, left : numpy.ndarray
        Frame, first row and first column of each crop, shape (n_crops,).
    channels : list of int
        Those that crops have.
    z : slice
        Slices that crops have.
    side : int
        Of a crop, in pixels.

    Returns
    -------
    numpy.ndarray
        Shape (n_crops,). A frame in which every pixel is the fill value has no file either.
    """
    array = image.native
    root = getattr(array.store, "root", None)
    missing = np.zeros(len(frames), dtype=bool)
    if root is None:
        return missing
    folder = Path(root) / array.path
    size = getattr(array, "shards", None) or array.chunks
    stacks = set(
        product({channel // size[1] for channel in channels}, range(z.start // size[2], (z.stop - 1) // size[2] + 1))
    )
    last_row, last_column = (top + side - 1) // size[3], (left + side - 1) // size[4]
    for down, right in product(range((side - 1) // size[3] + 2), range((side - 1) // size[4] + 2)):
        row, column = top // size[3] + down, left // size[4] + right
        inside = np.flatnonzero((row <= last_row) & (column <= last_column))
        places = np.stack([frames // size[0], row, column], axis=1)[inside]
        wanted, which = np.unique(places, axis=0, return_inverse=True)
        there = [
            all(
                (folder / array.metadata.encode_chunk_key((frame, channel, slice_, row, column))).exists()
                for channel, slice_ in stacks
            )
            for frame, row, column in wanted.tolist()
        ]
        missing[inside] |= ~np.array(there, dtype=bool)[which.ravel()]
    return missing
