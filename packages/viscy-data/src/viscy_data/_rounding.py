"""Systematic rounding: fractional quotas become whole slots, without favour and without memory.

The quotas of a batch are laid end to end on a line and cut at the points `i - offset` for whole i; each part gets the
slots whose points fall on it (W. G. Madow, "On the Theory of Systematic Sampling, II", Ann. Math. Stat. 20, 1949). So
every part, and every run of neighbouring parts, gets the floor or the ceiling of its quota, the whole gets all slots,
and over offsets that fill [0, 1) evenly each part gets exactly its quota on average.

The offsets of 2**m turns fall one into each of 2**m equal intervals, turn after turn, as do those of J. G. van der
Corput (1935), 24 bits reversed. But there every other turn has an offset below a half, and a rank that takes every
other turn would round one way for ever. So a coin is tossed for each pair of turns, each pair of pairs, and so on:
which of the two comes first. The number of slots that a part got in all turns before the n-th still needs no summing
up: it is counted bit by bit.

Quotas are fixed-point integers in units of 2**-24 of a slot: whole quotas stay whole, on every platform.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from viscy_data._mix import derive

if TYPE_CHECKING:
    from numpy.typing import NDArray

BITS = 24
UNIT = 1 << BITS


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


def offset(turn: NDArray[np.int64], key: NDArray[np.uint64]) -> NDArray[np.int64]:
    """Return the rounding offset of a turn, in units of 2**-24.

    Parameters
    ----------
    turn, key
        Shape (n,); turns of one key share one sequence of offsets.

    Returns
    -------
    NDArray[np.int64]
        Shape (n,), in [0, 2**24).
    """
    level = np.arange(BITS)
    bit = (turn[:, None] >> level) & 1 ^ _coin(key[:, None], level, turn[:, None] >> (level + 1))
    return (bit << (BITS - 1 - level)).sum(axis=1)


def _offsets_below(n: NDArray[np.int64], limit: NDArray[np.int64], key: NDArray[np.uint64]) -> NDArray[np.int64]:
    """Count the turns 0..n-1 whose offset is less than `limit` (1..2**24), bit by bit, the highest first.

    Of the two turns of a pair one has a 0 there and the other a 1, so half of the turns are decided; the others, whose
    bit is that of the limit, are one of each pair, and the last turn if it is without another and ties.
    """
    count = np.where(limit == UNIT, n, 0)
    for level in range(BITS):
        bit = (limit >> (BITS - 1 - level)) & 1
        pairs, single = n >> 1, n & 1
        bit_of_single = _coin(key, level, pairs)
        count = count + bit * (pairs + single * (1 - bit_of_single))
        n = pairs + single * (bit_of_single == bit)
    return count


def _coin(key: NDArray[np.uint64], level: NDArray[np.int64] | int, pair: NDArray[np.int64]) -> NDArray[np.int64]:
    """Toss which of the two turns of a pair has a 0 in a bit: 0 if the first, 1 if the second."""
    return (derive(key, pair * 32 + level) >> np.uint64(63)).astype(np.int64)


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


def slots_before(bound: NDArray[np.int64], turn: NDArray[np.int64], key: NDArray[np.uint64]) -> NDArray[np.int64]:
    """Return how many slots each part gets in the turns 0..turn-1 together: `whole_slots` summed over them.

    Parameters
    ----------
    bound
        As returned by `cumulative`, shape (n, n_parts + 1).
    turn, key
        As of `offset`, shape (n,).

    Returns
    -------
    NDArray[np.int64]
        Shape (n, n_parts).
    """
    fraction, turn = bound % UNIT, turn[:, None]
    carries = turn - _offsets_below(turn, UNIT - fraction, key[:, None])  # whose offset makes the fraction a whole
    return np.diff((bound >> BITS) * turn + carries, axis=1)
