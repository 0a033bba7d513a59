"""Systematic rounding: fractional quotas become whole slots, without favour and without memory.

The quotas of a batch are laid end to end on a line and cut at the points `i - offset` for whole i; each part gets the
slots whose points fall on it (W. G. Madow, "On the Theory of Systematic Sampling, II", Ann. Math. Stat. 20, 1949). So
every part, and every run of neighbouring parts, gets the floor or the ceiling of its quota, the whole gets all slots,
and over offsets that fill [0, 1) evenly each part gets exactly its quota on average.

The offsets are those of J. G. van der Corput (1935), 24 bits reversed: turn after turn they fill [0, 1) as evenly as
can be. That is also why the number of slots that a part got in all turns before the n-th needs no summing up: it is
counted from the digits of n, six bits at a time.

Quotas are fixed-point integers in units of 2**-24 of a slot: whole quotas stay whole, on every platform.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

BITS = 24
UNIT = 1 << BITS
_DIGIT = 6
_BASE = 1 << _DIGIT
_REVERSED = np.array([int(f"{digit:06b}"[::-1], 2) for digit in range(_BASE)])
# _BELOW[n, d]: how many of the first n digits are, reversed, less than d
_BELOW = np.concatenate([np.zeros((1, _BASE), np.int64), np.cumsum(_REVERSED[:, None] < np.arange(_BASE), axis=0)])


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


def offset(turn: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return the rounding offset of a turn, in units of 2**-24: its last 24 bits reversed."""
    return reverse(turn, BITS)


def reverse(number: NDArray[np.int64], bits: int) -> NDArray[np.int64]:
    """Reverse the lowest `bits` (at most 24) of non-negative numbers."""
    result = np.zeros_like(number)
    for _ in range(BITS // _DIGIT):
        result = (result << _DIGIT) | _REVERSED[number % _BASE]
        number = number >> _DIGIT
    return result >> (BITS - bits)


def reversed_below(n: NDArray[np.int64], limit: NDArray[np.int64], bits: int) -> NDArray[np.int64]:
    """Count the numbers 0..n-1 that, their lowest `bits` reversed, are less than `limit` (0..2**bits)."""
    limit = limit << (BITS - bits)
    count = np.where(limit == UNIT, n, 0)
    n_digits = -(-bits // _DIGIT)  # the others of the limit are zero
    for shift in range(BITS - _DIGIT, BITS - _DIGIT * n_digits - 1, -_DIGIT):
        digit = (limit >> shift) % _BASE
        rounds, rest = n >> _DIGIT, n % _BASE
        count = count + rounds * digit + _BELOW[rest, digit]
        n = rounds + (_REVERSED[digit] < rest)  # numbers whose first digit ties: decided by the next
    return count


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


def slots_before(bound: NDArray[np.int64], turn: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return how many slots each part gets in the turns 0..turn-1 together: `whole_slots` summed over them.

    Parameters
    ----------
    bound
        As returned by `cumulative`, shape (n, n_parts + 1).
    turn
        Shape (n,).

    Returns
    -------
    NDArray[np.int64]
        Shape (n, n_parts).
    """
    fraction, turn = bound % UNIT, turn[:, None]
    carries = turn - reversed_below(turn, UNIT - fraction, BITS)  # turns whose offset makes the fraction a whole
    return np.diff((bound >> BITS) * turn + carries, axis=1)
