"""The choice of conditions: probabilities and slots that give every condition its share, as far as possible."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from viscy_data._compose.choice import Choice


def choose(shares, n_slots, at_least):
    shares = np.array([shares], float)
    return Choice.from_shares(shares / shares.sum(), n_slots, at_least)


weights = st.lists(st.sampled_from([0.0, 0.05, 0.3, 1.0, 1.0, 1.0, 2.0, 20.0]), min_size=1, max_size=12).filter(any)


@given(weights, st.integers(1, 60), st.data())
def test_a_batch_has_as_many_conditions_as_can_have_the_required_slots(shares, n_slots, data):
    at_least = data.draw(st.integers(1, n_slots))
    choice = choose(shares, n_slots, at_least)
    n_present = sum(share > 0 for share in shares)
    assert choice.n_chosen.tolist() == [min(n_present, n_slots // at_least)]
    assert choice.probability.sum() == pytest.approx(choice.n_chosen[0])
    assert ((choice.probability >= 0) & (choice.probability <= 1)).all()
    present = np.array(shares) > 0
    assert (choice.slots[0][present] >= at_least * (1 - 1e-9)).all()
    assert (choice.slots[0][~present] == 0).all()
    assert (choice.probability * choice.slots).sum() == pytest.approx(n_slots)


@given(weights, st.integers(1, 60), st.data())
def test_probabilities_are_in_proportion_to_shares_except_for_certain_conditions(shares, n_slots, data):
    at_least = data.draw(st.integers(1, n_slots))
    choice = choose(shares, n_slots, at_least)
    shares = np.array(shares)
    uncertain = (choice.probability[0] < 1) & (shares > 0)
    ratio = choice.probability[0][uncertain] / shares[uncertain]
    assert np.allclose(ratio, ratio[:1])
    assert (shares[~uncertain & (shares > 0)] >= shares[uncertain].max(initial=0) * (1 - 1e-9)).all()
    assert choice.leaves_out.tolist() == [bool(uncertain.any())]


def test_equal_conditions_split_a_batch_equally():
    choice = choose([1] * 1000, 512, 4)
    assert choice.n_chosen.tolist() == [128]
    assert choice.probability == pytest.approx(np.full((1, 1000), 0.128))
    assert choice.slots == pytest.approx(np.full((1, 1000), 4.0))


def test_a_frequent_condition_keeps_its_share_if_the_others_have_enough_slots():
    choice = choose([0.3] + [0.07] * 10, 40, 3)
    assert choice.n_chosen.tolist() == [11]
    assert choice.probability == pytest.approx(np.ones((1, 11)))
    assert (choice.probability * choice.slots)[0] == pytest.approx([10] + [3] * 10)
    choice = choose([0.5] + [0.05] * 10, 16, 2)
    assert choice.probability[0] == pytest.approx([1] + [0.7] * 10)
    assert choice.slots[0] == pytest.approx([2] * 11)


def test_small_certain_conditions_have_the_required_slots_and_the_others_split_the_rest():
    choice = choose([6, 3, 1], 20, 4)
    assert choice.slots[0] == pytest.approx([16 * 2 / 3, 16 / 3, 4])


def test_a_batch_of_fewer_slots_than_required_has_one_condition():
    choice = choose([1, 1, 1], 3, 5)
    assert choice.n_chosen.tolist() == [1]
    assert choice.slots[0] == pytest.approx([3, 3, 3])


def test_groups_are_chosen_for_independently():
    shares = np.array([[0.5, 0.5, 0], [1 / 3, 1 / 3, 1 / 3], [1, 0, 0]])
    choice = Choice.from_shares(shares, 8, 4)
    assert choice.n_chosen.tolist() == [2, 2, 1]
    assert choice.slots[0] == pytest.approx([4, 4, 0])
    assert choice.slots[1] == pytest.approx([4, 4, 4])
    assert choice.slots[2] == pytest.approx([8, 0, 0])
    assert choice.leaves_out.tolist() == [False, True, False]
