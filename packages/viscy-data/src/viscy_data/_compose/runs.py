"""Runs: the rows of a pool in an order of which every few rows follow each other in the pool.

From a random row on, and around the end of the pool, n rows are cut into runs of r rows, and a keyed permutation puts
the runs in order. What is left over, n modulo r rows, comes last. For example, with n = 10, r = 3 and first row 4, the
runs are (4 5 6), (7 8 9) and (0 1 2), the rest is (3), and an order is 7 8 9 0 1 2 4 5 6 3.

Every row is equally likely at every index of the order, since the first row is. An element is computed on its own, as
that of a permutation is, so an order takes the place of a permutation: consecutive elements are distinct rows, and s of
them are in at most ceil((s - 1) / r) + 1 runs, or one run more where the pool's end is inside a run.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from viscy_data._compose.parts import Kind
from viscy_data._random.hash import below, derive
from viscy_data._random.permutation import KeyedPermutations

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from viscy_data._compose.segments import Segments

# What random bits of a pool are used for.
_FIRST_ROW, _ORDER = range(2)


@dataclass(frozen=True, slots=True, eq=False)
class KeyedRuns:
    """The orders of many pools; all fields except `length` have an entry per pool."""

    size: NDArray[np.int64]
    length: int
    """Rows of a run."""
    first_row: NDArray[np.int64]
    permutations: KeyedPermutations
    """Permutations of the complete runs; of one run where there is none."""

    @classmethod
    def from_keys(cls, size: NDArray[np.int64], key: NDArray[np.uint64], length: int) -> KeyedRuns:
        """Order the numbers 0..size-1 (1 to 2**32 - 1 of them) for each key, both of shape (n_pools,)."""
        first_row = below(derive(key, _FIRST_ROW), size).astype(np.int64)
        permutations = KeyedPermutations.from_keys(np.maximum(size // length, 1), derive(key, _ORDER))
        return cls(size, length, first_row, permutations)

    def elements(
        self, pool: NDArray[np.int64], first: NDArray[np.int64], count: NDArray[np.int64], offset: NDArray[np.int64]
    ) -> NDArray[np.int64]:
        """Return consecutive elements of the orders of pools, which start over when they are used up.

        Parameters
        ----------
        pool
            The pools, by number, shape (n,).
        first
            Index of the first element in the order of each pool, shape (n,).
        count
            Number of elements from each pool, shape (n,).
        offset
            What is added to the elements of each pool, shape (n,).

        Returns
        -------
        NDArray[np.int64]
            Numbers below the sizes of the pools, plus the offsets, shape (count.sum(),).
        """
        piece, number, start, length = self._pieces(self.size[pool], first, count)
        offset, pool = offset[piece], pool[piece]
        size = self.size[pool]
        n_runs = size // self.length
        is_rest = number >= n_runs  # of pools that are not a multiple of a run, the elements that come last
        run = self.permutations.take(pool).element(np.where(is_rest, 0, number))
        start += np.where(is_rest, n_runs, run) * self.length + self.first_row[pool]
        start -= size * (start >= size)
        around = np.flatnonzero(start + length > size)  # pieces with rows on both sides of the pool's end
        begin = np.cumsum(length) - length
        element = np.repeat(start + offset - begin, length)
        element += np.arange(len(element))
        n_before = (size - start)[around]
        beyond = _ranges(begin[around] + n_before, length[around] - n_before)
        element[beyond] -= np.repeat(size[around], length[around] - n_before)
        return element

    def _pieces(
        self, size: NDArray[np.int64], first: NDArray[np.int64], count: NDArray[np.int64]
    ) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
        """Cut ranges of indices where a run ends.

        Returns
        -------
        piece, number, start, length
            For each piece the range that it is of, the number of the run, where in the run it starts, and its number of
            elements.
        """
        runs_of_pool = -(-size // self.length)
        cycle, index = np.divmod(first, size)
        before = cycle * runs_of_pool + index // self.length
        cycle, index = np.divmod(first + count - 1, size)
        n_pieces = np.where(count > 0, cycle * runs_of_pool + index // self.length - before + 1, 0)
        piece = np.repeat(np.arange(len(size)), n_pieces)
        cycle, number = np.divmod(
            np.repeat(before - (np.cumsum(n_pieces) - n_pieces), n_pieces) + np.arange(len(piece)), runs_of_pool[piece]
        )
        run_start = cycle * size[piece] + number * self.length
        run_stop = np.minimum(run_start + self.length, (cycle + 1) * size[piece])
        start = np.maximum(run_start, first[piece])
        stop = np.minimum(run_stop, (first + count)[piece])
        return piece, number, start - run_start, stop - start


def fill_with_runs(segments: Segments, length: int) -> NDArray[np.int64]:
    """Return the row of each slot, filled with runs of the segments' pools; shape (n_slots,).

    Global slots have runs of the rows of the stratum that no window slot has: each of these rows is equally likely.
    Global slots beyond the last of them have runs of all rows of the stratum.
    """
    has_window = (segments.kind == Kind.GLOBAL) & (segments.sibling >= 0)
    used = np.where(has_window, np.minimum(segments.size, segments.slots)[segments.sibling], 0)
    n_free = segments.size - used
    early = np.where(has_window, np.minimum(segments.slots, n_free), segments.slots)
    everyone = np.arange(len(early))
    free = KeyedRuns.from_keys(np.maximum(n_free, 1), segments.key, length)
    rows = free.elements(everyone, segments.first, early, segments.start)
    skipping = np.flatnonzero(has_window)
    if skipping.size:
        _skip_window_rows(rows, segments, early, skipping)
    if early.sum() == segments.slots.sum():
        return rows
    late = segments.slots - early
    complete = KeyedRuns.from_keys(segments.size, segments.key, length)
    is_early = segments.slot_numbers() < np.repeat(early, segments.slots)
    result = np.empty(len(is_early), np.int64)
    result[is_early] = rows
    result[~is_early] = complete.elements(everyone, np.zeros_like(late), late, segments.start)
    return result


def _skip_window_rows(
    rows: NDArray[np.int64], segments: Segments, count: NDArray[np.int64], which: NDArray[np.intp]
) -> None:
    """Move rows of global slots, in place, which were counted as if the rows of window slots did not exist.

    If rows e_0 < e_1 < ... are left out, then so many rows are skipped on the way to row k as there are i with
    e_i - i <= k. For example, without the rows 1, 2 and 5, the rows 0, 1, 2, 3 become 0, 3, 4, 6.

    Parameters
    ----------
    rows
        One row for each slot, `count` of each segment.
    segments
        The segments.
    count
        Shape (n_segments,).
    which
        The global segments that have a window segment.
    """
    begin = np.cumsum(count) - count
    window = segments.sibling[which]
    n_used = np.minimum(segments.size, segments.slots)[window]  # distinct rows, the first ones of the segment
    tag = np.arange(len(which)) << 32
    used = rows[_ranges(begin[window], n_used)]
    used += np.repeat(tag, n_used)
    used.sort()
    # The number of earlier segments' rows is part of i and, as it is the same for a segment, of k.
    used -= np.arange(len(used))
    before = np.cumsum(n_used) - n_used
    slots, count = _ranges(begin[which], count[which]), count[which]
    moved = rows[slots]
    moved += np.searchsorted(used, moved + np.repeat(tag - before, count), side="right")
    moved -= np.repeat(before, count)
    rows[slots] = moved


def _ranges(start: NDArray[np.int64], length: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return the integers of ranges, one range after the other."""
    return np.repeat(start - (np.cumsum(length) - length), length) + np.arange(length.sum())
