"""A spaced order: all rows of a stratum in an order in which rows of the same value are far apart.

Lay the rows of a stratum on a line of *entries*, value by value. Pass u takes the entries u, u + step, u + 2 * step,
...: with a step of at least the number of rows of a value, no pass has two of its rows. For example, with values A to E
of 2, 2, 2, 3 and 3 rows and a step of 5, the line is AABBCCDDDEEE, and the passes are ACE, ADE, BD, BD and CE.

Passes follow each other as 0, 2, 4, ..., 5, 3, 1, around a circle. The entries of two neighbors are at most 2 apart
unless they are at different places within their passes, when they are at least step - 2 apart. So with a step of at
least 2 more than the rows of the most frequent value, rows of the same value are apart also where one pass ends and the
next begins, as long as the places at the end of a pass are not those at the beginning of the next one. In long passes,
the even places come first and then the odd ones, each in a random order of their own. In short passes, the places have
the same random order in all passes.

If a batch takes more rows than a pass has places, the step is shorter. Then only values that have too many rows for the
number of batches are repeated in a batch.

The order starts at a random entry, each class of equally frequent values and the rows of each value are laid out in
random order, and every element is computed on its own: the order of an epoch is not stored.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from viscy_data._random.hash import below, derive
from viscy_data._random.permutation import KeyedPermutations

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from viscy_data.index import AnchorIndex

# Primes above the largest number of rows: multiplication by one of them, modulo any number of rows, is one-to-one.
_PRIMES = np.array(
    [1362286843, 1209262723, 1621498427, 1326970319, 2137680607, 2039016541, 2087880779, 1888959349], np.uint64
)
_PRIME_BITS = np.uint64(len(_PRIMES) - 1)
# What random bits of a stratum are used for.
_ROTATION, _PLACES, _CLASSES = range(3)


class SpacedOrder:
    """The spaced orders of all strata of an index with `distinct_by` and without a time axis.

    Parameters
    ----------
    index
        The sampler's index.
    most_slots
        The most primary slots that a stratum has in a batch, shape (n_groups, n_conditions).
    """

    def __init__(self, index: AnchorIndex, most_slots: NDArray[np.int64]) -> None:
        assert index.values is not None
        start, size = index.stratum_start.ravel(), index.stratum_size.ravel()
        class_start, class_length = index.values.class_start, index.values.class_length
        last_class = np.searchsorted(class_start, start + size) - 1  # the one of the most frequent values
        longest = np.where(size > 0, class_length[last_class], 1)
        slots = most_slots.ravel()
        step = np.clip(size // (slots + 1), 1, longest + 2)
        places, n_longer = np.divmod(size, step)  # this many passes have a place more
        self._start, self._size, self._step, self._places, self._n_longer = (
            array.astype(np.int32) for array in (start, size, step, places, n_longer)
        )
        self._is_halved = places >= 2 * slots
        self._class_start, self._class_length = class_start.astype(np.int32), class_length.astype(np.int32)
        self._class_count = np.diff(self._class_start, append=np.int32(len(index))) // self._class_length

    def rows(
        self, stratum: NDArray[np.int64], first: NDArray[np.int64], slots: NDArray[np.int64], key: NDArray[np.uint64]
    ) -> NDArray[np.int64]:
        """Return consecutive rows of the orders of strata.

        Parameters
        ----------
        stratum
            The strata, by number, shape (n,).
        first
            Index of the first row in the order of each stratum, shape (n,).
        slots
            Number of rows from each stratum, shape (n,).
        key
            Key of each order, shape (n,).

        Returns
        -------
        NDArray[np.int64]
            Rows of the sorted anchors, shape (slots.sum(),).
        """
        size = self._size[stratum]
        index = self._indices(size, first + below(derive(key, _ROTATION), size).astype(np.int64), slots)
        pass_number, place, width = self._locate(stratum, slots, index)
        entry = self._shuffled_place(stratum, slots, key, pass_number, place, width)
        step = np.repeat(self._step[stratum], slots)
        entry *= step
        pass_number *= 2
        is_late = pass_number >= step
        pass_number -= is_late * (2 * pass_number - 2 * step + 1)  # u, around the circle
        entry += pass_number
        entry += np.repeat(self._start[stratum], slots)
        return self._shuffled_row(entry, np.repeat(derive(key, _CLASSES), slots))

    def _indices(
        self, size: NDArray[np.int32], first: NDArray[np.int64], slots: NDArray[np.int64]
    ) -> NDArray[np.int32]:
        """Return consecutive indices, modulo the size, from `first` on."""
        before = np.cumsum(slots) - slots
        index = np.repeat((first % size - before).astype(np.int32), slots)
        index += np.arange(len(index), dtype=np.int32)
        limit = np.repeat(size, slots)
        beyond = np.flatnonzero(index >= limit)
        index[beyond] %= limit[beyond]
        return index

    def _locate(
        self, stratum: NDArray[np.int64], slots: NDArray[np.int64], index: NDArray[np.int32]
    ) -> tuple[NDArray[np.int32], NDArray[np.int32], NDArray[np.int32]]:
        """Return the pass of each entry of an order, its place in the pass, and the places of the pass.

        Longer passes are those of the lowest u: neighbors on the circle of passes. The order starts with them.
        """
        places, n_longer, step = (array[stratum] for array in (self._places, self._n_longer, self._step))
        n_in_longer = n_longer * (places + 1)
        is_shorter = index >= np.repeat(n_in_longer, slots)
        width = np.repeat(places + 1, slots)
        width -= is_shorter
        place = index - is_shorter * np.repeat(n_in_longer, slots)
        pass_number = place // width
        place -= pass_number * width
        pass_number += is_shorter * np.repeat(n_longer, slots)
        pass_number -= np.repeat(n_longer // 2, slots)
        pass_number += (pass_number < 0) * np.repeat(step, slots)
        return pass_number, place, width

    def _shuffled_place(
        self,
        stratum: NDArray[np.int64],
        slots: NDArray[np.int64],
        key: NDArray[np.uint64],
        pass_number: NDArray[np.int32],
        place: NDArray[np.int32],
        width: NDArray[np.int32],
    ) -> NDArray[np.int32]:
        """Return which entry of its pass is at a place."""
        is_halved = np.repeat(self._is_halved[stratum], slots)
        # Shorter passes lack the last entry, which has the last place where all passes have the same order.
        is_last = place == np.repeat(self._places[stratum], slots)
        is_last &= ~is_halved
        n_even = (width + np.int32(1)) >> 1
        is_odd = is_halved & (place >= n_even)
        number = is_halved * (2 * pass_number + 1 + is_odd)
        is_first = np.diff(number, prepend=np.int32(-1)) != 0
        is_first[np.cumsum(slots) - slots] = True
        run = np.flatnonzero(is_first)
        part = np.repeat(np.arange(len(stratum)), slots)[run]
        size = np.where(is_halved[run], np.where(is_odd, width - n_even, n_even)[run], self._places[stratum][part])
        permutations = KeyedPermutations.from_keys(size, derive(derive(key, _PLACES)[part], number[run]))
        permutations = permutations.repeat(np.diff(run, append=len(place)))
        entry = permutations.element((place - is_odd * n_even) * ~is_last).astype(np.int32)
        entry <<= is_halved
        entry |= is_odd
        last = np.flatnonzero(is_last)
        entry[last] = place[last]
        return entry

    def _shuffled_row(self, row: NDArray[np.int32], key: NDArray[np.uint64]) -> NDArray[np.int64]:
        """Exchange the values of a class, and the rows of a value."""
        of_row = np.searchsorted(self._class_start, row, side="right") - 1
        start, length = self._class_start[of_row], self._class_length[of_row]
        row = row - start
        value = row // length
        row -= value * length
        key = derive(key, of_row)
        value = _shuffled(value, self._class_count[of_row], key)
        within = _shuffled(row, length, derive(key, value))
        value *= length.view(np.uint32)
        value += within
        value += start.view(np.uint32)
        return value.astype(np.int64)


def _shuffled(element: NDArray[np.int32], size: NDArray[np.int32], key: NDArray[np.uint64]) -> NDArray[np.uint32]:
    """Multiply elements by a random prime and add a random number, modulo the size: a one-to-one map."""
    shuffled = element.astype(np.uint64)
    shuffled *= _PRIMES[(key & _PRIME_BITS).view(np.int64)]
    shuffled += key >> np.uint64(32)
    shuffled %= size.astype(np.uint64)
    return shuffled.astype(np.uint32)
