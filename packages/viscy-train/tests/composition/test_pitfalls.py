import numpy as np
import pandas as pd
import pytest

from viscy_train.composition.pitfalls import RULE, find_pitfalls

OFF = {"experiment_aware": False, "condition_balanced": False, "temporal_enrichment": False}
EXPERIMENT, CONDITION, TIME = ({**OFF, name: True} for name in OFF)


def anchors_with(sizes, hours=None):
    """Make anchors of (experiment, condition), with hours from 0 to 10 or in the range of their condition."""
    parts = [
        pd.DataFrame(
            {
                "experiment": experiment,
                "condition": condition,
                "hours_post_infection": np.linspace(*(hours or {}).get(condition, (0, 10)), size),
            }
        )
        for (experiment, condition), size in sizes.items()
    ]
    return pd.concat(parts, ignore_index=True)


RARE = {("a", "mock"): 90, ("a", "virus"): 10, ("b", "mock"): 90, ("b", "virus"): 10}


@pytest.mark.parametrize("options", [OFF, EXPERIMENT, CONDITION, EXPERIMENT | CONDITION])
def test_a_rare_condition_in_every_experiment_has_no_pitfalls(options):
    assert find_pitfalls(anchors_with(RARE), options) == []


def test_experiments_of_one_condition_are_named():
    one_each = anchors_with({("a", "mock"): 90, ("b", "virus"): 10, ("c", "mock"): 5, ("c", "virus"): 5})
    first, rule = find_pitfalls(one_each, EXPERIMENT | {"condition_balanced": True})
    assert first.startswith("the batches of experiments 'a', 'b' have one condition only")
    assert "experiment_aware with condition_balanced may hurt" in first
    assert rule.endswith(RULE)
    assert find_pitfalls(one_each, CONDITION) == []


def test_a_table_of_one_condition_is_not_a_pitfall():
    assert find_pitfalls(anchors_with({("a", "mock"): 90, ("b", "mock"): 10}), EXPERIMENT) == []


@pytest.mark.parametrize(("mixing", "is_reported"), [(None, False), (0.3, False), (0.9, True)])
def test_experiments_that_mix_already_have_little_to_gain(mixing, is_reported):
    sentences = find_pitfalls(anchors_with(RARE), EXPERIMENT, mixing)
    assert any("already mix in their pixels" in sentence for sentence in sentences) == is_reported
    assert find_pitfalls(anchors_with(RARE), CONDITION, mixing) == []


def test_balancing_conditions_that_are_not_rare_has_little_to_gain():
    equal = anchors_with({("a", "mock"): 55, ("a", "virus"): 45})
    assert "the rarest, 'virus', has 45% of the anchors" in find_pitfalls(equal, CONDITION)[0]
    assert find_pitfalls(equal, OFF) == []


def test_hours_that_are_constant_in_a_batch_may_be_ignored():
    assert "temporal_enrichment" in find_pitfalls(anchors_with(RARE), TIME)[0]


def test_conditions_at_other_hours_are_named_with_their_hours():
    apart = anchors_with(RARE, {"mock": (0, 5), "virus": (6, 12)})
    assert find_pitfalls(apart, OFF)[0] == (
        "conditions 'mock' (0 to 5 h) and 'virus' (6 to 12 h) hardly share hours: the difference between "
        "them may be time alone"
    )
    assert find_pitfalls(apart.drop(columns="hours_post_infection"), OFF) == []


def test_of_many_conditions_three_pairs_are_named():
    hours = {str(number): (10 * number, 10 * number + 1) for number in range(5)}
    apart = anchors_with({("a", name): 10 for name in hours}, hours)
    assert "... and 7 more of this kind" in find_pitfalls(apart, OFF)
