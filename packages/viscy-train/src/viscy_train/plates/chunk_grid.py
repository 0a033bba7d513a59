"""Chunk grid: which chunks of an array boxes of one size touch, computed for many boxes at once."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray


@dataclass(frozen=True, kw_only=True)
class Boxes:
    """Boxes of one size, each in one frame.

    Parameters
    ----------
    frames, first_slices, tops, lefts : numpy.ndarray
        Frame, first slice, first row and first column of each box, int64, shape (n,).
    n_slices, height, width : int
        Number of slices, rows and columns of a box, each at least 1.
    """

    frames: NDArray[np.int64]
    first_slices: NDArray[np.int64]
    tops: NDArray[np.int64]
    lefts: NDArray[np.int64]
    n_slices: int
    height: int
    width: int

    def __len__(self) -> int:
        return len(self.frames)


class Touched(NamedTuple):
    """Which chunks boxes touch, one entry for each pair of a box and a chunk.

    `box` is the index of the box, shape (m,), in ascending order; `chunk` is the index of the chunk along the axes T,
    Z, Y and X, shape (m, 4).
    """

    box: NDArray[np.int64]
    chunk: NDArray[np.int64]


def touched_chunks(boxes: Boxes, size: tuple[int, int, int, int]) -> Touched:
    """Return which chunks boxes touch.

    Parameters
    ----------
    boxes : Boxes
        The boxes.
    size : tuple of int
        Size of a chunk along the axes T, Z, Y and X.

    Returns
    -------
    Touched
        The pairs of a box and a chunk, in the order of the boxes.
    """
    corners = np.stack([boxes.frames, boxes.first_slices, boxes.tops, boxes.lefts], axis=1)
    firsts = corners // size
    lengths = np.array([1, boxes.n_slices, boxes.height, boxes.width])
    lasts = (corners + lengths - 1) // size
    # A box that begins at the last pixel of a chunk touches most of them.
    most = [(length - 2) // n + 2 for length, n in zip(lengths.tolist(), size, strict=True)]
    steps = np.array(list(product(*(range(n) for n in most))))
    chunk = firsts[:, None] + steps
    box, step = np.nonzero((chunk <= lasts[:, None]).all(axis=2))
    return Touched(box, chunk[box, step])
