"""Laws of objects: how each claim about batches as objects, copies, processes, seeds and epochs is checked."""

from __future__ import annotations

import math
from collections.abc import Generator
from contextlib import contextmanager
from functools import partial
from typing import Any

import pandas as pd

from viscy_sampling_testkit.assertions._failure import fail
from viscy_sampling_testkit.assertions.epochs import (
    assert_epoch_of_first_draw,
    assert_epochs_advance,
    assert_set_epoch_keeps_state,
)
from viscy_sampling_testkit.assertions.identity import assert_batches_stay, assert_copies, assert_leaves_no_trace
from viscy_sampling_testkit.assertions.keys import assert_distinct_keys
from viscy_sampling_testkit.assertions.processes import assert_same_in_other_processes
from viscy_sampling_testkit.assertions.threads import assert_same_in_other_threads
from viscy_sampling_testkit.conformance._run_laws import smallest_pool
from viscy_sampling_testkit.conformance.trial import Trial

_SMALL_SEEDS = (0, 1, 2, 3, 7, 256, 1000, 65_536, 2**31 - 1)
_LARGE_SEEDS = (2**31, 2**32, 2**32 + 1, 2**53, 2**53 + 1, 2**63, 2**64 - 1)
_EPOCHS = (0, 1, 2, 3, 4, 7, 10, 32, 100, 256, 1000, 65_536)
# Number of batches drawn of each seed and epoch.
_BATCHES_OF_KEY = 4


def batches_stay(trial: Trial) -> None:
    """Check that batches are objects of their own."""
    _check_unguarded(trial, assert_batches_stay)


def leaves_no_trace(trial: Trial) -> None:
    """Check that drawing changes neither the global generators nor the table."""
    _check_unguarded(trial, assert_leaves_no_trace)
    try:
        pd.testing.assert_frame_equal(trial.promises.table, trial.table_before)
    except AssertionError as error:
        observed = " ".join(str(error).split())
        fail("drawing must not change the table", observed=observed, expected="the table as it was")


def other_processes(trial: Trial) -> None:
    """Check that samplers draw the same batches in other processes."""
    for num_replicas in trial.replicas[:2]:
        seed = trial.seeds[-1]
        # Draw here first, so that exceptions and endless epochs are failures.
        trial.epoch(rank=num_replicas - 1, num_replicas=num_replicas, seed=seed)
        make = partial(
            trial.make_sampler,
            num_replicas - 1,
            num_replicas,
            **trial.options,
            **({} if seed is None else {"seed": seed}),
        )
        with trial.example(ranks=num_replicas, seed=seed):
            assert_same_in_other_processes(make, n_epochs=1 if trial.promises.epochs is None else 2)


def other_threads(trial: Trial) -> None:
    """Check that samplers draw the same batches in other threads."""
    n_epochs = 1 if trial.promises.epochs is None else 2
    for num_replicas in trial.replicas[:2]:
        seed = trial.seeds[-1]
        with trial.example(ranks=num_replicas, seed=seed):
            make = lambda n=num_replicas, s=seed: trial.make(n - 1, n, s)  # noqa: E731
            assert_same_in_other_threads(make, n_epochs)


def distinct_seeds(trial: Trial) -> None:
    """Check that far-apart seeds and epochs have no batches in common."""
    epochs = _EPOCHS if trial.promises.epochs == "set_epoch" else (0,)
    seeds = (*_SMALL_SEEDS, *(_LARGE_SEEDS if trial.promises.large_seeds else ()))
    batches = trial.epoch(seed=trial.seeds[0])
    chance = 1 / math.comb(smallest_pool(trial, batches), trial.promises.batch_size) if batches else 1.0
    with trial.example(ranks=1, seeds=f"0 to {seeds[-1]}"):
        assert_distinct_keys(
            lambda seed: trial.make(seed=seed),
            seeds,
            epochs,
            chance=chance,
            n_batches=_BATCHES_OF_KEY,
            false_alarm=trial.false_alarm,
        )


def epochs_advance(trial: Trial) -> None:
    """Check that each iteration without `set_epoch` is the next epoch."""
    _check_each_seed(trial, assert_epochs_advance)


def epoch_of_first_draw(trial: Trial) -> None:
    """Check that the epoch is looked up when the first batch is drawn."""
    _check_each_seed(trial, assert_epoch_of_first_draw)


def set_epoch_keeps_state(trial: Trial) -> None:
    """Check that `set_epoch` after a state was loaded resumes in its epoch."""
    _check_each_seed(trial, assert_set_epoch_keeps_state)


def copies(trial: Trial) -> None:
    """Check that copies are where their originals are."""
    _check_unguarded(trial, assert_copies)


@contextmanager
def _exceptions_as_failures() -> Generator[None]:
    """Turn exceptions of a sampler without a guard into failures, but not those of an assertion."""
    try:
        yield
    except (AssertionError, ValueError):
        raise
    except Exception as error:
        fail("drawing must not raise", observed=f"{type(error).__name__}: {error}", expected="no exception")


def _check_each_seed(trial: Trial, assertion: Any) -> None:
    for seed in trial.seeds:
        with trial.example(ranks=1, seed=seed):
            assertion(lambda s=seed: trial.make(seed=s))


def _check_unguarded(trial: Trial, assertion: Any) -> None:
    """Check the samplers themselves instead of guarded ones, after their exceptions were made failures."""
    for num_replicas in trial.replicas[:2]:
        seed = None if trial.seeds[-1] is None else trial.seeds[-1] + 1
        trial.epoch(rank=num_replicas - 1, num_replicas=num_replicas, seed=seed)
        with trial.example(ranks=num_replicas, seed=seed), _exceptions_as_failures():
            assertion(lambda n=num_replicas, s=seed: trial.make_unguarded(n - 1, n, s))
