import numpy as np
import pandas as pd
import pytest

from viscy_train.study.measures import MEASURES
from viscy_train.study.statistics import correct_for_arms, describe_differences
from viscy_train.study.summary import Units, paired_differences, summarize
from viscy_train.study.verdicts import Verdict, judge

SEEDS = Units.of_study()
JUDGED = [name for name, one in MEASURES.items() if one.threshold is not None]


def row_of(summary, arm, measure="condition"):
    return summary[(summary["arm"] == arm) & (summary["measure"] == measure)].iloc[0]


@pytest.mark.parametrize(
    ("difference", "low", "high", "p", "verdict"),
    [
        (0.05, 0.01, 0.09, 0.049, "helps"),
        (0.05, 0.01, 0.09, 0.05, "cannot tell"),
        (0.05, -0.01, 0.11, 0.01, "cannot tell"),
        (0.019, 0.01, 0.03, 0.01, "cannot tell"),
        (-0.05, -0.09, -0.01, 0.049, "hurts"),
        (-0.05, -0.09, -0.01, 0.05, "cannot tell"),
        (-0.05, -0.11, 0.01, 0.01, "cannot tell"),
        (-0.019, -0.03, -0.01, 0.01, "cannot tell"),
        (0.01, 0.0, 0.02, 0.01, "no difference"),
        (0.0, -0.02, 0.02, 1.0, "no difference"),
        (0.0, -0.021, 0.02, 1.0, "cannot tell"),
        (0.3, float("nan"), float("nan"), 1.0, "cannot tell"),
        (float("nan"), float("nan"), float("nan"), float("nan"), "cannot tell"),
    ],
)
def test_a_verdict_follows_the_rules(difference, low, high, p, verdict):
    assert judge(difference, low, high, p, threshold=0.02) == verdict


def test_arms_are_compared_with_plain_in_the_same_seed(make_runs):
    """Seeds differ far more than arms."""
    of_seeds = np.linspace(0.5, 0.9, 8)
    gains = np.array([0.09, 0.11] * 4)
    runs = make_runs(condition={"plain": of_seeds, "helpful": of_seeds + gains, "harmful": of_seeds - gains})
    summary = summarize(runs, SEEDS)
    helpful = row_of(summary, "helpful")
    assert (helpful.n, helpful.missing, helpful.verdict) == (8, 0, "helps")
    assert (helpful["mean"], helpful.difference) == pytest.approx((0.8, 0.1))
    assert (helpful.p, helpful.p_holm) == (2 / 2**8, 4 / 2**8)
    assert row_of(summary, "harmful").verdict == "hurts"
    plain = row_of(summary, "plain")
    assert (plain.n, plain.verdict) == (8, "")
    assert np.isnan([plain.difference, plain.p]).all()


def test_every_arm_has_a_row_for_each_measure_and_only_judged_measures_have_verdicts(make_runs):
    runs = make_runs(condition={"plain": [0.5] * 8, "time": [0.7] * 8, "pixels (PCA)": [0.6] * 8})
    summary = summarize(pd.concat([runs, runs.assign(world="balanced")]), SEEDS)
    rows = [(world, arm) for world in ("base", "balanced") for arm in ("plain", "time", "pixels (PCA)")]
    assert list(zip(summary["world"], summary["arm"], strict=True)) == [row for row in rows for _ in MEASURES]
    judged = summary[summary["verdict"] != ""]
    assert judged["measure"].tolist() == JUDGED * 2
    assert set(judged["arm"]) == {"time"}


def test_references_do_not_count_among_the_arms(make_runs):
    runs = make_runs(condition={"plain": [0.5] * 6, "pixels (PCA)": [0.6] * 6, "untrained encoder": [0.6] * 6})
    arm = make_runs(condition={"time": [0.7] * 6})
    summary = summarize(pd.concat([runs, arm]), SEEDS)
    assert row_of(summary, "time").p_holm == row_of(summary, "time").p == 2 / 2**6
    reference = row_of(summary, "pixels (PCA)")
    assert reference.difference == pytest.approx(0.1)
    assert np.isnan(reference.p_holm)


def test_pairs_in_which_a_measure_is_not_defined_are_dropped_and_counted(make_runs):
    runs = make_runs(condition={"plain": [0.5, 0.6, np.nan, 0.8], "time": [0.6, np.nan, 0.7, 0.8]})
    found = row_of(summarize(runs, SEEDS), "time")
    assert (found.n, found.missing) == (2, 2)
    assert found.difference == pytest.approx(0.05)


def test_a_measure_that_is_never_defined_has_no_verdict(make_runs):
    found = row_of(summarize(make_runs(condition={"plain": [np.nan] * 3, "time": [np.nan] * 3}), SEEDS), "time")
    assert (found.n, found.missing, found.verdict) == (0, 3, "")
    assert np.isnan([found["mean"], found.difference, found.p, found.units_needed]).all()


def test_with_held_out_experiments_the_fold_is_the_unit(make_runs):
    """Six runs of two folds are two units, however many seeds."""
    one = make_runs(condition={"plain": [0.5, 0.5, 0.5], "time": [0.6, 0.7, 0.8]})
    other = make_runs(condition={"plain": [0.5, 0.5, 0.5], "time": [0.5, 0.5, 0.5]})
    runs = pd.concat([one.assign(fold="monday"), other.assign(fold="tuesday")])
    differences, _ = paired_differences(runs, Units.of_folds("experiment", 2), "time", "condition")
    assert differences.to_dict() == pytest.approx({"monday": 0.2, "tuesday": 0.0})
    assert row_of(summarize(runs, Units.of_folds("experiment", 2)), "time").n == 2
    assert row_of(summarize(runs, Units.of_folds("position", 2)), "time").n == 6


def test_too_few_units_cannot_tell_and_say_how_many_could(make_runs):
    runs = make_runs(condition={"plain": [0.5, 0.6], "a": [0.6, 0.7], "b": [0.6, 0.9]})
    summary = summarize(runs, SEEDS)
    certain, vague = row_of(summary, "a"), row_of(summary, "b")
    assert certain.verdict == vague.verdict == "cannot tell"
    assert certain.units_needed == 7
    assert vague.units_needed > 100


def test_plain_against_plain_has_no_verdict_in_95_percent_of_relabelings():
    """Runs of plain in 10 seeds are called arms at random, 200 times. Neither helping nor hurting is a verdict."""
    rng = np.random.default_rng(0)
    values = rng.normal(0.7, 0.05, (7, 10)) + rng.normal(0, 0.05, 10)  # plus a difference of seeds
    alarms = 0
    for _ in range(200):
        relabeled = rng.permuted(values, axis=0)
        differences = relabeled[1:] - relabeled[0]
        found = [describe_differences(one) for one in differences]
        corrected = correct_for_arms([one.p for one in found])
        verdicts = {judge(one.mean, one.low, one.high, p, 0.02) for one, p in zip(found, corrected, strict=True)}
        alarms += bool(verdicts & {Verdict.HELPS, Verdict.HURTS})
    assert alarms <= 10


def test_the_order_of_runs_does_not_change_differences(make_runs):
    rng = np.random.default_rng(0)
    runs = make_runs(condition={"plain": rng.random(12), "time": rng.random(12)})
    shuffled = runs.sample(frac=1, random_state=0).sort_values("arm", kind="stable")
    pd.testing.assert_frame_equal(summarize(runs, SEEDS), summarize(shuffled, SEEDS))
