"""Located crops: where the crops of a batch begin in their images, computed for all of them at once."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from viscy_train.crops.window import CropWindow


@dataclass(frozen=True, kw_only=True)
class LocatedCrops:
    """Where crops begin.

    Parameters
    ----------
    starts : numpy.ndarray
        Where they begin along y and x, shape (n, 2), dtype float64.
    first_slices : numpy.ndarray
        Where their slices begin, shape (n,), dtype float64.
    corners : numpy.ndarray
        First slice, row and column to read, shape (n, 3), dtype int64.
    """

    starts: NDArray[np.float64]
    first_slices: NDArray[np.float64]
    corners: NDArray[np.int64]


def locate_crops(
    windows: Sequence[CropWindow],
    window: NDArray[np.int64],
    centers: NDArray[np.float64],
    *,
    focus: NDArray[np.int64] | None = None,
    draws: NDArray[np.float64] | None = None,
) -> LocatedCrops:
    """Return where crops begin.

    Parameters
    ----------
    windows : sequence of CropWindow
        What crops cover of images.
    window : numpy.ndarray
        Which of them applies to each crop, shape (n,).
    centers : numpy.ndarray
        Coordinates y and x of their cells, shape (n, 2).
    focus, draws : numpy.ndarray, optional
        The sharpest slice of each crop, or a random number in [0, 1) that chooses its slices, shape (n,). By default,
        slices are in the middle of the stack.
    """
    n = len(window)
    starts, first_slices, corners = np.empty((n, 2)), np.empty(n), np.empty((n, 3), dtype=np.int64)
    for number in np.unique(window).tolist():
        of, where = windows[number], np.flatnonzero(window == number)
        starts[where] = of.starts(centers[where])
        corners[where, 1:] = of.corners(starts[where])
        of_focus, of_draws = (None if values is None else values[where] for values in (focus, draws))
        first_slices[where] = of.first_slices(len(where), focus=of_focus, draws=of_draws)
        corners[where, 0] = of.z.first(first_slices[where])
    return LocatedCrops(starts=starts, first_slices=first_slices, corners=corners)
