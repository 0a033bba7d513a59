"""An epoch's tickets: which group a batch is of, and how many batches of that group come before it.

An epoch of T batches is T tickets on a line, of which each group owns a run as long as its share. They are dealt to
`n_chunks` chunks of at most CHUNK batches, a power of two, like cards to players: chunk after chunk, and the chunks
take their seats in bit-reversed order. So every chunk has of every group the floor or the ceiling of its share, a rare
group's tickets are spread over the epoch, and how many tickets of a run went to the chunks before a given one is a
small closed formula. Within a chunk the tickets are shuffled.

So the groups come in random order, each with its share, and batch k knows its *turn*, the number of batches of its
group that come before it, without any of them.
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
class Turns:
    """What batches are of; both fields have shape (n_batches,)."""

    group: NDArray[np.int64]
    """Group codes."""
    turn: NDArray[np.int64]
    """How many batches of the group come before."""

    def of_batches(self, which: NDArray | slice) -> Turns:
        """Return those of some of the batches."""
        return Turns(self.group[which], self.turn[which])


class Tickets:
    """The tickets of an epoch.

    Parameters
    ----------
    share
        Of the batches for each group, adding up to 1; shape (n_groups,).
    total
        Number of batches T. Batches from T on are the next *lap*: as many tickets again, dealt anew.
    offset
        Which way the shares are rounded, in units of 2**-24, in [0, 2**24).
    key
        Of the randomness, shape (1,).

    Attributes
    ----------
    longest_run
        Most batches that a group has in a lap.
    """

    def __init__(
        self, share: NDArray[np.float64], total: int, offset: NDArray[np.int64], key: NDArray[np.uint64]
    ) -> None:
        bound = rounding.cumulative(share[None] * total, total)
        self._run_bound = ((bound + offset[:, None]) >> rounding.BITS)[0]
        self.longest_run = int(np.diff(self._run_bound).max())
        self._total = total
        self._bits = max(0, (-(-total // CHUNK) - 1).bit_length())
        self._n_chunks = 1 << self._bits
        self._key = key

    def turns(self, batch: NDArray[np.int64]) -> Turns:
        """Return group and turn of batches, by their numbers; shape (n_batches,)."""
        lap, number = np.divmod(batch, self._total)
        key = derive(self._key, lap)
        seat = below(key, self._n_chunks).astype(np.int64)  # where the first chunk sits
        chunk, place = self._chunk_and_place(number, seat)
        first = self._first_ticket(chunk, seat)
        rounds = shuffled(derive(key, chunk), CHUNK, self._rounds_to(self._total, first))
        ticket = first + rounds[np.arange(len(batch)), place].astype(np.int64) * self._n_chunks

        group = np.searchsorted(self._run_bound, ticket, side="right") - 1
        run = self._run_bound[[group, group + 1]]
        start, stop = self._rounds_to(run, first).astype(np.uint8)[:, :, None]
        in_chunk = (np.arange(CHUNK, dtype=np.uint8) < place.astype(np.uint8)[:, None]) & (rounds >= start)
        in_chunk &= rounds < stop
        dealt = self._dealt_before(chunk, run, seat)
        return Turns(group, in_chunk.sum(axis=1) + dealt[1] - dealt[0] + lap * (run[1] - run[0]))

    def _first_ticket(self, chunk: NDArray[np.int64], seat: NDArray[np.int64]) -> NDArray[np.int64]:
        return (bit_reversal.reverse(chunk, self._bits) + seat) & (self._n_chunks - 1)

    def _rounds_to(self, bound: NDArray[np.int64] | int, first: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return how many of a chunk's tickets are below a bound: in how many rounds it got one."""
        return np.maximum(-((first - bound) >> self._bits), 0)

    def _chunk_and_place(
        self, number: NDArray[np.int64], seat: NDArray[np.int64]
    ) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Return the chunk that each batch is in, and how many batches of the chunk come before.

        It is the chunk that it would be in if all were equally large, or a neighbour.
        """
        chunk = number * self._n_chunks // self._total
        place = number - self._dealt_before(chunk, self._total, seat)
        is_before = place < 0
        chunk -= is_before
        size = self._rounds_to(self._total, self._first_ticket(chunk, seat))
        place += is_before * size
        is_behind = place >= size
        return chunk + is_behind, place - is_behind * size

    def _dealt_before(
        self, chunk: NDArray[np.int64], bound: NDArray[np.int64] | int, seat: NDArray[np.int64]
    ) -> NDArray[np.int64]:
        """Return how many of the tickets 0..bound-1 are in the chunks 0..chunk-1, for bounds of shape (..., n)."""
        # a full round gives each chunk one ticket; of the last one, the seats up to `rest` have a ticket
        rounds, rest = bound >> self._bits, bound & (self._n_chunks - 1)
        first = self._n_chunks - seat  # the seats from here, counted from the first chunk ...
        last = first + rest  # ... to here, which may be beyond the end and so around
        limits = np.empty((3, *last.shape), np.int64)
        np.minimum(last, self._n_chunks, out=limits[0])
        np.maximum(last - self._n_chunks, 0, out=limits[1])
        limits[2] = first
        to_last, around, to_first = bit_reversal.reversed_below(chunk, limits, self._bits)
        return chunk * rounds + to_last + around - to_first
