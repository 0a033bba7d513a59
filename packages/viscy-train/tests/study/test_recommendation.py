import math

import numpy as np
import pandas as pd
import pytest

from viscy_train.study.recommendation import recommend
from viscy_train.study.summary import Units

SEEDS = Units.of_study()
ARMS = ["plain", "condition", "experiment + condition", "all"]
PLAIN = np.linspace(0.5, 0.7, 8)
NOISE = np.array([0.02, -0.02, 0.01, -0.01, 0.015, -0.015, 0.005, -0.005])


def recommended(runs, units=SEEDS):
    (found,) = recommend(runs, units, ARMS).values()
    return found


def test_the_simplest_arm_within_one_standard_error_of_the_best_is_recommended(make_runs):
    """`all` is ahead of the simpler arm by 0.001, with a standard error of 0.005."""
    values = {"plain": PLAIN, "condition": PLAIN + 0.05, "experiment + condition": PLAIN + 0.1}
    found = recommended(make_runs(condition=values | {"all": PLAIN + 0.101 + NOISE}))
    assert (found.arm, found.best) == ("experiment + condition", "all")
    assert found.gain == pytest.approx(0.1)
    assert found.sentences[0] == (
        "On `base`, `experiment + condition` is recommended: the simplest arm within one standard error of the best, "
        "`all`."
    )
    assert "optimistic" in found.sentences[1]


def test_an_arm_that_is_clearly_ahead_is_recommended(make_runs):
    found = recommended(make_runs(condition={"plain": PLAIN, "condition": PLAIN + 0.1 + NOISE, "all": PLAIN + 0.05}))
    assert (found.arm, found.best) == ("condition", "condition")
    assert "no simpler arm is within one standard error" in found.sentences[0]


def test_an_arm_that_is_not_shown_to_help_is_the_one_to_try_first(make_runs):
    found = recommended(make_runs(condition={"plain": [0.5] * 3, "all": [0.7, 0.71, 0.72]}))
    assert found.sentences[0] == (
        "On `base`, `all` is the one to try first: no simpler arm is within one standard error of it. It is not shown "
        "to be better than `plain`."
    )


def test_an_arm_that_helps_another_judged_measure_is_recommended(make_runs):
    """The condition improves by more than a standard error, but by too little to matter; mixing improves by 0.3."""
    runs = make_runs(
        condition={"plain": PLAIN, "all": PLAIN + 0.01},
        mixing={"plain": PLAIN, "all": PLAIN + 0.3},
    )
    assert recommended(runs).sentences[0].startswith("On `base`, `all` is recommended: ")


def test_an_arm_that_hurts_another_judged_measure_is_left_out(make_runs):
    runs = make_runs(
        condition={"plain": PLAIN, "condition": PLAIN + 0.05, "all": PLAIN + 0.1},
        hours_r2={"plain": PLAIN, "condition": PLAIN, "all": PLAIN - 0.2},
    )
    found = recommended(runs)
    assert (found.arm, found.best) == ("condition", "condition")
    assert "Left out because they hurt a judged measure: `all`." in found.sentences


def test_plain_is_recommended_if_nothing_is_better(make_runs):
    found = recommended(make_runs(condition={"plain": PLAIN, "all": PLAIN + NOISE}))
    assert found.arm == "plain"
    assert found.gain == 0
    assert found.sentences[0] == (
        "On `base`, `plain` is recommended: no arm predicts the condition better by a standard error."
    )


def test_picking_the_best_of_noise_is_optimistic_and_the_nested_gain_is_not(make_runs):
    """Twelve studies of six arms that are all plain: the picked gain is above 0 on average, the nested one near 0."""
    names = ["plain", *"abcdef"]
    found = []
    for seed in range(12):
        rng = np.random.default_rng(seed)
        (one,) = recommend(make_runs(condition={arm: rng.normal(0.7, 0.1, 6) for arm in names}), SEEDS, names).values()
        found.append((one.gain, one.nested))
    gain, nested = np.mean(found, axis=0)
    assert gain > max(nested, 0)
    assert abs(nested) < 0.06


def test_the_nested_gain_is_measured_in_units_that_did_not_pick_the_arm(make_runs):
    """Without seed 0, in which it is better by 1, `all` is hardly better than plain, so plain is picked for seed 0."""
    gain = np.array([1.0, 1e-3, -1e-3, 1e-3, -1e-3])
    found = recommended(make_runs(condition={"plain": [0.5] * 5, "all": 0.5 + gain}))
    assert found.nested == pytest.approx(0, abs=1e-2)
    assert "If the arm is picked without the seed on which it is measured" in found.sentences[-1]


def test_the_nested_gain_needs_four_units(make_runs):
    found = recommended(make_runs(condition={"plain": [0.5] * 3, "all": [0.7, 0.71, 0.72]}))
    assert found.arm == "all"
    assert math.isnan(found.nested)


def test_with_held_out_experiments_each_is_left_out_in_turn(make_runs):
    one = make_runs(condition={"plain": [0.5, 0.5], "all": [0.6, 0.7]})
    runs = pd.concat([one.assign(fold=day) for day in ("mon", "tue", "wed", "thu")])
    found = recommended(runs, Units.of_folds("experiment", 4))
    assert found.nested == pytest.approx(0.15)
    assert found.sentences[-1].endswith("is +0.15 from `plain` (picked: `all` 4 times).")


def test_one_unit_recommends_nothing(make_runs):
    found = recommended(make_runs(condition={"plain": [0.5], "all": [0.7]}))
    assert found.arm is None
    assert found.sentences == [
        "On `base`, no arm is recommended: condition AUROC must be measured in two seeds at least, got 1."
    ]


def test_if_no_arm_beats_the_references_the_first_sentence_says_so(make_runs):
    """`all` beats the untrained encoder, but not the pixels."""
    references = {"pixels (PCA)": PLAIN + 0.1, "untrained encoder": PLAIN - 0.1}
    found = recommended(make_runs(condition={**references, "plain": PLAIN, "all": PLAIN + 0.1 + NOISE}))
    assert found.beats_references == ()
    assert found.sentences[0] == (
        "On `base`, no arm is shown to predict the condition better than pixels (PCA) (0.70) and untrained encoder "
        "(0.50): nothing shows that training gains anything here."
    )
    better = recommended(make_runs(condition={**references, "plain": PLAIN, "all": PLAIN + 0.2 + NOISE}))
    assert better.beats_references == ("all",)
    assert "no arm is shown" not in " ".join(better.sentences)


def test_each_world_has_its_recommendation(make_runs):
    runs = make_runs(condition={"plain": PLAIN, "all": PLAIN + 0.1})
    both = pd.concat([runs, make_runs("balanced", condition={"plain": PLAIN, "all": PLAIN - 0.1})])
    assert {world: found.arm for world, found in recommend(both, SEEDS, ARMS).items()} == {
        "base": "all",
        "balanced": "plain",
    }
