import numpy as np
import pandas as pd

from viscy_train.study.sentences import number, on_units, sentences, signed
from viscy_train.study.summary import Units, summarize

SEEDS = Units.of_study()
PLAIN = np.linspace(0.5, 0.7, 8)


def said(runs, units=SEEDS, about="condition AUROC"):
    return [line for line in sentences(summarize(runs, units), units) if about in line]


def test_what_helps_and_what_hurts_is_said_with_numbers(make_runs):
    gain = 0.14 + 0.01 * np.array([1, -1] * 4)
    runs = make_runs(condition={"plain": PLAIN, "experiment + condition": PLAIN + gain, "time": PLAIN - gain})
    assert said(runs) == [
        "On `base`, `experiment + condition` helps: condition AUROC +0.14 (0.13 to 0.15), p = 0.016 after Holm, "
        "8 seeds.",
        "On `base`, `time` hurts: condition AUROC -0.14 (-0.15 to -0.13), p = 0.016 after Holm, 8 seeds.",
    ]


def test_arms_without_a_difference_share_a_sentence(make_runs):
    runs = make_runs(condition={"plain": PLAIN, "time": PLAIN, "all": PLAIN + 0.001, "condition": PLAIN})
    assert said(runs) == [
        "On `base`, `time`, `all` and `condition` make no difference to condition AUROC (within ± 0.02)."
    ]


def test_what_cannot_be_decided_says_how_many_seeds_could(make_runs):
    spread = np.array([0.11, -0.05] * 4)
    (line,) = said(make_runs(condition={"plain": PLAIN, "time": PLAIN + spread}))
    assert line == (
        "On `base`, cannot tell for condition AUROC (difference, 95 % interval, about how many seeds it takes): `time` "
        "+0.03, -0.04 to 0.10, 73."
    )


def test_two_seeds_cannot_tell_and_say_why(make_runs):
    runs = make_runs(condition={"plain": [0.5, 0.6], "time": [0.6, 0.8], "all": [0.6, 0.8]})
    first = sentences(summarize(runs, SEEDS), SEEDS)[0]
    assert first == (
        "On `base`, whether an arm helps or hurts cannot be decided from 2 seeds: with 2 arms, at least 7 seeds are "
        "needed for p < 0.05 after Holm; add seeds."
    )
    assert not [line for line in said(runs) if "helps:" in line or "hurts:" in line]


def test_experiments_that_can_never_suffice_are_named(make_runs):
    one = make_runs(condition={"plain": [0.5], "time": [0.7]})
    runs = pd.concat([one.assign(fold=day, condition=one["condition"] + 0.01 * n) for n, day in enumerate("abcd")])
    runs.loc[runs["fold"].eq("a") & runs["arm"].eq("time"), "condition"] += 0.1
    units = Units.of_folds("experiment", 4)
    first = sentences(summarize(runs, units), units)[0]
    assert first == (
        "On `base`, whether an arm helps or hurts cannot be decided from 4 held-out experiments: with 1 arm, at least "
        "6 held-out experiments are needed for p < 0.05 after Holm, and the project has 4; add experiments, or "
        "hold out positions."
    )
    (line,) = said(runs, units)
    assert "about how many held-out experiments it takes; the project has 4)" in line


def test_one_seed_has_no_interval(make_runs):
    (line,) = said(make_runs(condition={"plain": [0.5], "time": [0.7]}))
    assert line == (
        "On `base`, cannot tell for condition AUROC (difference, 95 % interval, about how many seeds it takes): `time` "
        "+0.20, no interval, 6."
    )


def test_a_measure_that_is_not_defined_is_not_mentioned(make_runs):
    assert said(make_runs(condition={"plain": [np.nan] * 8, "time": [np.nan] * 8})) == []


def test_runs_of_plain_alone_say_nothing(make_runs):
    assert sentences(summarize(make_runs(condition={"plain": PLAIN}), SEEDS), SEEDS) == []


def test_a_small_p_is_a_bound_and_a_number_that_rounds_to_0_has_no_sign(make_runs):
    plain = np.linspace(0.5, 0.7, 16)
    (line,) = said(make_runs(condition={"plain": plain, "time": plain + 0.1}))
    assert "p < 0.001 after Holm, 16 seeds" in line
    assert [number(value) for value in (-0.001, -0.01, 0.123)] == ["0.00", "-0.01", "0.12"]
    assert [signed(value) for value in (-0.001, 0.001, -0.01, 0.123)] == ["0.00", "0.00", "-0.01", "+0.12"]


def test_that_there_are_too_few_units_can_be_said_first(make_runs):
    few = summarize(make_runs(condition={"plain": [0.5, 0.6], "time": [0.6, 0.8]}), SEEDS)
    assert on_units(few, SEEDS) == sentences(few, SEEDS)[:1]
    enough = summarize(make_runs(condition={"plain": PLAIN, "time": PLAIN + 0.1}), SEEDS)
    assert on_units(enough, SEEDS) == []
