"""Geometry: where the crop around a cell lies in its frame, and which slices it has."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray


def corners(centres: NDArray[np.int64], side: int, size: tuple[int, int]) -> NDArray[np.int64]:
    """Return where crops begin, moved into the image at its borders.

    Parameters
    ----------
    centres : numpy.ndarray
        Of cells, pixels (y, x), shape (..., 2).
    side : int
        Of a crop, in pixels.
    size : tuple of int
        Height and width of the image, in pixels; not less than `side`.

    Returns
    -------
    numpy.ndarray
        First row and column of each, shape (..., 2).
    """
    return np.clip(centres - side // 2, 0, np.array(size) - side)


def middle_slices(n_slices: int, wanted: int) -> slice:
    """Return the slices in the middle of a stack; of an even number, one is the upper of the two in the middle.

    Parameters
    ----------
    n_slices : int
        Of the stack.
    wanted : int
        How many, at most `n_slices`.

    Returns
    -------
    slice
        Of that length.
    """
    first = (n_slices - wanted + 1) // 2
    return slice(first, first + wanted)
