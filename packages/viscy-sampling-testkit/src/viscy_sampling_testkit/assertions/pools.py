"""A pool: the rows that one slot can be filled from, and how evenly slots are filled from it."""

from __future__ import annotations

import numpy as np

from viscy_sampling_testkit.assertions._failure import fail, fail_where
from viscy_sampling_testkit.assertions._slots import Batches, Labels, Slots, factorize


def assert_distinct(batches: Batches) -> None:
    """Assert that no anchor comes twice in a batch.

    Parameters
    ----------
    batches : sequence of sequence of int
        Shape (n_batches, batch_size).

    Raises
    ------
    AssertionError
        If a batch repeats a position.
    """
    slots = Slots.of(batches)
    order = np.lexsort((slots.positions, slots.numbers))
    positions, numbers = slots.positions[order], slots.numbers[order]
    repeated = np.flatnonzero((positions[1:] == positions[:-1]) & (numbers[1:] == numbers[:-1]))
    fail_where(
        "no anchor may come twice in a batch",
        np.isin(np.arange(len(slots.sizes)), numbers[repeated]),
        lambda k: f"positions {sorted(set(positions[repeated][numbers[repeated] == k].tolist()))} repeated",
        lambda k: f"{slots.sizes[k]} distinct positions",
    )


def assert_repeats_evenly(batches: Batches, pools: Labels) -> None:
    """Assert that the rows of one pool come equally often in each batch, to within one.

    A batch that takes ``n`` slots from a pool of ``m`` rows must show each of them the floor or the ceiling of
    ``n / m`` times: none twice where the pool is large enough, and each about equally often where it is not.

    Parameters
    ----------
    batches : sequence of sequence of int
        Shape (n_batches, batch_size).
    pools : sequence, array, Series or DataFrame
        The pool of each row, shape (n_anchors,): rows of one pool can take each other's slot.

    Raises
    ------
    AssertionError
        If a row comes more often than the ceiling, or less often than the floor.
    """
    slots = Slots.of(batches)
    codes, names = factorize(pools)
    taken, rows = slots.counts(codes, len(names)), np.bincount(codes, minlength=len(names))
    least, most = taken // rows, -(-taken // rows)
    batch, row, times = _times_in_batch(slots, len(codes))
    pool = codes[row]
    over = times > most[batch, pool]
    wrong = np.zeros(taken.shape, bool)
    wrong[batch[over], pool[over]] = True
    enough = np.zeros_like(taken)
    np.add.at(enough, (batch, pool), times >= least[batch, pool])
    wrong |= (least > 0) & (enough < rows)

    def observed(k: int) -> str:
        members = np.flatnonzero(codes == wrong[k].argmax())
        shown = np.bincount(slots.positions[slots.numbers == k], minlength=len(codes))[members]
        often, seldom = shown.argmax(), shown.argmin()
        return f"position {members[often]} {shown[often]} times, position {members[seldom]} {shown[seldom]} times"

    def expected(k: int) -> str:
        offending = int(wrong[k].argmax())
        each = " or ".join(str(bound) for bound in sorted({int(least[k, offending]), int(most[k, offending])}))
        return f"{each} times each: {taken[k, offending]} slots of pool {names[offending]!r}, {rows[offending]} rows"

    fail_where(
        "rows of one pool must come equally often in a batch, to within one",
        wrong.any(axis=1),
        observed,
        expected,
        bound="floor or ceiling of slots / rows",
    )


def assert_dealt_evenly(batches: Batches, cells: Labels) -> None:
    """Assert that anchors of one cell come equally often over all batches, to within one.

    For sequences that deal each cell like a deck of cards. Where only some slots of a batch are dealt that way, give
    batches of those slots alone.

    Parameters
    ----------
    batches : sequence of sequence of int
        Shape (n_batches, batch_size).
    cells : sequence, array, Series or DataFrame
        The cell of each row, shape (n_anchors,).

    Raises
    ------
    AssertionError
        If two anchors of a cell differ by more than one in how often they come.
    """
    slots = Slots.of(batches)
    codes, names = factorize(cells)
    slots.check_bounds(len(codes))
    times_dealt = np.bincount(slots.positions, minlength=len(codes))
    fewest = np.full(len(names), len(slots.positions))
    most = np.zeros(len(names), int)
    np.minimum.at(fewest, codes, times_dealt)
    np.maximum.at(most, codes, times_dealt)
    uneven = np.flatnonzero(most - fewest > 1)
    if uneven.size:
        cell = int(uneven[0])
        often = (times_dealt >= fewest[cell] + 2) & (codes == cell)
        fail(
            "anchors of one cell must come equally often, to within one",
            observed=f"position {often.argmax()} {times_dealt[often.argmax()]} times, another {fewest[cell]} times",
            expected=f"{(times_dealt[codes == cell]).mean():g} times each in cell {names[cell]!r}",
            bound="largest minus smallest at most 1",
            n=f"{len(batches)} batches, {len(names)} cells, {uneven.size} of them uneven",
            first_offending_batch=_first_early_repeat(slots, codes == cell),
        )


def _first_early_repeat(slots: Slots, in_cell: np.ndarray) -> int:
    """Return the first batch after which two anchors of a cell differ by two or more in how often they came."""
    times_dealt = np.zeros(len(in_cell), int)
    ends = np.cumsum(slots.sizes)
    for k, end in enumerate(ends):
        np.add.at(times_dealt, slots.positions[end - slots.sizes[k] : end], 1)
        if np.ptp(times_dealt[in_cell]) > 1:
            break
    return k


def _times_in_batch(slots: Slots, n_anchors: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return batch, row and number of times of each row that a batch shows, each of shape (n_shown,)."""
    pairs, times = np.unique(slots.numbers * n_anchors + slots.positions, return_counts=True)
    batch, row = np.divmod(pairs, n_anchors)
    return batch, row, times
