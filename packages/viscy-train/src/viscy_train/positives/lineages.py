"""Lineages: the ancestors and descendants of each cell, and the choice of a positive among them."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import pandas as pd

from viscy_train.positives.choice import choose_weighted, scale
from viscy_train.positives.frame_range import FrameRange, fixed_range
from viscy_train.positives.relatives import ChannelTracks, Relatives, expand_ranges

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from numpy.typing import NDArray

    from viscy_train.config.schema import PositiveConfig

_POSITION = ["experiment", "position"]
CHANNEL = "channel"
"""Column of a table whose rows are a cell in one channel."""
_ROWS_PER_CHUNK = 2**16


type FrameDraws = Callable[[NDArray[np.int64], NDArray[np.int64]], NDArray[np.float64]]
"""Function of indices of anchors and of frames that returns uniform random numbers in (0, 1)."""


class _Frames(NamedTuple):
    """The permitted frames of some anchors, one anchor after the other, each with the relatives observed in it."""

    slot: NDArray[np.int64]
    """Index of the anchor that each frame is of, shape (n_frames,)."""
    frame: NDArray[np.int64]
    """Number of the frame, ascending for an anchor."""
    first: NDArray[np.int64]
    """Index of the first frame of each anchor, shape (n,)."""
    count: NDArray[np.int64]
    """Number of frames of each anchor."""
    start: NDArray[np.int64]
    """Index of the first relative of each frame."""
    relatives: NDArray[np.int64]
    """Rows of the relatives."""

    def relative(self, chosen: NDArray[np.int64], draws: NDArray[np.float64]) -> NDArray[np.int64]:
        """Return a relative in each of some frames, given by index and a uniform random number for each."""
        n_relatives = np.diff(self.start, append=len(self.relatives))[chosen]
        return self.relatives[self.start[chosen] + scale(draws, n_relatives)]


@dataclass(frozen=True, kw_only=True)
class Lineages:
    """The related tracks of each observation: its own track, the ancestors of that track, and its descendants.

    Parameters
    ----------
    track, frame : numpy.ndarray
        Track number and frame of each observation, shape (n_observations,). Track numbers ascend over the rows, frames
        within a track.
    relatives : Relatives
        The relatives of each track.
    smallest, largest : numpy.ndarray
        Smallest and largest number of frames between an anchor and its positive, for each track.
    decay : float
        How much likelier near frames are, see `viscy_train.config.schema.PositiveConfig`.
    sort_keys : numpy.ndarray, optional
        What `sort_key` gives for the observations, shape (n_observations,), if it is known.
    """

    track: NDArray[np.int64]
    frame: NDArray[np.int64]
    relatives: Relatives
    smallest: NDArray[np.int64]
    largest: NDArray[np.int64]
    decay: float
    sort_keys: NDArray[np.int64] | None = None

    @classmethod
    def of(
        cls, observations: pd.DataFrame, positive: PositiveConfig, ranges: Mapping[str, FrameRange] | None = None
    ) -> Lineages:
        """Find the lineages of a table.

        Parameters
        ----------
        observations : pandas.DataFrame
            Sorted by experiment, position, channel if there is such a column, track and frame, as in an `AnchorTable`;
            `parent_track_id` is -1 for a track without a mother.
        positive : PositiveConfig
            Which observations may be positives.
        ranges : mapping of str to FrameRange, optional
            The permitted frames of each experiment; by default, those that `positive` gives in frames.

        Returns
        -------
        Lineages
            The lineages of the table.
        """
        track, parent = number_tracks(observations)
        frame = observations["t"].to_numpy(np.int64)
        first = np.flatnonzero(np.diff(track, prepend=-1))
        starts, ends = frame[first], frame[np.append(first[1:], len(track)) - 1]
        used = [name for name in (*_POSITION, CHANNEL, "track_id", "parent_track_id") if name in observations]
        tracks = observations[used].iloc[first]
        smallest, largest = _bounds(tracks, positive, ranges)
        channels = None
        of_cells = parent, starts, ends, largest
        if CHANNEL in observations:
            channels, of_cells = _cells_of_channels(tracks, starts, ends, largest, positive.channel)
        lineages = cls(
            track=track,
            frame=frame,
            relatives=Relatives.of(*of_cells, channels),
            smallest=smallest,
            largest=largest,
            decay=positive.decay,
        )
        _ = lineages._sort_keys  # now, so that data workers do not compute it each
        return lineages

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

        First a frame is drawn from the permitted frames in which a relative was observed, then one of the relatives in
        that frame.

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
        frames = self._frames(rows)
        if self.decay:
            weights = self._log_weights(rows[frames.slot], frames.frame)
            chosen = frames.first + choose_weighted(weights, frames.count, frame_draws)
        else:
            chosen = frames.first + scale(frame_draws, frames.count)
        return frames.relative(chosen, relative_draws)

    def choose_together(
        self,
        rows: NDArray[np.int64],
        draw: FrameDraws,
        _: NDArray[np.float64],
        relative_draws: NDArray[np.float64],
    ) -> NDArray[np.int64]:
        """Choose a positive for each anchor, with equal frames for anchors that have the same permitted frames.

        Every frame has a random number, and the permitted frame with the largest one is chosen, which is each of them
        with equal probability. With decay, the numbers are raised to the power of the inverse weight: the largest is
        that of a frame with a probability in proportion to its weight (P. Efraimidis and P. Spirakis, "Weighted random
        sampling with a reservoir", 2006). So each positive is as likely as with `choose`, and anchors of a position,
        whose permitted frames are nearly the same, mostly have positives in the same frame.

        Parameters
        ----------
        rows : numpy.ndarray
            Rows of the anchors, shape (n,).
        draw : callable
            Function of indices into `rows` and of frames, both of shape (m,), that returns uniform random numbers in
            (0, 1), shape (m,), which anchors of a position share.
        relative_draws : numpy.ndarray
            As for `choose`.

        Returns
        -------
        numpy.ndarray
            Rows of the positives, shape (n,).

        Raises
        ------
        ValueError
            If a row has no positive.
        """
        frames = self._frames(rows)
        rank = draw(frames.slot, frames.frame)
        if self.decay:  # the logarithm of -log(number) / weight, with the sign that puts the largest number last
            rank = self._log_weights(rows[frames.slot], frames.frame) - np.log(-np.log(rank))
        last = np.append(frames.first[1:], len(rank)) - 1
        return frames.relative(np.lexsort((rank, frames.slot))[last], relative_draws)

    def _frames(self, rows: NDArray[np.int64]) -> _Frames:
        """Return the permitted frames of some anchors; ValueError if one has none."""
        slots, found = self._candidates(rows)
        order = np.lexsort((found, self.frame[found], slots))
        slots, found = slots[order], found[order]
        starts = np.flatnonzero(starts_run(slots) | starts_run(self.frame[found]))
        first = np.searchsorted(slots[starts], np.arange(len(rows)))
        count = np.diff(first, append=len(starts))
        if not count.all():
            raise ValueError(f"rows must have a positive, row {rows[np.argmin(count)]} has none")
        return _Frames(slots[starts], self.frame[found[starts]], first, count, starts, found)

    def _log_weights(self, rows: NDArray[np.int64], frames: NDArray[np.int64]) -> NDArray[np.float64]:
        """Return the logarithm of the weight of some frames for some anchors."""
        track = self.track[rows]
        distance = np.abs(frames - self.frame[rows]) - self.smallest[track]
        return -self.decay * distance / np.maximum(self.largest[track] - self.smallest[track], 1)

    def _candidates(self, rows: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Return the possible positives as pairs: index into `rows`, and row of the candidate."""
        slots, start, stop = self._candidate_ranges(rows)
        owner, found = expand_ranges(start, stop)
        return slots[owner], found

    def _candidate_ranges(
        self, rows: NDArray[np.int64]
    ) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
        """Return the possible positives as row ranges, some empty: index into `rows`, first row, and end."""
        track = self.track[rows]
        slots, relative = self.relatives.of_tracks(track)
        now = self.frame[rows][slots]
        nearest, furthest = self.smallest[track][slots], self.largest[track][slots]
        start = [self._first_row(relative, now - furthest), self._first_row(relative, now + np.maximum(nearest, 1))]
        stop = [self._first_row(relative, now - nearest + 1), self._first_row(relative, now + furthest + 1)]
        return np.concatenate([slots, slots]), np.concatenate(start), np.concatenate(stop)

    def _first_row(self, track: NDArray[np.int64], frame: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return the first row of a track at or after a frame; if there is none, the row after the track."""
        return np.searchsorted(self._sort_keys, sort_key(track, frame, self._last_frame))

    @cached_property
    def _sort_keys(self) -> NDArray[np.int64]:
        return sort_key(self.track, self.frame, self._last_frame) if self.sort_keys is None else self.sort_keys

    @cached_property
    def _last_frame(self) -> int:
        return int(self.frame.max())


def sort_key(track: NDArray[np.int64], frame: NDArray[np.int64], last: int) -> NDArray[np.int64]:
    """Return numbers that ascend over the rows of a table, given its last frame.

    Frames before or after those of the table sort between the neighboring tracks.
    """
    return track * (last + 3) + np.clip(frame, -1, last + 1) + 1


def number_tracks(observations: pd.DataFrame) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return track numbers, counted in the order of a table.

    Parameters
    ----------
    observations : pandas.DataFrame
        Sorted by experiment, position, channel if there is such a column, and track.

    Returns
    -------
    track : numpy.ndarray
        Track number of each observation, shape (n_observations,).
    parent : numpy.ndarray
        Number of each track's mother, -1 if it has none, shape (n_tracks,).
    """
    of_position = [*_POSITION, CHANNEL] if CHANNEL in observations else _POSITION
    position = observations.groupby(of_position, observed=True, sort=False).ngroup().to_numpy()
    track_id = observations["track_id"].to_numpy(np.int64)
    is_first = starts_run(position) | starts_run(track_id)
    track = np.cumsum(is_first) - 1
    first = np.flatnonzero(is_first)
    mother_id = observations["parent_track_id"].to_numpy(np.int64)[first]
    # Track ids are unique within a position and channel, so a track is found by both.
    order = np.lexsort((track_id[first], position[first]))
    ids, code = np.unique(np.concatenate([track_id[first], mother_id]), return_inverse=True)
    key = position[first] * len(ids) + code[: len(first)]
    mother_key = position[first] * len(ids) + code[len(first) :]
    found = order[np.minimum(np.searchsorted(key, mother_key, sorter=order), len(first) - 1)]
    return track, np.where((key[found] == mother_key) & (mother_id >= 0), found, -1)


def lineage_ids(observations: pd.DataFrame) -> NDArray[np.int64]:
    """Return the lineage of each observation: the number of its track's first ancestor.

    Daughters of a mother who is not in the table are of one lineage, that of the first of them.

    Parameters
    ----------
    observations : pandas.DataFrame
        Sorted by experiment, position, channel if there is such a column, and track; no track is its own ancestor. All
        channels of a position have the same tracks.

    Returns
    -------
    numpy.ndarray
        Shape (n_observations,). The channels of a cell share its lineage.
    """
    if CHANNEL in observations:
        return _lineages_of_channels(observations)
    track, parent = number_tracks(observations)
    root = np.where(parent < 0, _first_sisters(observations, track), parent)
    while not np.array_equal(root, next_root := root[root]):
        root = next_root
    return root[track]


def _first_sisters(observations: pd.DataFrame, track: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return the first track of the same position with the same mother, for each track; itself without a mother."""
    tracks = observations[[*_POSITION, "parent_track_id"]].iloc[np.flatnonzero(np.diff(track, prepend=-1))]
    number = np.arange(len(tracks))
    with_mother = (tracks["parent_track_id"] >= 0).to_numpy()
    sisters = (
        tracks[with_mother].groupby([*_POSITION, "parent_track_id"], observed=True, sort=False).ngroup().to_numpy()
    )
    _, first = np.unique(sisters, return_index=True)
    number[with_mother] = number[with_mother][first[sisters]]
    return number


def _lineages_of_channels(observations: pd.DataFrame) -> NDArray[np.int64]:
    position = observations.groupby(_POSITION, observed=True, sort=False).ngroup().to_numpy()
    # Within a position, observations of the first channel come first, and those of the others follow in equal order.
    starts = np.flatnonzero(starts_run(position))
    channel: Any = observations[CHANNEL]
    code = channel.array.codes
    is_first = code == np.repeat(code[starts], np.diff(starts, append=len(code)))
    of_first = lineage_ids(observations[is_first].drop(columns=CHANNEL))
    n_rows = np.bincount(position[is_first])
    row = np.arange(len(position)) - starts[position]
    return of_first[(np.cumsum(n_rows) - n_rows)[position] + row % n_rows[position]]


def _bounds(
    tracks: pd.DataFrame, positive: PositiveConfig, ranges: Mapping[str, FrameRange] | None
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return the smallest and the largest number of frames to a positive, for each track."""
    names, experiments = pd.factorize(tracks["experiment"])
    of_names = [fixed_range(positive) if ranges is None else ranges[str(name)] for name in experiments]
    bounds = np.array([(one.smallest, one.largest) for one in of_names], dtype=np.int64).reshape(-1, 2)[names]
    return bounds[:, 0], bounds[:, 1]


def _cells_of_channels(
    tracks: pd.DataFrame, starts: NDArray[np.int64], ends: NDArray[np.int64], largest: NDArray[np.int64], channel: str
) -> tuple[ChannelTracks, tuple[NDArray[np.int64], ...]]:
    """Return the cells of tracks in several channels, and their mothers, first and last frames, and largest ranges."""
    position = tracks.groupby(_POSITION, observed=True, sort=False).ngroup().to_numpy()
    order = np.lexsort((tracks["track_id"].to_numpy(), position))
    cells = tracks.iloc[order].drop(columns=CHANNEL)
    cell = np.empty(len(tracks), dtype=np.int64)
    cell[order], parent = number_tracks(cells)
    first, last, furthest = np.full(len(parent), np.iinfo(np.int64).max), *np.full((2, len(parent)), -1)
    np.minimum.at(first, cell, starts)
    np.maximum.at(last, cell, ends)
    np.maximum.at(furthest, cell, largest)
    names: Any = tracks[CHANNEL]
    code = pd.factorize(names)[0].astype(np.int64)
    return ChannelTracks.of(cell, code, channel), (parent, first, last, furthest)


def starts_run(values: NDArray) -> NDArray[np.bool_]:
    """Return where a value differs from the one before; True for the first."""
    starts = np.ones(len(values), dtype=bool)
    np.not_equal(values[1:], values[:-1], out=starts[1:])
    return starts
