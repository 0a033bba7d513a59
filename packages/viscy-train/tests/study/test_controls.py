"""Controls of a study: what is known of made-up worlds must be found, and what is not there must not be.

The worlds, steps and arms are those of the size ``laptop``, with the seeds 0 to 9.
"""

import os
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from viscy_train.study.arms import ARMS
from viscy_train.study.conclude import data_of_config, find_pitfalls_of
from viscy_train.study.made_up import made_up_trials
from viscy_train.study.measures import MEASURES
from viscy_train.study.opened_case import OpenedCase
from viscy_train.study.run_trial import run_trial
from viscy_train.study.schedule import _one_thread, run_study
from viscy_train.study.sizes import SIZES
from viscy_train.study.study_folder import StudyFolder
from viscy_train.study.summary import Units, summarize
from viscy_train.study.verdicts import Verdict

pytestmark = [pytest.mark.weekly, pytest.mark.slow]
N_SEEDS = 10
ONE_EACH = "one condition each"
SIZE = replace(
    SIZES["laptop"],
    n_seeds=N_SEEDS,
    tables=("base", "balanced", "strong aging", ONE_EACH),
    images=(),
    n_seeds_of_images=0,
    n_seeds_of_hela=0,
)
UNITS = Units.of_study()


@pytest.fixture(scope="module")
def trials(tmp_path_factory):
    return made_up_trials(tmp_path_factory.mktemp("worlds"), SIZE, ARMS)


@pytest.fixture(scope="module")
def runs(trials, tmp_path_factory):
    folder = StudyFolder(tmp_path_factory.mktemp("study") / "out", {})
    run_study(trials, folder, processes=min(2, os.cpu_count() or 1))
    return folder.runs(trials)


@pytest.fixture(scope="module")
def verdicts(runs):
    """The verdict of each world, arm and measure."""
    return summarize(runs, UNITS).set_index(["world", "arm", "measure"])["verdict"]


def values(runs, world, arm, measure):
    """Return a measure of each seed."""
    chosen = runs[(runs["world"] == world) & (runs["arm"] == arm)]
    return chosen.set_index("seed")[measure].sort_index().to_numpy()


def test_the_base_world_is_neither_saturated_nor_hopeless(runs):
    assert values(runs, "base", "untrained encoder", "condition").mean() <= 0.85
    assert 0.5 <= values(runs, "base", "plain", "condition").mean() <= 0.8
    assert values(runs, "base", "plain", "mixing").mean() < 0.3


def test_batches_of_one_experiment_mix_the_experiments_in_every_seed(runs):
    gain = values(runs, "base", "experiment", "mixing") - values(runs, "base", "plain", "mixing")
    assert len(gain) == N_SEEDS
    assert gain.min() >= 0.4


def test_balancing_conditions_never_helps_where_none_is_rare(verdicts):
    assert verdicts["balanced", "condition", "condition"] != Verdict.HELPS


def test_experiments_of_one_condition_are_a_warning_and_balancing_them_never_helps(trials, verdicts):
    config = next(trial.case.config for trial in trials if trial.case.world == ONE_EACH)
    assert any("have one condition only" in sentence for sentence in find_pitfalls_of(data_of_config(config)))
    for arm in ("condition", "experiment", "experiment + condition", "all"):
        assert verdicts[ONE_EACH, arm, "condition"] != Verdict.HELPS


def test_batches_around_an_hour_encode_less_of_the_hours(runs, verdicts):
    gain = values(runs, "strong aging", "time", "hours_r2") - values(runs, "strong aging", "plain", "hours_r2")
    assert gain.mean() < -0.05
    assert verdicts["strong aging", "time", "hours_r2"] == Verdict.HURTS


@pytest.fixture(scope="module")
def plain_runs(trials):
    """Seven runs of plain in each base world, which differ in initial weights and batches; shape (arms, worlds)."""
    cases = {trial.seed: trial.case for trial in trials if trial.case.world == "base"}
    pool = []
    with _one_thread():
        for case in cases.values():
            opened = OpenedCase(case)
            pool.append([run_trial(opened, ARMS[0], 100 + number, SIZE.n_steps).row for number in range(len(ARMS))])
    return np.array(pool, dtype=object).T


def test_plain_against_plain_gives_no_verdict_in_95_percent_of_relabelings(plain_runs):
    """In each world, seven runs of plain are called arms at random, 200 times."""
    rng, names = np.random.default_rng(0), [arm.name for arm in ARMS]
    alarms = dict.fromkeys((name for name, measure in MEASURES.items() if measure.threshold is not None), 0)
    for _ in range(200):
        relabeled = rng.permuted(plain_runs, axis=0)
        rows = [
            row | {"arm": arm, "seed": seed}
            for arm, of_arm in zip(names, relabeled, strict=True)
            for seed, row in enumerate(of_arm)
        ]
        summary = summarize(pd.DataFrame(rows), UNITS)
        found = summary[summary["verdict"].isin([Verdict.HELPS.value, Verdict.HURTS.value])]
        for name in found["measure"].unique():
            alarms[name] += 1
    assert max(alarms.values()) <= 10, alarms
