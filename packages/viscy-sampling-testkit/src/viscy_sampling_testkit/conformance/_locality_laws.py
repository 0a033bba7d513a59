"""Laws of locality: how each claim about runs of rows, their places, and counts without locality is checked."""

from __future__ import annotations

from typing import Any

import numpy as np

from viscy_sampling_testkit.assertions.locality import (
    assert_run_inclusion,
    assert_run_places,
    assert_runs,
    assert_same_counts,
)
from viscy_sampling_testkit.assertions.windows import make_window
from viscy_sampling_testkit.conformance._batch_laws import _check_each
from viscy_sampling_testkit.conformance.trial import Trial


def runs(trial: Trial) -> None:
    """Check that the slots of every part are few runs."""
    _check_each(trial, lambda batches: assert_runs(batches, **_rows(trial)))


def places_of_runs(trial: Trial) -> None:
    """Check that the slots of every part are from few places."""
    _check_each(trial, lambda batches: assert_run_places(batches, **_rows(trial)))


def counts_without_locality(trial: Trial) -> None:
    """Check that all counts of every batch are those of the sampler without locality."""
    claims: Any = trial.promises
    options = {**trial.options, **claims.without_locality}
    plain = Trial(trial.make_sampler, claims, trial.setting, options, trial.false_alarm)
    window = None
    groups, conditions = (claims.labels(axis) for axis in ("group_by", "condition_by"))
    if claims.window_hours is not None:
        fraction = claims.global_fraction
        fraction = 1 - (claims.window_fraction or 0.0) if fraction is None else fraction
        hours = np.asarray(claims.labels("time_by"), float)
        window = make_window(hours, claims.window_hours, fraction, groups, conditions, claims.leaky or 0.0)
    for seed in trial.seeds:
        for epoch in range(trial.n_epochs):
            with trial.example(ranks=1, epoch=epoch or None, seed=seed):
                ours, theirs = (each.epoch(epoch, seed=seed) for each in (trial, plain))
                assert_same_counts(ours, theirs, groups, conditions, window)


def inclusion_in_runs(trial: Trial) -> None:
    """Check that rows are drawn equally often, wherever they are in time and place."""
    for seed in trial.seeds:
        with trial.example(ranks=1, seed=seed):
            false_alarm = trial.false_alarm / len(trial.seeds)
            assert_run_inclusion(trial.sample(seed), **_rows(trial), false_alarm=false_alarm, seed=seed)


def _rows(trial: Trial) -> dict[str, Any]:
    """Return the arguments of the assertions about runs."""
    claims: Any = trial.promises
    return {
        "times": np.asarray(claims.labels("time_by"), float),
        "places": claims.labels("place_by"),
        "groups": claims.labels("group_by"),
        "conditions": claims.labels("condition_by"),
        "locality": claims.locality,
        "windowed": claims.window_hours is not None,
    }
