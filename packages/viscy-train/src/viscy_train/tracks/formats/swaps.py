"""Swaps: steps between two frames in which many tracks jump away, and others take their places.

They happen if cells are numbered anew in each frame, for example from top to bottom, so that one more cell shifts the
numbers of all that follow. Cells that move or cross seldom take a place that a far jump has left, and if all cells
move together, as with the stage of the microscope, none has jumped.
"""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

if TYPE_CHECKING:
    from numpy.typing import NDArray

# How close to the old position another cell must be, as a share of the jump, and of the usual distance of two cells.
_CLOSE = 0.25
# A step is suspicious with so many swaps, and this share of the tracks that are in both frames.
_MANY = 3
_SHARE = 0.1
# Of so many pairs of points, all distances are computed; the tree that more need takes a quarter of a second to import.
_MAX_PAIRS = 2**18


def count_swaps(tracks: pd.DataFrame) -> pd.DataFrame:
    """Return how many tracks change places in each step between two frames that have tracks.

    Parameters
    ----------
    tracks : pandas.DataFrame
        The columns ``track_id``, ``t``, ``y``, ``x``, with a track at most once in a frame.

    Returns
    -------
    pandas.DataFrame
        The columns ``t``, the frame before the step, ``following``, the frame after it, ``n_swapped``, the number of
        tracks whose place another one takes, and ``n_both``, the number of tracks in both frames.
    """
    ordered = tracks.sort_values("t", kind="stable")
    frames, starts = np.unique(ordered["t"].to_numpy(), return_index=True)
    numbers = np.split(ordered["track_id"].to_numpy(), starts[1:])
    points = np.split(ordered[["y", "x"]].to_numpy(dtype=float), starts[1:])
    steps = pairwise(zip(numbers, points, strict=True))
    counts = [_count(*before, *after) for before, after in steps]
    columns = ["n_swapped", "n_both"]
    counted = pd.DataFrame(np.reshape(counts, (-1, 2)), columns=columns, dtype=np.int64)
    return counted.assign(t=frames[:-1], following=frames[1:])


def suspicious(steps: pd.DataFrame) -> pd.DataFrame:
    """Return the steps in which so many tracks change places that their numbers may be wrong."""
    return steps[(steps["n_swapped"] >= _MANY) & (steps["n_swapped"] >= _SHARE * steps["n_both"])]


def _count(numbers: NDArray, points: NDArray, next_numbers: NDArray, next_points: NDArray) -> tuple[int, int]:
    """Return the number of tracks whose place another one takes, and of those in both frames."""
    _, one, other = np.intersect1d(numbers, next_numbers, assume_unique=True, return_indices=True)
    if len(one) < _MANY:  # too few to tell a jump from a motion of all
        return 0, len(one)
    jump = next_points[other] - points[one]
    far = np.minimum(np.linalg.norm(jump, axis=1), np.linalg.norm(jump - np.median(jump, axis=0), axis=1))
    distances, indices = _nearest(points[one], next_points, 1)
    distance, nearest = distances[:, 0], indices[:, 0]
    is_other = (nearest != other) & (distance < _CLOSE * far) & np.isin(next_numbers[nearest], numbers)
    if not is_other.any():  # as in most steps
        return 0, len(one)
    spacing = np.median(_nearest(next_points, next_points, 2)[0][:, 1])
    return int((is_other & (distance < _CLOSE * spacing)).sum()), len(one)


def _nearest(points: NDArray, others: NDArray, k: int) -> tuple[NDArray, NDArray]:
    """Return distances and indices of the k nearest others of each point, ascending, both of shape (n_points, k)."""
    if len(points) * len(others) > _MAX_PAIRS:
        from scipy.spatial import KDTree

        return KDTree(others).query(points, k=range(1, k + 1))
    distances = np.linalg.norm(points[:, None] - others, axis=2)
    indices = np.argsort(distances, axis=1, kind="stable")[:, :k]
    return np.take_along_axis(distances, indices, axis=1), indices
