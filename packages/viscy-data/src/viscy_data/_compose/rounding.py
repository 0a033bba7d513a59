"""Systematic rounding: fractional quotas become whole numbers of slots, without bias and without memory.

The quotas of a batch are laid end to end on a line and cut at the points `i - offset` for whole i; each part gets the
slots whose points fall on it (W. G. Madow, "On the Theory of Systematic Sampling, II", Ann. Math. Stat. 20, 1949). So
every part, and every run of neighboring parts, gets the floor or the ceiling of its quota, and all slots are assigned.
For example, quotas of 1.5, 0.5 and 2 slots end at 1.5, 2 and 4. Plus an offset of 0 and rounded down, the ends are 1, 2
and 4, so the parts get 1, 1 and 2 slots; plus an offset of 0.5, the ends are 2, 2 and 4, so they get 2, 0 and 2 slots.
Over offsets that fill [0, 1) evenly, each part gets exactly its quota on average.

The offset of a batch is a function of its index within its group. The offsets of 64**m consecutive batches fall one
into each of 64**m equal intervals: they are the indices in base 64, with the digits in reverse order (J. G. van der
Corput, 1935), each scrambled by a permutation (A. B. Owen, "Randomly Permuted (t,m,s)-Nets", 1995). The permutation is
rotated by another amount in each cycle of 64 indices, so that a rank that takes every second, fourth, ... batch sees
all offsets as well. The number of slots that a part got in all batches before the n-th needs no summation: it is
counted digit by digit.

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
        Quotas in slots, non-negative, each row adding up to `total`; shape (n, n_parts).
    total
        Number of slots to assign.

    Returns
    -------
    NDArray[np.int64]
        Where the parts begin and end, in units of 2**-24 of a slot, shape (n, n_parts + 1).
    """
    bound = np.zeros((len(quotas), quotas.shape[1] + 1), np.int64)
    bound[:, 1:] = np.rint(np.cumsum(quotas, axis=1) * UNIT)
    # The sum is a whole number; parts of quota 0 after the last positive one stay empty.
    bound[bound == bound[:, -1:]] = total << BITS
    return bound


class Offsets:
    """The rounding offsets of an epoch's batches.

    Parameters
    ----------
    n_batches
        Number of batches of a group whose offsets are evenly spread; later ones repeat their lowest bits.
    key
        Key of the epoch's permutation of digits, shape (1,).
    """

    def __init__(self, n_batches: int, key: NDArray[np.uint64]) -> None:
        self._n_digits = next((n for n in range(1, BITS // _DIGIT) if _BASE**n >= n_batches), BITS // _DIGIT)
        # two copies, so that a rotated permutation is a slice
        self._digit = np.tile(shuffled(key, _BASE)[0], 2).astype(np.int64)
        # [i, d]: how many of the first i digits are less than d
        self._below = np.zeros((2 * _BASE + 1, _BASE + 2), np.int64)
        np.cumsum(self._digit[:, None] < np.arange(_BASE + 2), axis=0, out=self._below[1:])

    def at(self, index: NDArray[np.int64], key: NDArray[np.uint64]) -> NDArray[np.int64]:
        """Return the rounding offsets of batches, in units of 2**-24.

        Parameters
        ----------
        index
            Indices of the batches within their groups, shape (n,).
        key
            Keys of their groups, shape (n,). Batches with the same key share one sequence of offsets.

        Returns
        -------
        NDArray[np.int64]
            Shape (n,), in [0, 2**24).
        """
        offset = self._low_bits(key)
        for level in range(self._n_digits):
            index, digit = index >> _DIGIT, index & (_BASE - 1)
            offset += self._digit[_rotation(key, level, index) + digit] << self._shift(level)
        return offset

    def count_below(self, n: NDArray[np.int64], limit: NDArray[np.int64], key: NDArray[np.uint64]) -> NDArray[np.int64]:
        """Count the indices 0..n-1 whose offset is less than `limit` (0..2**24), digit by digit, the highest first.

        A full cycle of indices has each digit once. In the last, partial cycle, a slice of the permutation gives the
        number of digits that are less than the digit of the limit. Indices whose digit equals that of the limit, at
        most one per cycle, are decided by the next digit.
        """
        count = np.zeros_like(limit)
        for level in range(self._n_digits):
            digit = (limit >> self._shift(level)) & (2 * _BASE - 1 if level == 0 else _BASE - 1)
            n, rest = n >> _DIGIT, n & (_BASE - 1)
            first = _rotation(key, level, n)
            less, tied = (self._below[first + rest, d] - self._below[first, d] for d in (digit, digit + 1))
            count += n * digit + less
            n = n + tied - less
        return count + n * (self._low_bits(key) < limit & ((1 << self._shift(self._n_digits - 1)) - 1))

    def _shift(self, level: int) -> int:
        return BITS - _DIGIT * (level + 1)

    def _low_bits(self, key: NDArray[np.uint64]) -> NDArray[np.int64]:
        """Return the bits below those of the digits."""
        return key.astype(np.int64) & ((1 << self._shift(self._n_digits - 1)) - 1)


def _rotation(key: NDArray[np.uint64], level: int, cycle: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return at which digit of the permutation a cycle of indices begins."""
    return below(derive(key, cycle * 4 + level), _BASE).astype(np.int64)


def round_slots(bound: NDArray[np.int64], offset: NDArray[np.int64]) -> NDArray[np.int64]:
    """Round quotas to whole numbers of slots.

    Parameters
    ----------
    bound
        As returned by `cumulative`, shape (n, n_parts + 1).
    offset
        Offsets in units of 2**-24, shape (n,).

    Returns
    -------
    NDArray[np.int64]
        Slots of each part, shape (n, n_parts).
    """
    return np.diff((bound + offset[:, None]) >> BITS, axis=1)


def round_alongside(taken: NDArray[np.int64], total: NDArray[np.int64], bits: NDArray[np.uint64]) -> NDArray[np.int64]:
    """Round equal quotas alongside others that are rounded already, so that the sums are floors or ceilings too.

    Slots are assigned to the parts round after round. In the last, partial round the parts that took least come first.

    Parameters
    ----------
    taken
        Slots that each part has already, all the floor or the ceiling of one quota; shape (n, n_parts).
    total
        Number of slots to assign, shape (n,).
    bits
        Random bits that break ties between parts that took equally many slots, shape (n, n_parts).

    Returns
    -------
    NDArray[np.int64]
        Slots of each part in addition to those taken, shape (n, n_parts).
    """
    n_parts = taken.shape[1]
    order = np.lexsort((bits, taken), axis=1)
    rank = np.empty_like(order)
    np.put_along_axis(rank, order, np.broadcast_to(np.arange(n_parts), order.shape), axis=1)
    rounds, rest = np.divmod(total, n_parts)
    return rounds[:, None] + (rank < rest[:, None])


def slots_before(
    bound: NDArray[np.int64], index: NDArray[np.int64], offsets: Offsets, key: NDArray[np.uint64]
) -> NDArray[np.int64]:
    """Return how many slots each part gets in a group's earlier batches: the sum of `round_slots` over them.

    Parameters
    ----------
    bound
        As returned by `cumulative`, shape (n, n_parts + 1).
    index, key
        As in `Offsets.at`, shape (n,). The batches with indices 0..index-1 are counted.
    offsets
        Offsets of the batches.

    Returns
    -------
    NDArray[np.int64]
        Shape (n, n_parts).
    """
    index = index[:, None]
    # how often the offset carries the fraction of a bound over to the next whole number
    carries = index - offsets.count_below(index, UNIT - bound % UNIT, key[:, None])
    return np.diff((bound >> BITS) * index + carries, axis=1)
