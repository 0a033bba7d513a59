"""Crop geometry: where the crop around a cell starts in its frame, and which slices it contains."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray


def crop_corners(centers: NDArray[np.int64], side: int, size: tuple[int, int]) -> NDArray[np.int64]:
    """Return the first row and column of crops; at a border of the image, a crop is moved inside.

    Parameters
    ----------
    centers : numpy.ndarray
        Centers of cells (y, x), in pixels, shape (..., 2).
    side : int
        Side of a crop, in pixels.
    size : tuple of int
        Height and width of the image, in pixels; not less than `side`.

    Returns
    -------
    numpy.ndarray
        First row and first column of each crop, shape (..., 2).
    """
    return np.clip(centers - side // 2, 0, np.array(size) - side)


def middle_slices(n_slices: int, n_selected: int) -> slice:
    """Return the slices in the middle of a stack; if they cannot be centered, the upper choice.

    Parameters
    ----------
    n_slices : int
        Number of slices in the stack.
    n_selected : int
        Number of slices to select, at most `n_slices`.

    Returns
    -------
    slice
        Selects `n_selected` slices.
    """
    first = (n_slices - n_selected + 1) // 2
    return slice(first, first + n_selected)
