"""Lineages: the ancestors and descendants of each cell, and the choice of a positive among them."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import pandas as pd
    from numpy.typing import NDArray

    from viscy_train.config.schema import PositiveConfig

_POSITION = ["experiment", "position"]
_ROWS_PER_CHUNK = 2**16


@dataclass(frozen=True, kw_only=True)
class Lineages:
    """The related tracks of each observation: its own track, the ancestors of that track, and its descendants.

    Parameters
    ----------
    track, frame : numpy.ndarray
        Track number and frame of each observation, shape (n_observations,). Track numbers ascend over the rows, frames
        within a track.
    first_relative, relatives : numpy.ndarray
        ``relatives[first_relative[i]:first_relative[i + 1]]`` are the relatives of track i, itself included. Some
        tracks that are too far away in time to contain a positive are left out.
    positive : PositiveConfig
        Which frames may be positives.
    """

    track: NDArray[np.int64]
    frame: NDArray[np.int64]
    first_relative: NDArray[np.int64]
    relatives: NDArray[np.int64]
    positive: PositiveConfig

    @classmethod
    def of(cls, observations: pd.DataFrame, positive: PositiveConfig) -> Lineages:
        """Find the lineages of a table.

        Parameters
        ----------
        observations : pandas.DataFrame
            Sorted by experiment, position, track and frame, as in an `AnchorTable`; `parent_track_id` is -1 for a track
            without a mother.
        positive : PositiveConfig
            Which frames may be positives.

        Returns
        -------
        Lineages
            The lineages of the table.
        """
        track, parent = number_tracks(observations)
        frame = observations["t"].to_numpy(np.int64)
        first = np.flatnonzero(np.diff(track, prepend=-1))
        starts, ends = frame[first], frame[np.append(first[1:], len(track)) - 1]
        pairs = [np.stack([np.arange(len(parent))] * 2, axis=1)]
        descendant, ancestor = np.arange(len(parent)), parent.copy()
        while len(descendant := descendant[(near := _is_near(starts[descendant], ends, ancestor, positive))]):
            ancestor = ancestor[near]
            pairs += [np.stack([descendant, ancestor], axis=1), np.stack([ancestor, descendant], axis=1)]
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
        """Return which observations have at least one possible positive, shape (n_observations,)."""
        found = np.zeros(len(self.track), dtype=bool)
        for start in range(0, len(found), _ROWS_PER_CHUNK):
            rows = np.arange(start, min(start + _ROWS_PER_CHUNK, len(found)))
            slots, start, stop = self._candidate_ranges(rows)
            found[rows[slots[stop > start]]] = True
        return found

    def choose(
        self, rows: NDArray[np.int64], frame_draws: NDArray[np.float64], relative_draws: NDArray[np.float64]
    ) -> NDArray[np.int64]:
        """Choose a positive for each anchor.

        First a frame is drawn uniformly from the permitted frames in which a relative was observed, then one of the
        relatives in that frame.

        Parameters
        ----------
        rows : numpy.ndarray
            Rows of the anchors, shape (n,).
        frame_draws, relative_draws : numpy.ndarray
            Uniform random numbers in [0, 1), shape (n,): for the frame, and for the relative in it.

        Returns
        -------
        numpy.ndarray
            Rows of the positives, shape (n,). Each depends only on its own row and random numbers.

        Raises
        ------
        ValueError
            If a row has no positive.
        """
        slots, found = self._candidates(rows)
        order = np.lexsort((found, self.frame[found], slots))
        slots, found = slots[order], found[order]
        frame_starts = np.flatnonzero(starts_run(slots) | starts_run(self.frame[found]))
        n_in_frame = np.diff(frame_starts, append=len(found))
        first_frame = np.searchsorted(slots[frame_starts], np.arange(len(rows)))
        n_frames = np.diff(first_frame, append=len(frame_starts))
        if not n_frames.all():
            raise ValueError(f"rows must have a positive, row {rows[np.argmin(n_frames)]} has none")
        chosen = first_frame + _scale(frame_draws, n_frames)
        return found[frame_starts[chosen] + _scale(relative_draws, n_in_frame[chosen])]

    def _candidates(self, rows: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Return the possible positives as pairs: index into `rows`, and row of the candidate."""
        slots, start, stop = self._candidate_ranges(rows)
        owner, found = _expand_ranges(start, stop)
        return slots[owner], found

    def _candidate_ranges(
        self, rows: NDArray[np.int64]
    ) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
        """Return the possible positives as row ranges, some empty: index into `rows`, first row, and end."""
        track = self.track[rows]
        slots, index = _expand_ranges(self.first_relative[track], self.first_relative[track + 1])
        relative, now = self.relatives[index], self.frame[rows][slots]
        nearest, furthest = self.positive.min_frames, self.positive.max_frames
        start = [self._first_row(relative, now - furthest), self._first_row(relative, now + nearest)]
        stop = [self._first_row(relative, now - nearest + 1), self._first_row(relative, now + furthest + 1)]
        return np.concatenate([slots, slots]), np.concatenate(start), np.concatenate(stop)

    def _first_row(self, track: NDArray[np.int64], frame: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return the first row of a track at or after a frame; if there is none, the row after the track."""
        return np.searchsorted(self._sort_keys, self._sort_key(track, frame))

    @cached_property
    def _sort_keys(self) -> NDArray[np.int64]:
        return self._sort_key(self.track, self.frame)

    def _sort_key(self, track: NDArray[np.int64], frame: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return numbers that ascend over the rows.

        Frames up to `max_frames` before or after those of the table still sort between the neighboring tracks.
        """
        margin = self.positive.max_frames + 1
        return track * (self.frame.max() + 2 * margin + 1) + frame + margin


def number_tracks(observations: pd.DataFrame) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return track numbers, counted in the order of a table.

    Parameters
    ----------
    observations : pandas.DataFrame
        Sorted by experiment, position and track.

    Returns
    -------
    track : numpy.ndarray
        Track number of each observation, shape (n_observations,).
    parent : numpy.ndarray
        Number of each track's mother, -1 if it has none, shape (n_tracks,).
    """
    position = observations.groupby(_POSITION, observed=True, sort=False).ngroup().to_numpy()
    track_id = observations["track_id"].to_numpy(np.int64)
    is_first = starts_run(position) | starts_run(track_id)
    track = np.cumsum(is_first) - 1
    first = np.flatnonzero(is_first)
    mother_id = observations["parent_track_id"].to_numpy(np.int64)[first]
    # Track ids are unique within a position, so a track is found by (position, track id).
    order = np.lexsort((track_id[first], position[first]))
    ids, code = np.unique(np.concatenate([track_id[first], mother_id]), return_inverse=True)
    key = position[first] * len(ids) + code[: len(first)]
    mother_key = position[first] * len(ids) + code[len(first) :]
    found = order[np.minimum(np.searchsorted(key, mother_key, sorter=order), len(first) - 1)]
    return track, np.where((key[found] == mother_key) & (mother_id >= 0), found, -1)


def lineage_ids(observations: pd.DataFrame) -> NDArray[np.int64]:
    """Return the lineage of each observation: the number of its track's first ancestor.

    Parameters
    ----------
    observations : pandas.DataFrame
        Sorted by experiment, position and track; no track is its own ancestor.

    Returns
    -------
    numpy.ndarray
        Shape (n_observations,).
    """
    track, parent = number_tracks(observations)
    root = np.where(parent < 0, np.arange(len(parent)), parent)
    while not np.array_equal(root, next_root := root[root]):
        root = next_root
    return root[track]


def _is_near(
    starts: NDArray[np.int64], ends: NDArray[np.int64], ancestor: NDArray[np.int64], positive: PositiveConfig
) -> NDArray[np.bool_]:
    """Return which ancestors exist and end late enough to contain a possible positive."""
    return (ancestor >= 0) & (ends[ancestor] >= starts - positive.max_frames)


def starts_run(values: NDArray) -> NDArray[np.bool_]:
    """Return where a value differs from the one before; True for the first."""
    starts = np.ones(len(values), dtype=bool)
    np.not_equal(values[1:], values[:-1], out=starts[1:])
    return starts


def _expand_ranges(start: NDArray[np.int64], stop: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return all numbers of some ranges: the index of each number's range, and the number."""
    sizes = np.maximum(stop - start, 0)
    owner = np.repeat(np.arange(len(start)), sizes)
    within = np.arange(len(owner)) - np.repeat(np.cumsum(sizes) - sizes, sizes)
    return owner, start[owner] + within


def _scale(draws: NDArray[np.float64], n: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return integers in [0, n) for uniform numbers in [0, 1); a product just below n may be rounded up to n."""
    return np.minimum((draws * n).astype(np.int64), n - 1)
