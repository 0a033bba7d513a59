"""Laws of leak and time: how each claim about leak rows, focal times and temporal windows is checked."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from viscy_sampling_testkit.assertions._slots import factorize
from viscy_sampling_testkit.assertions._windows import Window, WindowedBatches
from viscy_sampling_testkit.assertions.inclusion import assert_block_inclusion
from viscy_sampling_testkit.assertions.leaks import assert_uniform_leak
from viscy_sampling_testkit.assertions.neighbors import assert_independent_rows
from viscy_sampling_testkit.assertions.power import detectable_categories, detectable_leak, detectable_window_shift
from viscy_sampling_testkit.assertions.statistical import assert_uniform
from viscy_sampling_testkit.assertions.windows import assert_focal_turns, assert_window_shares, make_window, most_within
from viscy_sampling_testkit.conformance.trial import Trial

# Fewest batches beyond the end of epochs whose window shares are tested: the test is a normal approximation.
_LEAST_PADDING = 100


def window_of(trial: Trial) -> Window:
    """Return the rule of the temporal window that the sampler claims."""
    claims: Any = trial.promises
    return make_window(
        np.asarray(claims.labels("time_by"), float),
        claims.window_hours,
        claims.global_fraction,
        claims.labels("group_by"),
        claims.labels("condition_by"),
        claims.leaky or 0.0,
        claims.condition_shares,
    )


def focal_turns(trial: Trial) -> None:
    """Check that the times of each group take turns as focal times in every epoch of the sample."""
    window = window_of(trial)
    for seed in trial.seeds:
        for number, epoch in enumerate(trial.sample_epochs(seed)):
            with trial.example(ranks=1, epoch=number or None, seed=seed):
                assert_focal_turns(epoch, window)


def window_shares(trial: Trial) -> None:
    """Check that window slots, global slots and focal times are distributed as the rule says."""
    window, false_alarm = window_of(trial), trial.false_alarm / (len(trial.seeds) + 1)
    for seed in trial.seeds:
        with trial.example(ranks=1, seed=seed):
            assert_window_shares(trial.sample(seed), window, false_alarm=false_alarm)
    padding = trial.padding_sample()
    if len(padding) >= _LEAST_PADDING:
        with trial.example(part="beyond the end"):
            assert_window_shares(padding, window, false_alarm=false_alarm)
    batches = trial.sample(trial.seeds[0])
    deviation = float(most_within(WindowedBatches(batches, window), 2 * window.hours).std())
    shift = detectable_window_shift(len(batches), deviation, false_alarm=false_alarm)
    trial.note = f"detects {shift:.2g} slots more or fewer in the window, on average"


def uniform_leak(trial: Trial) -> None:
    """Check that the leak is drawn uniformly from the rows of the other groups, in each condition."""
    claims: Any = trial.promises
    groups = claims.labels("group_by")
    conditions = claims.labels("condition_by") if claims.condition_shares is not None else None
    times = np.asarray(claims.labels("time_by"), float) if claims.time_by is not None else None
    false_alarm = trial.false_alarm / (2 * len(trial.seeds))
    for seed in trial.seeds:
        with trial.example(ranks=1, seed=seed):
            batches = trial.sample(seed)
            assert_uniform_leak(batches, groups, conditions, times, false_alarm=false_alarm)
            _check_conditions_of_leak(trial, batches, false_alarm)
    n_slots = len(trial.sample(trial.seeds[0])) * claims.batch_size * claims.leaky
    ratio = detectable_leak(n_slots, len(factorize(groups)[1]), false_alarm=false_alarm)
    trial.note = f"detects a group that leaks {ratio:.2g} times as often as expected" if ratio < math.inf else ""


def _check_conditions_of_leak(trial: Trial, batches: list[list[int]], false_alarm: float) -> None:
    """Check that each condition has its share of the leak, if all of them can leak into all groups."""
    claims: Any = trial.promises
    if claims.condition_shares is None or claims.anchors_per_condition is not None:
        return
    groups, group_names = factorize(claims.labels("group_by"))
    codes, names = factorize(claims.labels("condition_by"))
    shares = np.array([claims.condition_shares.get(name, 0.0) for name in names])
    where = np.zeros((len(group_names), len(names)), int)
    where[groups, codes] = 1
    tested = shares > 0
    if (where[:, tested].sum(axis=0) < 2).any() or tested.sum() < 2:
        return
    homes = [int(np.bincount(groups[batch]).argmax()) for batch in batches]
    leaked = [codes[row] for batch, home in zip(batches, homes, strict=True) for row in batch if groups[row] != home]
    assert_uniform(np.bincount(leaked, minlength=len(names))[tested], shares[tested], false_alarm=false_alarm)


def row_blocks(trial: Trial) -> None:
    """Check that rows are drawn equally often whatever their number."""
    strata = trial.promises.labels("group_by", "condition_by", "time_by", "distinct_by")
    false_alarm = trial.false_alarm / len(trial.seeds)
    for seed in trial.seeds:
        with trial.example(ranks=1, seed=seed):
            assert_block_inclusion(trial.sample(seed), strata, false_alarm=false_alarm)
    n_slots = sum(map(len, trial.sample(trial.seeds[0])))
    effect = detectable_categories(n_slots, 2, false_alarm=false_alarm / 3)
    trial.note = f"detects rows of odd number drawn {effect:.1%} too often"


def independent_rows(trial: Trial) -> None:
    """Check that rows of a batch follow each other in the table or in time only by chance."""
    claims: Any = trial.promises
    windowed = claims.window_hours is not None
    for seed in trial.seeds:
        with trial.example(ranks=1, seed=seed):
            assert_independent_rows(
                trial.sample(seed),
                claims.labels("group_by", "condition_by"),
                claims.labels("group_by", "condition_by", *(["time_by"] if windowed else [])),
                groups=claims.labels("group_by") if claims.leaky and claims.uniform_leak else None,
                conditions=claims.labels("condition_by") if claims.condition_by is not None else None,
                times=claims.labels("time_by") if claims.time_by is not None else None,
                false_alarm=trial.false_alarm / len(trial.seeds),
            )
