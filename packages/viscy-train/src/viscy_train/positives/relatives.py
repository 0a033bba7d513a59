"""Relatives: the tracks of the ancestors and descendants of each track, in the channels that a positive may have."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray


@dataclass(frozen=True, kw_only=True)
class ChannelTracks:
    """The tracks of each cell, one for each of its channels, where a row of a table is a cell in one channel.

    Parameters
    ----------
    cell : numpy.ndarray
        Cell of each track, shape (n_tracks,). Here a cell begins and ends like a track, at divisions.
    first, tracks : numpy.ndarray
        ``tracks[first[i]:first[i + 1]]`` are the tracks of cell i.
    channel : numpy.ndarray
        Number of the channel of each track, shape (n_tracks,).
    permitted : str
        Channels of the relatives of a track: the ``same``, an ``other``, or ``any``.
    """

    cell: NDArray[np.int64]
    first: NDArray[np.int64]
    tracks: NDArray[np.int64]
    channel: NDArray[np.int64]
    permitted: str

    @classmethod
    def of(cls, cell: NDArray[np.int64], channel: NDArray[np.int64], permitted: str) -> ChannelTracks:
        """Group tracks by their cells, numbered from 0."""
        order = np.argsort(cell, kind="stable")
        first = np.searchsorted(cell[order], np.arange(cell.max() + 2))
        return cls(cell=cell, first=first, tracks=order, channel=channel, permitted=permitted)

    def expand(
        self, track: NDArray[np.int64], slots: NDArray[np.int64], cells: NDArray[np.int64]
    ) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Replace each cell, a relative of the track of its slot, by its tracks in the permitted channels."""
        owner, index = expand_ranges(self.first[cells], self.first[cells + 1])
        slots, found = slots[owner], self.tracks[index]
        if self.permitted == "any":
            return slots, found
        is_same = self.channel[found] == self.channel[track[slots]]
        is_kept = is_same if self.permitted == "same" else ~is_same
        return slots[is_kept], found[is_kept]


@dataclass(frozen=True, kw_only=True)
class Relatives:
    """The relatives of each cell, itself included: its ancestors and its descendants.

    Parameters
    ----------
    first, cells : numpy.ndarray
        ``cells[first[i]:first[i + 1]]`` are the relatives of cell i. Some that are too far away in time to contain a
        positive are left out.
    channels : ChannelTracks, optional
        The tracks of the cells; without them, cells and tracks are the same.
    """

    first: NDArray[np.int64]
    cells: NDArray[np.int64]
    channels: ChannelTracks | None = None

    @classmethod
    def of(
        cls,
        parent: NDArray[np.int64],
        starts: NDArray[np.int64],
        ends: NDArray[np.int64],
        largest: NDArray[np.int64],
        channels: ChannelTracks | None = None,
    ) -> Relatives:
        """Find the relatives of cells.

        Parameters
        ----------
        parent : numpy.ndarray
            Number of the mother of each cell, -1 if it has none, shape (n_cells,).
        starts, ends : numpy.ndarray
            First and last frame of each cell.
        largest : numpy.ndarray
            Largest number of frames between an anchor and its positive, for each cell.
        channels : ChannelTracks, optional
            The tracks of the cells.

        Returns
        -------
        Relatives
            The relatives.
        """
        own = np.arange(len(parent))
        pairs = [np.stack([own, own], axis=1)]
        descendant, ancestor = own, parent.copy()
        while len(descendant):
            earliest = starts[descendant] - largest[descendant]
            is_near = (ancestor >= 0) & (ends[ancestor] >= earliest)
            descendant, ancestor = descendant[is_near], ancestor[is_near]
            pairs += [np.stack([descendant, ancestor], axis=1), np.stack([ancestor, descendant], axis=1)]
            ancestor = parent[ancestor]
        related = np.concatenate(pairs)
        related = related[np.lexsort((related[:, 1], related[:, 0]))]
        first = np.searchsorted(related[:, 0], np.arange(len(parent) + 1))
        return cls(first=first, cells=np.ascontiguousarray(related[:, 1]), channels=channels)

    def of_tracks(self, track: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Return the related tracks of some tracks as pairs: index into `track`, and the related track."""
        cell = track if self.channels is None else self.channels.cell[track]
        slots, index = expand_ranges(self.first[cell], self.first[cell + 1])
        if self.channels is None:
            return slots, self.cells[index]
        return self.channels.expand(track, slots, self.cells[index])


def expand_ranges(start: NDArray[np.int64], stop: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return all numbers of some ranges: the index of each number's range, and the number."""
    sizes = np.maximum(stop - start, 0)
    owner = np.repeat(np.arange(len(start)), sizes)
    within = np.arange(len(owner)) - np.repeat(np.cumsum(sizes) - sizes, sizes)
    return owner, start[owner] + within
