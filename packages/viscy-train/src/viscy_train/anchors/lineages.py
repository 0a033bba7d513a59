"""Lineages: which cells are ancestors and descendants of which, and the choice of a positive among them."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import pandas as pd
    from numpy.typing import NDArray

    from viscy_train.config.schema import PositiveConfig

_TRACK = ["experiment", "position", "track_id"]
_ROWS_AT_ONCE = 2**16


@dataclass(frozen=True, kw_only=True)
class Lineages:
    """Cells along the lineages of a table: a cell's track, the tracks it descends from, and those that descend from it.

    Parameters
    ----------
    track, frame : numpy.ndarray
        Of each cell: the number of its track, which ascends over the rows, and its frame, which ascends within a track;
        shape (n_cells,).
    first_relative, relatives : numpy.ndarray
        The relatives of track i, itself among them, are ``relatives[first_relative[i]:first_relative[i + 1]]``; of
        those too far away in time to matter some are left out.
    positive : PositiveConfig
        Which frames may be positives.
    """

    track: NDArray[np.int64]
    frame: NDArray[np.int64]
    first_relative: NDArray[np.int64]
    relatives: NDArray[np.int64]
    positive: PositiveConfig

    @classmethod
    def of(cls, cells: pd.DataFrame, positive: PositiveConfig) -> Lineages:
        """Find the lineages of a table.

        Parameters
        ----------
        cells : pandas.DataFrame
            Sorted by experiment, position, track and frame, as in an `AnchorTable`; with `parent_track_id`, -1 where a
            track has no mother.
        positive : PositiveConfig
            Which frames may be positives.

        Returns
        -------
        Lineages
            Theirs.
        """
        track, parent = tracks_of(cells)
        frame = cells["t"].to_numpy(np.int64)
        first = np.flatnonzero(np.diff(track, prepend=-1))
        begins, ends = frame[first], frame[np.append(first[1:], len(track)) - 1]
        pairs = [np.stack([np.arange(len(parent))] * 2, axis=1)]
        daughter, ancestor = np.arange(len(parent)), parent.copy()
        while len(daughter := daughter[(near := _near(begins[daughter], ends, ancestor, positive))]):
            ancestor = ancestor[near]
            pairs += [np.stack([daughter, ancestor], axis=1), np.stack([ancestor, daughter], axis=1)]
            ancestor = parent[ancestor]
        related = np.concatenate(pairs)
        related = related[np.lexsort((related[:, 1], related[:, 0]))]
        first_relative = np.searchsorted(related[:, 0], np.arange(len(parent) + 1))
        return cls(
            track=track,
            frame=frame,
            first_relative=first_relative,
            relatives=np.ascontiguousarray(related[:, 1]),
            positive=positive,
        )

    def has_positive(self) -> NDArray[np.bool_]:
        """Return which cells have another one to be compared with, shape (n_cells,)."""
        found = np.zeros(len(self.track), dtype=bool)
        for start in range(0, len(found), _ROWS_AT_ONCE):
            rows = np.arange(start, min(start + _ROWS_AT_ONCE, len(found)))
            slots, start, stop = self._ranges(rows)
            found[rows[slots[stop > start]]] = True
        return found

    def choose(
        self, rows: NDArray[np.int64], steps: NDArray[np.float64], cells: NDArray[np.float64]
    ) -> NDArray[np.int64]:
        """Choose a positive for each of some cells.

        The frame is any of those permitted at which a relative is there, with equal chances; the cell is any of the
        relatives in that frame.

        Parameters
        ----------
        rows : numpy.ndarray
            Rows of cells that have a positive, shape (n,).
        steps, cells : numpy.ndarray
            Uniform words in [0, 1), shape (n,): of the frame, and of the cell in it.

        Returns
        -------
        numpy.ndarray
            Rows of the positives, shape (n,), each a function of its own row and words.

        Raises
        ------
        ValueError
            If a cell has no positive.
        """
        slots, found = self._candidates(rows)
        order = np.lexsort((found, self.frame[found], slots))
        slots, found = slots[order], found[order]
        begins_frame = np.flatnonzero(_changes(slots) | _changes(self.frame[found]))
        sizes = np.diff(begins_frame, append=len(found))
        first_frame = np.searchsorted(slots[begins_frame], np.arange(len(rows)))
        n_frames = np.diff(first_frame, append=len(begins_frame))
        if not n_frames.all():
            raise ValueError(f"rows must have a positive, row {rows[np.argmin(n_frames)]} has none")
        chosen = first_frame + _pick(steps, n_frames)
        return found[begins_frame[chosen] + _pick(cells, sizes[chosen])]

    def _candidates(self, rows: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Return the possible positives of cells as pairs: place in `rows`, and row of the candidate."""
        slots, start, stop = self._ranges(rows)
        owner, found = _spelt_out(start, stop)
        return slots[owner], found

    def _ranges(self, rows: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
        """Return the possible positives of cells as place in `rows`, and first row and end of a range, maybe empty."""
        track = self.track[rows]
        slots, place = _spelt_out(self.first_relative[track], self.first_relative[track + 1])
        relative, now = self.relatives[place], self.frame[rows][slots]
        nearest, furthest = self.positive.min_frames, self.positive.max_frames
        start = [self._row_of(relative, now - furthest), self._row_of(relative, now + nearest)]
        stop = [self._row_of(relative, now - nearest + 1), self._row_of(relative, now + furthest + 1)]
        return np.concatenate([slots, slots]), np.concatenate(start), np.concatenate(stop)

    def _row_of(self, track: NDArray[np.int64], frame: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return the first row of a track at a frame or later; where there is none, the row after the track."""
        return np.searchsorted(self._keys, self._key(track, frame))

    @cached_property
    def _keys(self) -> NDArray[np.int64]:
        return self._key(self.track, self.frame)

    def _key(self, track: NDArray[np.int64], frame: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return numbers in the order of the rows; frames beside those of a track lie between it and the next."""
        beside = self.positive.max_frames + 1
        return track * (self.frame.max() + 2 * beside + 1) + frame + beside


def tracks_of(cells: pd.DataFrame) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return the numbers of the tracks of a table, in its order.

    Parameters
    ----------
    cells : pandas.DataFrame
        Sorted by experiment, position and track.

    Returns
    -------
    track : numpy.ndarray
        Number of each cell's track, shape (n_cells,).
    parent : numpy.ndarray
        Number of each track's mother, -1 where it has none, shape (n_tracks,).
    """
    place = cells.groupby(_TRACK[:2], observed=True, sort=False).ngroup().to_numpy()
    name = cells["track_id"].to_numpy(np.int64)
    begins = _changes(place) | _changes(name)
    track = np.cumsum(begins) - 1
    first = np.flatnonzero(begins)
    mother = cells["parent_track_id"].to_numpy(np.int64)[first]
    # By (place, name): names are unique within a place.
    order = np.lexsort((name[first], place[first]))
    names, code = np.unique(np.concatenate([name[first], mother]), return_inverse=True)
    key = place[first] * len(names) + code[: len(first)]
    wanted = place[first] * len(names) + code[len(first) :]
    found = order[np.minimum(np.searchsorted(key, wanted, sorter=order), len(first) - 1)]
    return track, np.where((key[found] == wanted) & (mother >= 0), found, -1)


def lineage_ids(cells: pd.DataFrame) -> NDArray[np.int64]:
    """Return the lineage of each cell: the number of the track that its own descends from.

    Parameters
    ----------
    cells : pandas.DataFrame
        Sorted by experiment, position and track; no track is its own ancestor.

    Returns
    -------
    numpy.ndarray
        Shape (n_cells,).
    """
    track, parent = tracks_of(cells)
    root = np.where(parent < 0, np.arange(len(parent)), parent)
    while not np.array_equal(root, further := root[root]):
        root = further
    return root[track]


def _near(
    begins: NDArray[np.int64], ends: NDArray[np.int64], ancestor: NDArray[np.int64], positive: PositiveConfig
) -> NDArray[np.bool_]:
    """Tell which ancestors are there, and late enough to have a cell that may be a positive."""
    return (ancestor >= 0) & (ends[ancestor] >= begins - positive.max_frames)


def _changes(values: NDArray) -> NDArray[np.bool_]:
    """Tell where a value differs from the one before it; the first does."""
    changed = np.ones(len(values), dtype=bool)
    np.not_equal(values[1:], values[:-1], out=changed[1:])
    return changed


def _spelt_out(start: NDArray[np.int64], stop: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return all numbers of some ranges, and which range each is of."""
    sizes = np.maximum(stop - start, 0)
    owner = np.repeat(np.arange(len(start)), sizes)
    within = np.arange(len(owner)) - np.repeat(np.cumsum(sizes) - sizes, sizes)
    return owner, start[owner] + within


def _pick(words: NDArray[np.float64], n: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return whole numbers below n, with equal chances; a word just below 1 may be rounded up."""
    return np.minimum((words * n).astype(np.int64), n - 1)
