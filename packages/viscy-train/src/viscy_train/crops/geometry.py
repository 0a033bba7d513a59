"""Geometry: which coordinates are inside an image, and which pixels and slices the crop around a cell contains."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray


# In pixels: a tracker may place a cell up to half a pixel outside the center of the outermost pixel.
_MARGIN = 0.5


def coordinate_bounds(shape: tuple[int, ...]) -> dict[str, tuple[float, float]]:
    """Return the smallest and largest coordinates of a cell inside an image.

    Parameters
    ----------
    shape : tuple of int
        Shape of the image, (n_frames, n_channels, n_slices, height, width).

    Returns
    -------
    dict of str to tuple of float
        Bounds of the frame `t`, and of `y` and `x` in pixels; all are inclusive.
    """
    n_frames, _, _, height, width = shape
    return {
        "t": (0, n_frames - 1),
        "y": (-_MARGIN, height - 1 + _MARGIN),
        "x": (-_MARGIN, width - 1 + _MARGIN),
    }


def crop_corners(centers: NDArray[np.int64], side: int, size: tuple[int, ...]) -> NDArray[np.int64]:
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
