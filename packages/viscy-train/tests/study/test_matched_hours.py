import numpy as np
import pytest

from viscy_train.study.matched_hours import match_hours


def test_conditions_have_the_same_distribution_of_hours():
    rng = np.random.default_rng(0)
    labels = (rng.random(2000) < 0.1).astype(int)
    hours = np.where(labels, rng.uniform(5, 30, 2000), rng.uniform(0, 20, 2000))
    weights = match_hours(labels, hours)
    mass = [np.bincount(hours[labels == one].astype(int), weights[labels == one], minlength=30) for one in (0, 1)]
    np.testing.assert_allclose(mass[0], mass[1])
    assert not weights[(hours < 5) | (hours > 20)].any()
    assert weights[weights > 0].mean() == pytest.approx(1)


def test_every_condition_must_occur_in_a_bin():
    labels, hours = np.array([0, 1, 2, 0, 1]), np.array([0, 0, 0, 1, 1.0])
    np.testing.assert_allclose(match_hours(labels, hours), [1, 1, 1, 0, 0])


@pytest.mark.parametrize("hours", [np.array([0.0, 1, 2, 3]), np.array([0, np.nan, np.nan, np.nan]), np.full(4, np.nan)])
def test_conditions_without_common_hours_have_no_weight(hours):
    assert not match_hours(np.array([0, 0, 1, 1]), hours).any()


def test_hours_that_are_sums_of_rounded_intervals_fall_into_one_bin():
    assert match_hours(np.array([0, 1]), np.array([3.0, 0.3 * 10 - 1e-15 + 0.0])).all()
    assert match_hours(np.array([0, 1]), np.array([3.0, 3.0 - 1e-9])).all()
