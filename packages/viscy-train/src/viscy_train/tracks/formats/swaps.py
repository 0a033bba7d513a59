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
# Ends of a band of the image around a point.
_BAND = ((-1, "left"), (1, "right"))


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
    _, other_at, distance = _nearest_within(points[one], next_points, _CLOSE * far)
    # Whoever is this close is another track: the track itself is as far away as it jumped.
    is_known = np.isin(next_numbers[other_at], numbers)
    if not is_known.any():  # as in most steps
        return 0, len(one)
    is_close = distance < _CLOSE * np.median(_spacings(next_points))
    return int((is_known & is_close).sum()), len(one)


def _nearest_within(
    points: NDArray, others: NDArray, radius: NDArray
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray]:
    """Return which points have another one closer than a radius of each, the nearest one, and how far it is away."""
    order = np.argsort(others[:, 0], kind="stable")
    first, last = (np.searchsorted(others[order, 0], points[:, 0] + sign * radius, side) for sign, side in _BAND)
    n_in_band = np.maximum(last - first, 0)
    point = np.repeat(np.arange(len(points)), n_in_band)
    place = np.arange(len(point)) + np.repeat(first - np.cumsum(n_in_band) + n_in_band, n_in_band)
    other = order[place]
    distance = np.linalg.norm(points[point] - others[other], axis=1)
    pairs = np.flatnonzero(distance < radius[point])
    pairs = pairs[np.lexsort((other[pairs], distance[pairs], point[pairs]))]
    pairs = pairs[np.unique(point[pairs], return_index=True)[1]]
    return point[pairs], other[pairs], distance[pairs]


def _spacings(points: NDArray) -> NDArray:
    """Return how far the nearest other point is from each of at least two points."""
    if len(points) ** 2 > _MAX_PAIRS:
        from scipy.spatial import KDTree

        return KDTree(points).query(points, k=2)[0][:, 1]
    distances = np.linalg.norm(points[:, None] - points, axis=2)
    return np.partition(distances, 1, axis=1)[:, 1]
