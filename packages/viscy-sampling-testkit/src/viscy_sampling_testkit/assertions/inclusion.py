"""Inclusion: how often each row of a table is drawn."""

from __future__ import annotations

import math

import numpy as np
from scipy import special

from viscy_sampling_testkit.assertions._failure import check_false_alarm, judge
from viscy_sampling_testkit.assertions._slots import Batches, Labels, Slots, factorize


def assert_row_inclusion(
    batches: Batches,
    cells: Labels | None = None,
    *,
    expected: np.ndarray | None = None,
    false_alarm: float = 1e-6,
    seed: int | None = None,
) -> None:
    """Assert that every single row is drawn as often as it is due.

    The bound is Chernoff's for a sum of independent indicators, ``exp(-kl_div(times, due))`` on either side, for all
    rows at once (Bonferroni). It is no approximation, and it holds for draws with and without replacement, and for
    decks, which are more even than those. It has power against single rows that are never drawn, or too often, wherever
    they are: one that never comes is found where it is due more than ``ln(2 n_anchors / false_alarm)`` times, which is
    21.4 for 1000 anchors at the default rate. `detectable_row_ratios` gives the power in numbers.

    Parameters
    ----------
    batches : sequence of sequence of int
        Shape (n_batches, batch_size).
    cells : sequence, array, Series or DataFrame, optional
        The cell of each row, shape (n_anchors,). Rows of one cell are due equally often, namely their part of the slots
        that the cell had.
    expected : numpy.ndarray, optional
        In place of cells: how often a batch shows each row on average, shape (n_anchors,).
    false_alarm : float, default 1e-6
        Largest probability of a failure where the law holds.
    seed : int, optional
        Seed of the sampler, to be named in the message.

    Raises
    ------
    AssertionError
        If a row comes too often or too seldom.
    ValueError
        If not just one of `cells` and `expected` is given, or `false_alarm` is outside (0, 1).
    """
    check_false_alarm(false_alarm)
    if (cells is None) == (expected is None):
        raise ValueError("one of cells and expected must be given, got " + ("none" if cells is None else "both"))
    slots = Slots.of(batches)
    if cells is not None:
        codes, names = factorize(cells)
        slots.check_bounds(len(codes))
        rows = np.bincount(codes, minlength=len(names))
        due = (np.bincount(codes[slots.positions], minlength=len(names)) / rows)[codes]
    else:
        due = np.asarray(expected, float) * len(slots.sizes)
        slots.check_bounds(len(due))
    times = np.bincount(slots.positions, minlength=len(due)).astype(float)
    deviation = special.kl_div(times, due)
    worst = int(deviation.argmax())
    judge(
        "each row must be drawn as often as it is due",
        min(1.0, 2 * len(due) * math.exp(-deviation[worst])),
        false_alarm,
        observed=f"position {worst} {times[worst]:g} times",
        expected=f"{due[worst]:.4g} times",
        statistic=f"kl_div = {deviation[worst]:.4g}",
        bound=f"{math.log(2 * len(due) / false_alarm):.4g} (Chernoff, {len(due)} rows)",
        n=f"{len(slots.sizes)} batches, {len(slots.positions)} slots",
        seed=seed,
    )
