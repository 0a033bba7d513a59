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

from viscy_data import _reversal, _rounding
from viscy_data._mix import below, derive

if TYPE_CHECKING:
    from numpy.typing import NDArray

CHUNK = 64
_SEATS, _SHUFFLE = range(2)


@dataclass(frozen=True, slots=True, eq=False)
class Turns:
    """What batches are of; both fields have shape (n_batches,)."""

    group: NDArray[np.int64]
    """Group codes."""
    turn: NDArray[np.int64]
    """How many batches of the group come before."""


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
    """

    def __init__(
        self, share: NDArray[np.float64], total: int, offset: NDArray[np.int64], key: NDArray[np.uint64]
    ) -> None:
        bound = _rounding.cumulative(share[None] * total, total)
        self._run_bound = ((bound + offset[:, None]) >> _rounding.BITS)[0]
        self._total = total
        self._bits = max(0, (-(-total // CHUNK) - 1).bit_length())
        self._n_chunks = 1 << self._bits
        self._key = key

    def turns(self, batch: NDArray[np.int64]) -> Turns:
        """Return group and turn of batches, by their numbers; shape (n_batches,)."""
        lap, number = batch // self._total, batch % self._total
        key = derive(self._key, lap)
        seat = below(derive(key, _SEATS), self._n_chunks).astype(np.int64)  # where the first chunk sits
        chunk = self._chunk_of(number, seat)
        place = number - self._dealt_before(chunk, self._total, seat)
        first = (_reversal.reverse(chunk, self._bits) + seat) % self._n_chunks  # the chunk's first ticket
        shuffled = self._shuffled(first, derive(key, _SHUFFLE, chunk))
        ticket = first + shuffled[np.arange(len(batch)), place] * self._n_chunks

        group = np.searchsorted(self._run_bound, ticket, side="right") - 1
        start, stop = self._run_bound[group], self._run_bound[group + 1]
        others = first[:, None] + shuffled * self._n_chunks
        earlier = np.arange(CHUNK) < place[:, None]
        in_chunk = (earlier & (others >= start[:, None]) & (others < stop[:, None])).sum(axis=1)
        in_chunks_before = self._dealt_before(chunk, stop, seat) - self._dealt_before(chunk, start, seat)
        return Turns(group, in_chunk + in_chunks_before + lap * (stop - start))

    def _chunk_of(self, number: NDArray[np.int64], seat: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return the chunk that each batch is in: next to the one it would be in if all were equally large."""
        chunk = number * self._n_chunks // self._total
        chunk -= self._dealt_before(chunk, self._total, seat) > number
        chunk += self._dealt_before(chunk + 1, self._total, seat) <= number
        return chunk

    def _dealt_before(
        self, chunk: NDArray[np.int64], bound: NDArray[np.int64] | int, seat: NDArray[np.int64]
    ) -> NDArray[np.int64]:
        """Return how many of the tickets 0..bound-1 are in the chunks 0..chunk-1."""
        # a full round gives each chunk one ticket; of the last one, the seats up to `rest` have a ticket
        rounds, rest = bound >> self._bits, bound % self._n_chunks
        first, last = self._n_chunks - seat, self._n_chunks - seat + rest  # these seats, counted from the first chunk
        within = _reversal.reversed_below(chunk, np.minimum(last, self._n_chunks), self._bits)
        within -= _reversal.reversed_below(chunk, first, self._bits)
        around = _reversal.reversed_below(chunk, np.maximum(last - self._n_chunks, 0), self._bits)
        return chunk * rounds + within + around

    def _shuffled(self, first: NDArray[np.int64], key: NDArray[np.uint64]) -> NDArray[np.int64]:
        """Return the rounds in which a chunk's tickets were dealt, in random order, shape (n_batches, CHUNK)."""
        rounds = np.arange(CHUNK)
        words = derive(key[:, None], rounds)
        not_dealt = first[:, None] + rounds * self._n_chunks >= self._total
        words[not_dealt] = np.iinfo(np.uint64).max  # to the end
        return np.argsort(words, axis=1, kind="stable")
