"""Systematic rounding: fractional quotas become whole slots, without favour and without memory.

The quotas of a batch are laid end to end on a line and cut at the points `i - offset` for whole i; each part gets the
slots whose points fall on it (W. G. Madow, "On the Theory of Systematic Sampling, II", Ann. Math. Stat. 20, 1949). So
every part, and every run of neighbouring parts, gets the floor or the ceiling of its quota, the whole gets all slots,
and over offsets that fill [0, 1) evenly each part gets exactly its quota on average.

The offsets of 64**m turns fall one into each of 64**m equal intervals, turn after turn: they are the numbers of the
turns in base 64, the digits in reversed order (J. G. van der Corput, 1935) and each scrambled by a permutation (A. B.
Owen, "Randomly Permuted (t,m,s)-Nets", 1995), which is rotated anew for each cycle of 64 turns, so that a rank that
takes every second, fourth, ... turn sees all offsets as well. The number of slots that a part got in all turns before
the n-th needs no summing up: it is counted digit by digit.

Quotas are fixed-point integers in units of 2**-24 of a slot: whole quotas stay whole, on every platform.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from viscy_data._random.hash import below, derive, shuffled

if TYPE_CHECKING:
    from numpy.typing import NDArray

BITS = 24
UNIT = 1 << BITS
_DIGIT = 6
_BASE = 1 << _DIGIT


def cumulative(quotas: NDArray[np.float64], total: int) -> NDArray[np.int64]:
    """Lay quotas end to end in fixed point.

    Parameters
    ----------
    quotas
        In slots, non-negative, each row adding up to `total`; shape (n, n_parts).
    total
        Slots to be given away.

    Returns
    -------
    NDArray[np.int64]
        Where the parts begin and end, in units of 2**-24 of a slot, shape (n, n_parts + 1).
    """
    bound = np.zeros((len(quotas), quotas.shape[1] + 1), np.int64)
    bound[:, 1:] = np.rint(np.cumsum(quotas, axis=1) * UNIT)
    # the sum is whole; parts of quota 0 behind the last positive one stay empty
    bound[bound == bound[:, -1:]] = total << BITS
    return bound


class Offsets:
    """The rounding offsets of an epoch's turns.

    Parameters
    ----------
    n_turns
        Turns whose offsets are to be evenly spread; those that follow repeat their lowest bits.
    key
        Of the epoch's permutation of digits, shape (1,).
    """

    def __init__(self, n_turns: int, key: NDArray[np.uint64]) -> None:
        self._n_digits = next((n for n in range(1, BITS // _DIGIT) if _BASE**n >= n_turns), BITS // _DIGIT)
        # twice, so that a rotated permutation is a slice of it
        self._digit = np.tile(shuffled(key, _BASE)[0], 2).astype(np.int64)
        # how many of the first i digits are less than d
        self._below = np.zeros((2 * _BASE + 1, _BASE + 2), np.int64)
        np.cumsum(self._digit[:, None] < np.arange(_BASE + 2), axis=0, out=self._below[1:])

    def of(self, turn: NDArray[np.int64], key: NDArray[np.uint64]) -> NDArray[np.int64]:
        """Return the rounding offset of turns, in units of 2**-24.

        Parameters
        ----------
        turn, key
            Shape (n,); turns of one key share one sequence of offsets.

        Returns
        -------
        NDArray[np.int64]
            Shape (n,), in [0, 2**24).
        """
        offset = self._low(key)
        for level in range(self._n_digits):
            turn, place = turn >> _DIGIT, turn & (_BASE - 1)
            offset += self._digit[_rotation(key, level, turn) + place] << self._shift(level)
        return offset

    def count_below(self, n: NDArray[np.int64], limit: NDArray[np.int64], key: NDArray[np.uint64]) -> NDArray[np.int64]:
        """Count the turns 0..n-1 whose offset is less than `limit` (0..2**24), digit by digit, the highest first.

        A full cycle of turns has each digit once. Of the last cycle, a slice of the permutation says how many digits
        are less than that of the limit. The turns whose digit is that of the limit, at most one a cycle, are decided by
        the next.
        """
        count = np.zeros_like(limit)
        for level in range(self._n_digits):
            digit = (limit >> self._shift(level)) & (2 * _BASE - 1 if level == 0 else _BASE - 1)
            n, rest = n >> _DIGIT, n & (_BASE - 1)
            first = _rotation(key, level, n)
            less, tied = (self._below[first + rest, d] - self._below[first, d] for d in (digit, digit + 1))
            count += n * digit + less
            n = n + tied - less
        return count + n * (self._low(key) < limit & ((1 << self._shift(self._n_digits - 1)) - 1))

    def _shift(self, level: int) -> int:
        return BITS - _DIGIT * (level + 1)

    def _low(self, key: NDArray[np.uint64]) -> NDArray[np.int64]:
        """Return the bits below those of the digits."""
        return key.astype(np.int64) & ((1 << self._shift(self._n_digits - 1)) - 1)


def _rotation(key: NDArray[np.uint64], level: int, cycle: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return at which digit of the permutation a cycle of turns begins."""
    return below(derive(key, cycle * 4 + level), _BASE).astype(np.int64)


def whole_slots(bound: NDArray[np.int64], offset: NDArray[np.int64]) -> NDArray[np.int64]:
    """Round quotas to whole slots.

    Parameters
    ----------
    bound
        As returned by `cumulative`, shape (n, n_parts + 1).
    offset
        In units of 2**-24, shape (n,).

    Returns
    -------
    NDArray[np.int64]
        Slots of each part, shape (n, n_parts).
    """
    return np.diff((bound + offset[:, None]) >> BITS, axis=1)


def beside(taken: NDArray[np.int64], total: NDArray[np.int64], word: NDArray[np.uint64]) -> NDArray[np.int64]:
    """Round equal quotas beside others that are rounded, so that the sums of both are the floor or the ceiling too.

    Slots go round the parts once and again; where the last round ends, those have come first that took least.

    Parameters
    ----------
    taken
        Slots that each part has already, all the floor or the ceiling of one quota; shape (n, n_parts).
    total
        Slots to be given away, shape (n,).
    word
        Random, to choose between parts that took equally much, shape (n, n_parts).

    Returns
    -------
    NDArray[np.int64]
        Slots of each part beside those taken, shape (n, n_parts).
    """
    n_parts = taken.shape[1]
    order = np.lexsort((word, taken), axis=1)
    rank = np.empty_like(order)
    np.put_along_axis(rank, order, np.broadcast_to(np.arange(n_parts), order.shape), axis=1)
    rounds, rest = np.divmod(total, n_parts)
    return rounds[:, None] + (rank < rest[:, None])


def slots_before(
    bound: NDArray[np.int64], turn: NDArray[np.int64], offsets: Offsets, key: NDArray[np.uint64]
) -> NDArray[np.int64]:
    """Return how many slots each part gets in the turns 0..turn-1 together: `whole_slots` summed over them.

    Parameters
    ----------
    bound
        As returned by `cumulative`, shape (n, n_parts + 1).
    turn, key
        As of `Offsets.of`, shape (n,).
    offsets
        Of the turns.

    Returns
    -------
    NDArray[np.int64]
        Shape (n, n_parts).
    """
    turn = turn[:, None]
    carries = turn - offsets.count_below(turn, UNIT - bound % UNIT, key[:, None])  # offsets that make a fraction whole
    return np.diff((bound >> BITS) * turn + carries, axis=1)
