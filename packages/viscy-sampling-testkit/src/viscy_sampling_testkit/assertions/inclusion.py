"""Inclusion: how often each row of a table is drawn."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
from scipy import special

from viscy_sampling_testkit.assertions._failure import check_false_alarm, judge, judge_chi_square
from viscy_sampling_testkit.assertions._slots import Batches, Labels, Slots, factorize

_LEAST_EXPECTED = 20.0


def assert_row_inclusion(
    batches: Batches,
    strata: Labels | None = None,
    *,
    expected: np.ndarray | None = None,
    false_alarm: float = 1e-6,
    seed: int | None = None,
) -> None:
    """Assert that every row is drawn as often as expected.

    The test uses Chernoff's bound for a sum of independent indicators, ``exp(-kl_div(observed, expected))`` on either
    side, for all rows at once (Bonferroni correction). The bound is exact, not an approximation. It holds for draws
    with and without replacement, and for keyed permutations, which are more even than both. It has power against any
    single row that is never drawn or is drawn too often: a row that is never drawn is detected if it is expected more
    than ``ln(2 n_anchors / false_alarm)`` times, which is 21.4 for 1000 anchors at the default rate.
    `detectable_row_ratios` quantifies the power.

    Parameters
    ----------
    batches : sequence of sequence of int
        Shape (n_batches, batch_size).
    strata : sequence, array, Series or DataFrame, optional
        The stratum of each row, shape (n_anchors,). Rows of a stratum are expected equally often: the slots that the
        stratum filled, divided by its number of rows.
    expected : numpy.ndarray, optional
        Mean number of slots that each row fills in a batch, shape (n_anchors,); replaces `strata`.
    false_alarm : float, default 1e-6
        Largest probability that a sampler that satisfies the law fails.
    seed : int, optional
        Seed of the sampler, for the failure message.

    Raises
    ------
    AssertionError
        If a row is drawn too often or too rarely.
    ValueError
        If both or neither of `strata` and `expected` are given, or `false_alarm` is outside (0, 1).
    """
    check_false_alarm(false_alarm)
    if (strata is None) == (expected is None):
        given = "neither" if strata is None else "both"
        raise ValueError(f"exactly one of strata and expected must be given, got {given}; give one of them")
    slots = Slots.of(batches)
    if strata is not None:
        codes, names = factorize(strata)
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
        "each row must be drawn as often as expected",
        min(1.0, 2 * len(due) * math.exp(-deviation[worst])),
        false_alarm,
        observed=f"position {worst} {times[worst]:g} times",
        expected=f"{due[worst]:.4g} times",
        statistic=f"kl_div = {deviation[worst]:.4g}",
        bound=f"{math.log(2 * len(due) / false_alarm):.4g} (Chernoff, {len(due)} rows)",
        n=f"{len(slots.sizes)} batches, {len(slots.positions)} slots",
        seed=seed,
    )


def assert_block_inclusion(
    batches: Batches,
    strata: Labels,
    *,
    n_blocks: int = 8,
    false_alarm: float = 1e-6,
    seed: int | None = None,
) -> None:
    """Assert that rows are drawn equally often whatever their number: blocks of rows, and rows modulo small numbers.

    Each row is expected as often as the others of its stratum, as in `assert_row_inclusion`. The counts of blocks of
    rows, and of rows with the same remainder modulo 2 and 3, are compared with their expectations (chi-square, for
    draws that are as even as independent draws, or more). It has power against deviations that are too small to show in
    a single row, such as a first half that is drawn a little more often; `detectable_categories` quantifies it.

    Parameters
    ----------
    batches : sequence of sequence of int
        Shape (n_batches, batch_size).
    strata : sequence, array, Series or DataFrame
        The stratum of each row, shape (n_anchors,).
    n_blocks : int, default 8
        Number of blocks, in the order of the table.
    false_alarm : float, default 1e-6
        Largest probability, up to the approximation, that a correct sampler fails.
    seed : int, optional
        Seed of the sampler, for the failure message.

    Raises
    ------
    AssertionError
        If rows of a block are drawn too often or too rarely.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> assert_block_inclusion([rng.choice(40, 4, replace=False) for _ in range(100)], ["all"] * 40)
    """
    check_false_alarm(false_alarm)
    slots = Slots.of(batches)
    codes, names = factorize(strata)
    slots.check_bounds(len(codes))
    n_rows = np.bincount(codes, minlength=len(names))
    due = (np.bincount(codes[slots.positions], minlength=len(names)) / n_rows)[codes]
    times, number = np.bincount(slots.positions, minlength=len(codes)), np.arange(len(codes))
    partitions = {
        "block": number * n_blocks // len(codes),
        "number modulo 2": number % 2,
        "number modulo 3": number % 3,
    }
    judge_partitions(
        "rows must be drawn equally often, whatever their number",
        times,
        due,
        partitions,
        false_alarm,
        n=f"{len(slots.sizes)} batches, {len(slots.positions)} slots",
        seed=seed,
    )


def judge_partitions(
    rule: str,
    times: np.ndarray,
    due: np.ndarray,
    partitions: Mapping[str, np.ndarray],
    false_alarm: float,
    **facts: Any,
) -> None:
    """Fail if the rows of a part of some partition are drawn too often or too rarely (chi-square).

    Parameters
    ----------
    rule
        What must hold.
    times, due
        How often each row was drawn, and how often it is expected, shape (n_rows,).
    partitions
        The number of the part that each row is of, shape (n_rows,), by what the parts are.
    false_alarm
        Largest probability, up to the approximation, that a correct sampler fails any of the tests.
    facts
        More lines of the message.
    """
    for name, part in partitions.items():
        expected, observed = np.bincount(part, due), np.bincount(part, times)
        tested = expected >= _LEAST_EXPECTED
        if tested.sum() < 2:
            continue
        statistic = float(((observed - expected)[tested] ** 2 / expected[tested]).sum())
        worst = int(np.argmax(np.abs(observed - expected) / np.sqrt(np.maximum(expected, 1))))
        judge_chi_square(
            rule,
            statistic,
            int(tested.sum()) - 1,
            false_alarm / len(partitions),
            observed=f"rows of {name} {worst} {observed[worst]:g} times",
            expected=f"{expected[worst]:.5g} times",
            **facts,
        )
