"""The temporal window: how many primary slots it fills, and how the other slots avoid the rows it gave."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from viscy_data._compose.parts import Kind
from viscy_data._compose.rounding import BITS, UNIT

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from viscy_data._compose.segments import Segments


def window_slots(
    slots: NDArray[np.int64], quota: NDArray[np.int64], fraction: float, offset: NDArray[np.int64]
) -> NDArray[np.int64]:
    """Split the primary slots of each condition into window slots and global slots.

    Given the number of primary slots, the number of window slots is rounded so that it and the number of global slots
    are the floor or the ceiling of their quotas and equal them on average.

    For example, a quota of 3.5 primary slots is rounded to 3 or 4. With a fraction of 0.5, both kinds have a quota of
    1.75. With 4 slots, each kind gets 2. With 3 slots, one kind gets 2 and the other 1, each with probability 1/2. So
    each kind gets (2 + 1.5) / 2 = 1.75 slots on average.

    Parameters
    ----------
    slots
        Primary slots of each condition, shape (n_batches, n_conditions).
    quota
        The quotas that `slots` were rounded from, in units of 2**-24, same shape.
    fraction
        Fraction of the quota that comes from the window.
    offset
        Random offsets in [0, 2**24), shape (n_batches,).

    Returns
    -------
    NDArray[np.int64]
        How many of `slots` are window slots, same shape.
    """
    window = np.rint(quota * fraction).astype(np.int64)
    rest = quota - window
    a, b = window % UNIT, rest % UNIT
    extra = slots - (window >> BITS) - (rest >> BITS)  # slots beyond the floors: 0 or 1 if a + b <= 1, else 1 or 2
    at_most_one = a + b <= UNIT
    numerator = np.where(at_most_one, extra * a, np.where(extra == 2, 1, UNIT - b))
    denominator = np.where(at_most_one, np.maximum(a + b, 1), np.where(extra == 2, 1, 2 * UNIT - a - b))
    expected = (numerator << BITS) // denominator  # window slots beyond the floor, given the number of slots
    bound = np.zeros((len(slots), slots.shape[1] + 1), np.int64)
    np.cumsum(expected, axis=1, out=bound[:, 1:])
    return (window >> BITS) + np.diff((bound + offset[:, None]) >> BITS, axis=1)


def avoid_window_rows(segments: Segments, rows: NDArray[np.int64]) -> None:
    """Change the rows of global slots, in place, so that they repeat no row of a window slot while others are left.

    A global slot whose row is also the row of a window slot of the same stratum takes the next row of its segment
    instead. Once all rows of a stratum are used, its permutation starts over.
    """
    segment_of_slot = segments.of_slots()
    # rows of the window that a window slot has
    used = np.minimum(segments.size, segments.slots)[segments.sibling]
    has_window = (segments.kind == Kind.GLOBAL) & (segments.sibling >= 0)
    n_free = np.where(has_window, segments.size - used, 0)
    slots = np.flatnonzero(has_window[segment_of_slot])
    number = segments.slot_numbers()[slots]

    late = number >= n_free[segment_of_slot[slots]]
    segment = segment_of_slot[slots[late]]
    rows[slots[late]] = segments.rows_at(segment, number[late] - n_free[segment])

    of_windows = np.flatnonzero((segments.kind == Kind.WINDOW)[segment_of_slot])
    window_rows = np.sort(_row_keys(segment_of_slot[of_windows], rows[of_windows]))
    next_index = np.minimum(segments.slots, n_free)
    slots = slots[~late]
    while True:
        segment = segment_of_slot[slots]
        repeated = _contains(window_rows, _row_keys(segments.sibling[segment], rows[slots]))
        slots, segment = slots[repeated], segment[repeated]
        if not slots.size:
            return
        count = np.bincount(segment, minlength=len(next_index))
        rank = np.arange(len(slots)) - (np.cumsum(count) - count)[segment]
        rows[slots] = segments.rows_at(segment, next_index[segment] + rank)
        next_index += count


def _row_keys(segment: NDArray[np.int64], row: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return an integer for each pair of segment and row."""
    return segment << 32 | row


def _contains(ascending: NDArray[np.int64], numbers: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Return whether each number is among numbers in ascending order."""
    return ascending.take(np.searchsorted(ascending, numbers), mode="clip") == numbers
