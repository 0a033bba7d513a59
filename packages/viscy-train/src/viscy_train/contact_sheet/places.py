"""Places: whether cells are where their image shows something, or would be if their coordinates were read otherwise.

In a square image, coordinates that are exchanged are inside it as well, so only its pixels can tell. Each place of an
image is ranked twice among all places: by how much brighter it is than its surroundings, and by how much its pixels
vary. Cells of any kind of image are high in at least one of these rankings, and places without cells are in the middle.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

# Blocks of pixels along the side of a crop, and how far the surroundings of a place reach, in blocks.
_BLOCKS_OF_CROP, _SURROUNDINGS = 4, 8
# Smaller images have too few places to rank.
_LEAST_BLOCKS = 12
# Fewer tracks say too little.
_LEAST_TRACKS = 10
# Cells that are somewhere else are as often above as below the middle of a ranking, here with some tolerance.
_NOWHERE, _SOMEWHERE, _GAIN = 0.7, 0.8, 0.2
# In standard errors of the mean over tracks. Neighbors are not independent, so this is more than chance needs.
_CLEAR = 5.0


@dataclass(frozen=True)
class _Reading:
    """Another way to read coordinates: where a cell is then, what that is called, and what to do about it."""

    place: Callable[[NDArray[np.float64], tuple[int, int]], NDArray[np.float64]]
    name: str
    remedy: str


_READINGS = (
    _Reading(
        lambda cells, _: cells[:, ::-1],
        "if y and x are exchanged",
        "exchange the columns y and x of the tracks",
    ),
    _Reading(
        lambda cells, size: np.stack([size[0] - 1 - cells[:, 0], cells[:, 1]], axis=1),
        "if y is counted from the lower border",
        "count y from the upper border in the tracks, or turn the images",
    ),
    _Reading(
        lambda cells, size: np.stack([cells[:, 0], size[1] - 1 - cells[:, 1]], axis=1),
        "if x is counted from the right border",
        "count x from the left border in the tracks, or turn the images",
    ),
)


@dataclass
class Places:
    """How high the cells of an experiment are in the rankings of their images, collected frame by frame.

    Parameters
    ----------
    ranks : dict
        For each position and track, the ranks in its frames, shape (1, 1 + number of other readings, 2) each.
    """

    ranks: dict[tuple[str, int], list[NDArray[np.float64]]] = field(default_factory=dict)

    def add(
        self,
        position: str,
        tracks: NDArray[np.int64],
        cells: NDArray[np.float64],
        pixels: NDArray[np.float32],
        side: float,
    ) -> None:
        """Add the cells of a frame.

        Parameters
        ----------
        position : str
            Name of the position.
        tracks : numpy.ndarray
            Track of each cell, shape (n,).
        cells : numpy.ndarray
            Coordinates y and x in pixels, shape (n, 2).
        pixels : numpy.ndarray
            The frame, shape (height, width).
        side : float
            Side of a crop, in pixels.
        """
        block = max(1, round(side / _BLOCKS_OF_CROP))
        rankings = rankings_of(pixels, block)
        if rankings is None:
            return
        size = pixels.shape[0], pixels.shape[1]
        read = [cells, *(one.place(cells, size) for one in _READINGS)]
        is_inside = np.all([((places > -1) & (places < size)).all(axis=1) for places in read], axis=0)
        ranks = np.stack([_ranks_at(rankings, places[is_inside], block) for places in read], axis=1)
        for index, track in enumerate(tracks[is_inside].tolist()):
            self.ranks.setdefault((position, track), []).append(ranks[index : index + 1])

    def warnings(self) -> list[str]:
        """Return a sentence if cells are where the images show nothing, and would not be if they were read otherwise.

        Cells of at least 10 tracks must be at average ranks of at most 70 % in both rankings; read otherwise, the
        average must be above 80 % in one of them, and higher by a fifth of all places and by five standard errors over
        tracks. Places that are unrelated to the images are at 50 %, or more where cells are dense; cells are above 90 %
        in most images.
        """
        if len(self.ranks) < _LEAST_TRACKS:
            return []
        by_track = np.stack([np.concatenate(ranks).mean(axis=0) for ranks in self.ranks.values()])
        mean = by_track.mean(axis=0)
        if mean[0].max() > _NOWHERE:
            return []
        gain = by_track[:, 1:] - by_track[:, :1]
        error = gain.std(axis=0, ddof=1) / math.sqrt(len(gain))
        is_clear = (mean[1:] > _SOMEWHERE) & (gain.mean(axis=0) > np.maximum(_CLEAR * error, _GAIN))
        score = np.where(is_clear, mean[1:], 0).max(axis=1)
        best = int(np.argmax(score))
        if not score[best]:
            return []
        found = _READINGS[best]
        return [
            f"cells are where the images show little, above {mean[0].max():.0%} of all places on average, but above "
            f"{score[best]:.0%} {found.name}; {found.remedy} if the contact sheet shows so, too"
        ]


def rankings_of(pixels: NDArray[np.float32], block: int) -> NDArray[np.float64] | None:
    """Rank the places of an image by how much brighter they are than their surroundings, and by how they vary.

    Parameters
    ----------
    pixels : numpy.ndarray
        Shape (height, width).
    block : int
        Side of a place, in pixels.

    Returns
    -------
    numpy.ndarray or None
        Ranks in [0, 1], shape (2, n_rows, n_columns); None if the image has too few places, or they are all alike.
    """
    height, width = (length // block * block for length in pixels.shape)
    if min(height, width) < _LEAST_BLOCKS * block:
        return None
    finite = np.nan_to_num(pixels[:height, :width], nan=0.0, posinf=0.0, neginf=0.0)
    blocks = finite.reshape(height // block, block, width // block, block)
    mean = blocks.mean(axis=(1, 3), dtype=np.float64)
    spread = np.sqrt(np.maximum((blocks.astype(np.float64) ** 2).mean(axis=(1, 3)) - mean**2, 0))
    maps = [_box_mean(one, 1) - _box_mean(one, _SURROUNDINGS) for one in (mean, spread)]
    if any(np.ptp(one) == 0 for one in maps):
        return None
    return np.stack([_ranks(one) for one in maps])


def _ranks(values: NDArray[np.float64]) -> NDArray[np.float64]:
    order = np.empty(values.size)
    order[np.argsort(values, axis=None, kind="stable")] = np.arange(values.size)
    return (order / (values.size - 1)).reshape(values.shape)


def _ranks_at(rankings: NDArray[np.float64], places: NDArray[np.float64], block: int) -> NDArray[np.float64]:
    """Return the ranks of places, shape (n, 2)."""
    _, n_rows, n_columns = rankings.shape
    y, x = np.rint(places).astype(np.int64).T // block
    return rankings[:, np.clip(y, 0, n_rows - 1), np.clip(x, 0, n_columns - 1)].T


def _box_mean(values: NDArray[np.float64], reach: int) -> NDArray[np.float64]:
    """Return the mean of the values up to so many rows and columns away; at a border, of as many on both sides.

    So an image that becomes brighter in one direction has its own values.
    """
    for axis in (0, 1):
        n = values.shape[axis]
        sums = np.concatenate([np.zeros_like(values.take([0], axis)), values.cumsum(axis)], axis)
        reaches = np.minimum(reach, np.minimum(np.arange(n), np.arange(n)[::-1]))
        first, end = np.arange(n) - reaches, np.arange(n) + reaches + 1
        shape = [-1 if one == axis else 1 for one in (0, 1)]
        values = (sums.take(end, axis) - sums.take(first, axis)) / (end - first).reshape(shape)
    return values
