"""A batch holds as many conditions as have room for their anchors, chosen in proportion and in all pairs."""

import numpy as np
import pytest

from viscy_sampling_testkit import (
    assert_choice_unbiased,
    assert_chosen_in_proportion,
    assert_conditions_chosen,
    assert_pairs_chosen,
    choose_targets,
)

# Five rows of each of six conditions.
CONDITIONS = np.repeat(list("pqrstu"), 5)


def make_batch(*counts):
    """Return a batch with so many rows of each condition."""
    return [5 * c + i for c, n in enumerate(counts) for i in range(n)]


def make_epochs(seed, choose, n_epochs=60, n_batches=10):
    """Return epochs of batches of eight slots, each with the two conditions that `choose` returns for its number."""
    rng = np.random.default_rng(seed)
    return [[make_batch(*4 * choose(rng, k)) for k in range(n_batches)] for _ in range(n_epochs)]


def any_two(rng, k):
    return rng.permutation([1, 1, 0, 0, 0, 0])


@pytest.mark.parametrize(
    ("shares", "n_slots", "least", "probabilities", "parts"),
    [
        ([1, 1, 1, 1], 8, 4, [0.5] * 4, [4] * 4),
        ([1, 1, 1, 0], 8, 4, [2 / 3, 2 / 3, 2 / 3, 0], [4, 4, 4, 0]),
        # All conditions have room: their parts are their shares.
        ([0.75, 0.25], 8, 2, [1, 1], [6, 2]),
        # A part is raised to the fewest anchors.
        ([0.9, 0.1], 10, 3, [1, 1], [7, 3]),
        # One condition is in every batch; the others share the rest of the slots equally.
        ([0.5, 0.125, 0.125, 0.125, 0.125], 12, 3, [1, 0.75, 0.75, 0.75, 0.75], [3, 3, 3, 3, 3]),
        ([0.6, 0.1, 0.1, 0.1, 0.1], 12, 2, [1, 1, 1, 1, 1], [4, 2, 2, 2, 2]),
        # A short batch holds one condition with all its slots.
        ([1, 1, 1], 3, 4, [1 / 3] * 3, [3] * 3),
    ],
)
def test_targets_follow_the_shares_as_far_as_there_is_room(shares, n_slots, least, probabilities, parts):
    targets = choose_targets(shares, n_slots, least)
    assert targets.probabilities == pytest.approx(probabilities)
    assert targets.parts == pytest.approx(parts)
    assert targets.n_chosen == round(sum(probabilities))


def test_batches_with_enough_anchors_of_each_condition_pass():
    assert_conditions_chosen([make_batch(4, 4), make_batch(0, 5, 0, 4)], CONDITIONS, 4)


@pytest.mark.parametrize(
    ("batch", "patterns"),
    [
        (make_batch(4, 2, 2), ["as many conditions as have room", "3 conditions: {'p': 4, 'q': 2, 'r': 2}", "2 cond"]),
        (make_batch(4, 0, 0, 4)[:4] * 2, ["1 conditions", "2 conditions"]),
        (make_batch(5, 3), ["floor or the ceiling of its part", "'q': 3", "'p': 4 slots", "at least 4 anchors"]),
    ],
)
def test_batches_with_other_conditions_fail(batch, patterns, assertion_fails):
    with assertion_fails(*patterns, "2 batches, 1 of them", "first offending batch: 1"):
        assert_conditions_chosen([make_batch(4, 4), batch], CONDITIONS, 4)


def test_condition_that_the_home_group_lacks_fails(assertion_fails):
    groups = np.repeat([0, 0, 0, 1, 1, 1], 5)
    batch = [*make_batch(4, 3), 15]
    with assertion_fails("3 conditions", "2 conditions"):
        assert_conditions_chosen([batch], CONDITIONS, 4, groups=groups)


def test_conditions_in_turn_are_in_proportion_and_others_are_not(assertion_fails):
    in_turn = [make_batch(*4 * np.roll([1, 1, 0, 0, 0, 0], 2 * k)) for k in range(7)]
    assert_chosen_in_proportion(in_turn, CONDITIONS, 4)
    with assertion_fails("in proportion to its share", "'p' in 4 of 9 batches", "expected: 3"):
        assert_chosen_in_proportion([*in_turn[:6], *in_turn[:1] * 2, in_turn[1]], CONDITIONS, 4)


@pytest.mark.parametrize("seed", range(20))
def test_random_choice_of_pairs_passes(seed):
    assert_pairs_chosen(make_epochs(seed, any_two), CONDITIONS, 4, seed=seed)


@pytest.mark.parametrize(
    "choose",
    [
        lambda rng, k: np.roll([1, 1, 0, 0, 0, 0], 2 * rng.integers(3)),
        lambda rng, k: np.roll([1, 0, 0, 1, 0, 0], rng.integers(3)),
    ],
)
def test_pairs_that_are_always_together_fail(choose, assertion_fails):
    with assertion_fails("together equally often", "of the batches", "expected: 6.7%", "60 epochs of groups"):
        assert_pairs_chosen(make_epochs(0, choose), CONDITIONS, 4)


def test_pairs_need_three_conditions_with_equal_shares():
    with pytest.raises(ValueError, match="at least 3 conditions of a group must have equal shares"):
        assert_pairs_chosen([[make_batch(4, 4)]], CONDITIONS, 4, shares={"p": 1, "q": 1})


def test_further_slots_of_the_same_condition_fail(assertion_fails):
    epochs = [[make_batch(5, 4), make_batch(0, 0, 5, 4), make_batch(0, 0, 0, 0, 5, 4)] for _ in range(60)]
    with assertion_fails("slots of a chosen condition must be its part", "mean 5 for 'p'", "expected: mean 4.5"):
        assert_choice_unbiased(epochs, CONDITIONS, 4)


def test_choice_that_is_rounded_the_same_way_fails(assertion_fails):
    epoch = [make_batch(4, 4), make_batch(0, 0, 4, 4), make_batch(0, 0, 0, 0, 4, 4), make_batch(4, 4)]
    with assertion_fails("rounded without preference", "'p' rounded up in 60 of 60 epochs", "expected: 20"):
        assert_choice_unbiased([epoch] * 60, CONDITIONS, 4)
