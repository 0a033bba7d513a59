"""A pool: the rows that can fill a slot, and how evenly slots are filled from it."""

from __future__ import annotations

from collections import Counter

import numpy as np

from viscy_sampling_testkit.assertions._failure import fail, fail_where
from viscy_sampling_testkit.assertions._slots import Batches, Labels, Slots, factorize


def assert_distinct(batches: Batches) -> None:
    """Assert that no anchor is repeated within a batch.

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
        "an anchor must not be repeated within a batch",
        np.isin(np.arange(len(slots.sizes)), numbers[repeated]),
        lambda k: f"positions {sorted(set(positions[repeated][numbers[repeated] == k].tolist()))} repeated",
        lambda k: f"{slots.sizes[k]} distinct positions",
    )


def assert_repeats_evenly(batches: Batches, pools: Labels) -> None:
    """Assert that the rows of a pool occur equally often in each batch, to within one.

    A batch that fills ``n`` slots from a pool of ``m`` rows must contain each of them the floor or the ceiling of
    ``n / m`` times: no row twice if the pool is large enough, and all rows about equally often if it is not.

    Parameters
    ----------
    batches : sequence of sequence of int
        Shape (n_batches, batch_size).
    pools : sequence, array, Series or DataFrame
        The pool of each row, shape (n_anchors,): rows of a pool can fill the same slots.

    Raises
    ------
    AssertionError
        If a row occurs more often than the ceiling or less often than the floor.
    """
    slots = Slots.of(batches)
    codes, names = factorize(pools)
    filled, rows = slots.counts(codes, len(names)), np.bincount(codes, minlength=len(names))
    least, most = filled // rows, -(-filled // rows)
    batch, row, times = _times_in_batch(slots, len(codes))
    pool = codes[row]
    over = times > most[batch, pool]
    wrong = np.zeros(filled.shape, bool)
    wrong[batch[over], pool[over]] = True
    enough = np.zeros_like(filled)
    np.add.at(enough, (batch, pool), times >= least[batch, pool])
    wrong |= (least > 0) & (enough < rows)

    def observed(k: int) -> str:
        members = np.flatnonzero(codes == wrong[k].argmax())
        counts = np.bincount(slots.positions[slots.numbers == k], minlength=len(codes))[members]
        highest, lowest = counts.argmax(), counts.argmin()
        return f"position {members[highest]} {counts[highest]} times, position {members[lowest]} {counts[lowest]} times"

    def expected(k: int) -> str:
        offending = int(wrong[k].argmax())
        each = " or ".join(str(bound) for bound in sorted({int(least[k, offending]), int(most[k, offending])}))
        return f"{each} times each: {filled[k, offending]} slots from pool {names[offending]!r}, {rows[offending]} rows"

    fail_where(
        "rows of a pool must occur equally often in a batch, to within one",
        wrong.any(axis=1),
        observed,
        expected,
        bound="floor or ceiling of slots / rows",
    )


def assert_drawn_evenly(batches: Batches, strata: Labels) -> None:
    """Assert that the anchors of a stratum are drawn equally often in all batches together, to within one.

    For sequences that draw the elements of a keyed permutation of each stratum, without replacement. If only some slots
    of a batch are drawn that way, pass batches of those slots only.

    Parameters
    ----------
    batches : sequence of sequence of int
        Shape (n_batches, batch_size).
    strata : sequence, array, Series or DataFrame
        The stratum of each row, shape (n_anchors,).

    Raises
    ------
    AssertionError
        If two anchors of a stratum differ by more than one in how often they are drawn.
    """
    slots = Slots.of(batches)
    codes, names = factorize(strata)
    slots.check_bounds(len(codes))
    times_drawn = np.bincount(slots.positions, minlength=len(codes))
    fewest = np.full(len(names), len(slots.positions))
    most = np.zeros(len(names), int)
    np.minimum.at(fewest, codes, times_drawn)
    np.maximum.at(most, codes, times_drawn)
    uneven = np.flatnonzero(most - fewest > 1)
    if uneven.size:
        stratum = int(uneven[0])
        often = int(((times_drawn >= fewest[stratum] + 2) & (codes == stratum)).argmax())
        fail(
            "anchors of a stratum must be drawn equally often, to within one",
            observed=f"position {often} {times_drawn[often]} times, another {fewest[stratum]} times",
            expected=f"{times_drawn[codes == stratum].mean():g} times each in stratum {names[stratum]!r}",
            bound="largest minus smallest at most 1",
            n=f"{len(batches)} batches, {len(names)} strata, {uneven.size} of them uneven",
            first_offending_batch=_first_early_repeat(slots, codes == stratum),
        )


def assert_drawn_in_rounds(batches: Batches, strata: Labels) -> None:
    """Assert that no anchor is drawn a second time before every anchor of its stratum was drawn once, and so on.

    After every batch, the anchors of a stratum must have been drawn equally often, to within one. That is stricter than
    `assert_drawn_evenly`, which looks at all batches together. The assertion is exact. The order of slots within a
    batch does not matter.

    Parameters
    ----------
    batches : sequence of sequence of int
        Shape (n_batches, batch_size).
    strata : sequence, array, Series or DataFrame
        The stratum of each row, shape (n_anchors,).

    Raises
    ------
    AssertionError
        If after a batch two anchors of a stratum differ by more than one in how often they were drawn.

    Examples
    --------
    >>> assert_drawn_in_rounds([[0, 1], [2, 1], [0, 2]], ["all"] * 3)
    """
    slots = Slots.of(batches)
    codes, names = factorize(strata)
    slots.check_bounds(len(codes))
    times_drawn = [0] * len(codes)
    # For each stratum, how many of its rows were drawn how often.
    rows_by_times = [Counter({0: int(n)}) for n in np.bincount(codes, minlength=len(names))]
    strata_of_rows = codes.tolist()
    for k, batch in enumerate(batches):
        for row in batch:
            rows_by_times[strata_of_rows[row]][times_drawn[row]] -= 1
            times_drawn[row] += 1
            rows_by_times[strata_of_rows[row]][times_drawn[row]] += 1
        for stratum in {strata_of_rows[row] for row in batch}:
            times = [often for often, n in rows_by_times[stratum].items() if n]
            if max(times) - min(times) > 1:
                fail(
                    "no anchor must be drawn again before all anchors of its stratum were",
                    observed=f"an anchor {max(times)} times, another {min(times)} times",
                    expected=f"a difference of at most 1 in stratum {names[stratum]!r}",
                    n=f"{len(batches)} batches",
                    first_offending_batch=k,
                )


def _first_early_repeat(slots: Slots, in_stratum: np.ndarray) -> int:
    """Return the first batch after which the draws of two anchors of a stratum differ by two or more."""
    times_drawn = np.zeros(len(in_stratum), int)
    ends = np.cumsum(slots.sizes)
    for k, end in enumerate(ends):
        np.add.at(times_drawn, slots.positions[end - slots.sizes[k] : end], 1)
        if np.ptp(times_drawn[in_stratum]) > 1:
            break
    return k


def _times_in_batch(slots: Slots, n_anchors: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the batch, the row and the count of each distinct row of each batch, each of shape (n_pairs,)."""
    pairs, times = np.unique(slots.numbers * n_anchors + slots.positions, return_counts=True)
    batch, row = np.divmod(pairs, n_anchors)
    return batch, row, times
