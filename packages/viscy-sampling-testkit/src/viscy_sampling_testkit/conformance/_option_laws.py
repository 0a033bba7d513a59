"""Laws of options: how each claim about slices, chosen conditions, distinct values and short epochs is checked."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np

from viscy_sampling_testkit.assertions._slots import factorize
from viscy_sampling_testkit.assertions.choice import (
    assert_choice_unbiased,
    assert_chosen_in_proportion,
    assert_conditions_chosen,
    assert_pairs_chosen,
)
from viscy_sampling_testkit.assertions.distinct_values import assert_distinct_values
from viscy_sampling_testkit.assertions.rounds import assert_round_covers, assert_short_epochs
from viscy_sampling_testkit.assertions.steps import assert_slices_alike, assert_slices_join
from viscy_sampling_testkit.conformance._batch_laws import _check_each, _is_home, _views
from viscy_sampling_testkit.conformance._run_laws import _assert_unrelated
from viscy_sampling_testkit.conformance.trial import Sequences, Trial

# Numbers of ranks whose slices are compared with whole batches, in addition to those of the setting.
_RANKS_OF_SLICES = (2, 4, 8)
# Fewest batches of a round of short epochs that are compared with another.
_BATCHES_TO_COMPARE = 120


def slices(trial: Trial) -> None:
    """Check that the slices of each step are the batch of a single process."""
    size = trial.promises.batch_size
    for num_replicas in sorted({*trial.replicas, *(n for n in _RANKS_OF_SLICES if size % n == 0)}):
        for seed in trial.seeds:
            for epoch in range(min(2, trial.n_epochs)):
                with trial.example(ranks=num_replicas, epoch=epoch or None, seed=seed):
                    assert_slices_join(trial.ranks(num_replicas, seed, epoch), trial.epoch(epoch, seed=seed))


def slices_alike(trial: Trial) -> None:
    """Check that labels are as frequent on each rank: groups, conditions, windows, and numbers of rows."""
    n_rows, size = len(trial.promises.table), trial.promises.batch_size
    num_replicas = next((n for n in (4, 2, 3) if size % n == 0), size)
    views = [*_views(trial), (list, np.arange(n_rows) % 2), (list, np.arange(n_rows) % num_replicas)]
    false_alarm = trial.false_alarm / (len(views) * len(trial.seeds))
    for seed in trial.seeds:
        ranks = _sample_of_ranks(trial, num_replicas, seed)
        for view, labels in views:
            with trial.example(ranks=num_replicas, seed=seed):
                assert_slices_alike(_view_slices(ranks, view), labels, false_alarm=false_alarm, seed=seed)


def chosen_conditions(trial: Trial) -> None:
    """Check how many conditions each batch holds, and with how many slots."""
    _check_each(trial, lambda batches: assert_conditions_chosen(batches, **_choice(trial)))


def choice_in_proportion(trial: Trial) -> None:
    """Check that conditions are chosen in proportion in every epoch, or in every round of short epochs."""
    for seed in trial.seeds:
        for number, batches in enumerate(trial.sample_rounds(seed)):
            with trial.example(ranks=1, round=number, seed=seed):
                assert_chosen_in_proportion(batches, **_choice(trial))


def unbiased_choice(trial: Trial) -> None:
    """Check that no condition is preferred on average."""
    for seed in trial.seeds:
        with trial.example(ranks=1, seed=seed):
            false_alarm = trial.false_alarm / len(trial.seeds)
            assert_choice_unbiased(trial.sample_rounds(seed), **_choice(trial), false_alarm=false_alarm, seed=seed)


def pairs_of_conditions(trial: Trial) -> None:
    """Check that no pair of conditions is preferred."""
    for seed in trial.seeds:
        with trial.example(ranks=1, seed=seed):
            false_alarm = trial.false_alarm / len(trial.seeds)
            assert_pairs_chosen(trial.sample_rounds(seed), **_choice(trial), false_alarm=false_alarm, seed=seed)


def distinct_values(trial: Trial) -> None:
    """Check that rows of a batch share a value only if there are no others."""
    claims: Any = trial.promises
    windowed = claims.window_hours is not None
    excluded = [name for name, share in (claims.group_shares or {}).items() if share == 0]

    def assertion(batches: Sequences) -> None:
        assert_distinct_values(
            batches,
            claims.labels("distinct_by"),
            claims.labels("group_by"),
            claims.labels("condition_by"),
            np.asarray(claims.labels("time_by"), float) if windowed else None,
            claims.window_hours,
            1.0 if claims.window_fraction is None else claims.window_fraction,
            excluded=excluded,
        )

    _check_each(trial, assertion)
    for seed in trial.seeds:
        for number in range(trial.n_epochs):
            batches = [batch for epoch in trial.round(number, seed) for batch in epoch]
            trial.check(assertion, batches, ranks=1, round=number, seed=seed)


def short_epochs(trial: Trial) -> None:
    """Check the number of batches of short epochs, and the groups' shares of them and of their round."""
    claims: Any = trial.promises
    groups = claims.labels("group_by") if claims.group_shares is not None else None
    for seed in trial.seeds:
        for number in range(trial.n_epochs):
            with trial.example(ranks=1, round=number, seed=seed):
                epochs = trial.round(number, seed)
                assert_short_epochs(
                    epochs, claims.epoch_batches, claims.batch_size, groups=groups, shares=claims.group_shares
                )


def rounds_of_short_epochs(trial: Trial) -> None:
    """Check that the epochs of a round draw the rows of a stratum in turn, in slots of the batch's home group."""
    claims: Any = trial.promises
    codes, _ = factorize(claims.labels("group_by"))
    strata = claims.labels("group_by", "condition_by")
    for seed in trial.seeds:
        for number in range(trial.n_epochs):
            epochs = trial.round(number, seed)
            own = [[_home_rows(batch, codes) for batch in epoch] for epoch in epochs] if claims.leaky else epochs
            with trial.example(ranks=1, round=number, seed=seed):
                assert_round_covers(own, strata)


def unrelated_rounds(trial: Trial) -> None:
    """Check that rounds are unrelated: each to the next, and the even ones together to the odd ones."""
    n = trial.promises.epochs_of_round
    n_pairs = max(1, -(-_BATCHES_TO_COMPARE // (n * int(trial.promises.epoch_batches or 1))))
    shifts = [0] if n == 1 else [0, 1, -1]
    false_alarm = trial.false_alarm / (len(shifts) * len(trial.seeds))
    for seed in trial.seeds:
        for shift in shifts:
            even, odd = (
                [round_number * n + (i + by) % n for round_number in range(first, 2 * n_pairs, 2) for i in range(n)]
                for first, by in ((0, 0), (1, shift))
            )
            with trial.example(ranks=1, seed=seed, shift=shift or None):
                _assert_unrelated(trial, (seed, even), (seed, odd), false_alarm)


def _choice(trial: Trial) -> dict[str, Any]:
    """Return the arguments of the assertions about chosen conditions."""
    claims: Any = trial.promises
    return {
        "conditions": claims.labels("condition_by"),
        "anchors_per_condition": claims.anchors_per_condition,
        "groups": claims.labels("group_by"),
        "shares": claims.condition_shares,
    }


def _sample_of_ranks(trial: Trial, num_replicas: int, seed: int | None) -> list[Sequences]:
    """Return the slices of each rank in as many epochs as the sample of a single process has."""
    epochs = [trial.ranks(num_replicas, seed, epoch) for epoch in range(len(trial.sample_epochs(seed)))]
    return [[part for epoch in epochs for part in epoch[rank]] for rank in range(num_replicas)]


def _view_slices(ranks: list[Sequences], view: Any) -> list[Sequences]:
    """Apply a function of whole batches to the slices of all ranks."""
    sizes = [len(parts[0]) for parts in ranks]
    whole = view([[row for part in step for row in part] for step in zip(*ranks, strict=True)])
    ends = np.cumsum([0, *sizes]).tolist()
    return [[list(batch[a:b]) for batch in whole] for a, b in pairwise(ends)]


def _home_rows(batch: list[int], codes: np.ndarray) -> list[int]:
    return [row for row, home in zip(batch, _is_home(batch, codes), strict=True) if home == 1]
