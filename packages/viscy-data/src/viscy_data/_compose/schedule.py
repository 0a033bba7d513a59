"""The schedule of an epoch: which group each batch is of, and its index within the group.

An epoch of T batches has T entries, sorted by group: each group owns a range of entries as long as its share. The
entries are distributed round-robin over `n_chunks` chunks of consecutive batches. `n_chunks` is a power of two, a chunk
has at most CHUNK batches, and the chunks take part in bit-reversed order, starting at a random one. So every chunk
holds the floor or the ceiling of each group's share, the batches of a rare group are spread over the epoch, and the
number of a group's entries in all chunks before a given one is a small closed formula. Within a chunk the entries are
shuffled.

So groups come in random order, each with its share, and batch k knows its index within its group (how many earlier
batches are of the same group) without looking at any of them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from viscy_data._compose import bit_reversal, rounding
from viscy_data._random.hash import below, derive, shuffled

if TYPE_CHECKING:
    from numpy.typing import NDArray

CHUNK = 64


@dataclass(frozen=True, slots=True, eq=False)
class Scheduled:
    """Batches as the schedule has them; both fields have shape (n_batches,)."""

    group: NDArray[np.int64]
    """Group codes."""
    index: NDArray[np.int64]
    """Index within the group: the number of earlier batches of the same group."""

    def take(self, which: NDArray | slice) -> Scheduled:
        """Return some of the batches."""
        return Scheduled(self.group[which], self.index[which])


class Schedule:
    """The schedule of an epoch.

    Parameters
    ----------
    share
        Share of the batches for each group, adding up to 1; shape (n_groups,).
    total
        Number of batches T. The batches from T on are the next *cycle*: T entries again, in a new order.
    offset
        Random rounding offset of the shares, in units of 2**-24, in [0, 2**24).
    key
        Key of the schedule's randomness, shape (1,).

    Attributes
    ----------
    batches_in_cycle
        Number of batches that each group has in one cycle, shape (n_groups,).
    """

    def __init__(
        self, share: NDArray[np.float64], total: int, offset: NDArray[np.int64], key: NDArray[np.uint64]
    ) -> None:
        bound = rounding.cumulative(share[None] * total, total)
        self._group_bound = ((bound + offset[:, None]) >> rounding.BITS)[0]
        self.batches_in_cycle = np.diff(self._group_bound)
        self._total = total
        self._bits = max(0, (-(-total // CHUNK) - 1).bit_length())
        self._n_chunks = 1 << self._bits
        self._key = key

    def look_up(self, batch: NDArray[np.int64]) -> Scheduled:
        """Return group and index within the group of batches, given by number; shape (n_batches,)."""
        cycle, number = np.divmod(batch, self._total)
        key = derive(self._key, cycle)
        rotation = below(key, self._n_chunks).astype(np.int64)
        chunk, within = self._locate(number, rotation)
        first = self._first_entry(chunk, rotation)
        order = shuffled(derive(key, chunk), CHUNK, self._count_entries(self._total, first))
        entry = first + order[np.arange(len(batch)), within].astype(np.int64) * self._n_chunks

        group = np.searchsorted(self._group_bound, entry, side="right") - 1
        bound = self._group_bound[[group, group + 1]]
        start, stop = self._count_entries(bound, first).astype(np.uint8)[:, :, None]
        is_earlier = (np.arange(CHUNK, dtype=np.uint8) < within.astype(np.uint8)[:, None]) & (order >= start)
        is_earlier &= order < stop
        before = self._entries_before(chunk, bound, rotation)
        return Scheduled(group, is_earlier.sum(axis=1) + before[1] - before[0] + cycle * (bound[1] - bound[0]))

    def _first_entry(self, chunk: NDArray[np.int64], rotation: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return the first entry of each chunk; the others follow at intervals of `n_chunks`."""
        return (bit_reversal.reverse(chunk, self._bits) + rotation) & (self._n_chunks - 1)

    def _count_entries(self, bound: NDArray[np.int64] | int, first: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return how many entries of a chunk, given by its first entry, are below a bound."""
        return np.maximum(-((first - bound) >> self._bits), 0)

    def _locate(
        self, number: NDArray[np.int64], rotation: NDArray[np.int64]
    ) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Return the chunk of each batch, and the number of earlier batches in the chunk.

        The chunk is the one it would be if all chunks were equally large, or a neighbor of that chunk.
        """
        chunk = number * self._n_chunks // self._total
        within = number - self._entries_before(chunk, self._total, rotation)
        is_before = within < 0
        chunk -= is_before
        size = self._count_entries(self._total, self._first_entry(chunk, rotation))
        within += is_before * size
        is_after = within >= size
        return chunk + is_after, within - is_after * size

    def _entries_before(
        self, chunk: NDArray[np.int64], bound: NDArray[np.int64] | int, rotation: NDArray[np.int64]
    ) -> NDArray[np.int64]:
        """Return how many of the entries 0..bound-1 are in the chunks 0..chunk-1, for bounds of shape (..., n)."""
        # A full round gives each chunk one entry. In the last one, the chunks have an entry whose reversed number is
        # within `rest` of `first`, modulo n_chunks.
        rounds, rest = bound >> self._bits, bound & (self._n_chunks - 1)
        first = self._n_chunks - rotation
        last = first + rest  # may exceed n_chunks and wrap around
        limits = np.empty((3, *last.shape), np.int64)
        np.minimum(last, self._n_chunks, out=limits[0])
        np.maximum(last - self._n_chunks, 0, out=limits[1])
        limits[2] = first
        to_last, wrapped, to_first = bit_reversal.reversed_below(chunk, limits, self._bits)
        return chunk * rounds + to_last + wrapped - to_first
