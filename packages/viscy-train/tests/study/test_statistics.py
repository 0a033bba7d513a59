import itertools
import math

import numpy as np
import pytest
from scipy import stats

from viscy_train.study.statistics import (
    correct_for_arms,
    describe_differences,
    fewest_units,
    interval,
    sign_flip_p,
    units_needed,
)


def test_the_interval_of_few_units_is_that_of_student():
    """Mean 2, standard deviation 1, t of two degrees of freedom 4.3027: 2 ± 4.3027 / sqrt(3)."""
    assert interval(np.array([1.0, 2, 3])) == pytest.approx((2 - 2.4841, 2 + 2.4841), abs=1e-4)


def test_the_interval_of_ten_units_is_bootstrapped_and_follows_skewed_differences():
    skewed = np.array([0.0] * 9 + [1.0])
    low, high = interval(skewed)
    assert 0 <= low < 0.1 < 0.2 < high
    half = stats.t.ppf(0.975, 9) * skewed.std(ddof=1) / np.sqrt(10)
    assert 0.1 - half < 0


@pytest.mark.parametrize(("n", "at_least"), [(3, 0.93), (9, 0.93), (10, 0.86), (20, 0.89)])
def test_the_interval_contains_the_mean_of_normal_differences(n, at_least):
    """95 % for Student's t; the bootstrap of few units covers less, 90 and 93 %. Of 300, 4 % are 3 errors."""
    rng = np.random.default_rng(n)
    hits = [low <= 0.3 <= high for low, high in (interval(rng.normal(0.3, 1, n)) for _ in range(300))]
    assert at_least <= np.mean(hits) <= 0.985


def test_p_is_the_share_of_all_signs():
    differences = np.array([0.3, -0.1, 0.25, 0.4, 0.05])
    sums = [abs(np.dot(signs, differences)) for signs in itertools.product((-1, 1), repeat=5)]
    assert sign_flip_p(differences) == np.mean(np.array(sums) >= differences.sum() - 1e-12)
    assert sign_flip_p(-differences) == sign_flip_p(differences)


@pytest.mark.parametrize("n", [1, 2, 5, 8, 16])
def test_the_smallest_p_is_that_of_equal_signs(n):
    """Equal differences, of which sums round differently."""
    assert sign_flip_p(np.full(n, 0.1)) == 2 / 2**n


def test_p_of_more_units_is_drawn_and_agrees_with_the_exact_one():
    differences = np.random.default_rng(1).normal(0.3, 1, 17)
    sums = np.zeros(1)
    for one in differences:
        sums = np.concatenate([sums + one, sums - one])
    exact = (np.abs(sums) >= abs(differences.sum()) - 1e-12).mean()
    error = math.sqrt(exact * (1 - exact) / 99_999)
    assert sign_flip_p(differences) == pytest.approx(exact, abs=5 * error)
    assert sign_flip_p(differences) == sign_flip_p(differences)


@pytest.mark.parametrize("draw", ["standard_normal", "standard_cauchy", "heavy sign"])
def test_p_is_not_too_small_if_arms_do_not_differ(draw):
    """P(p <= a) <= a for any symmetric differences; of 400, three standard errors are added."""
    rng = np.random.default_rng(2)

    def differences():
        return rng.choice([-1, 1], 8) * 0.1 if draw == "heavy sign" else getattr(rng, draw)(8)

    ps = np.array([sign_flip_p(differences()) for _ in range(400)])
    for a in (0.01, 0.05, 0.2, 0.5):
        assert (ps <= a).mean() <= a + 3 * math.sqrt(a * (1 - a) / 400)
    assert ps.mean() > 0.4


def test_a_planted_difference_is_found():
    """With 10 units and a mean of two standard deviations, p below 0.05 / 6 has a power above 90 %."""
    rng = np.random.default_rng(3)
    assert np.mean([sign_flip_p(rng.normal(2, 1, 10)) < 0.05 / 6 for _ in range(100)]) > 0.9


def test_p_is_corrected_by_hand_worked_numbers():
    """0.01 x 4, 0.02 x 3 = 0.06, 0.03 x 2 = 0.06, and 0.04 x 1 is raised to 0.06."""
    assert correct_for_arms([0.04, 0.01, 0.03, 0.02]) == pytest.approx([0.06, 0.04, 0.06, 0.06])
    assert correct_for_arms([0.5, 0.9]) == [1.0, 1.0]
    assert correct_for_arms([]) == []


def test_p_that_is_unknown_does_not_count():
    corrected = correct_for_arms([0.01, math.nan, 0.04])
    assert corrected[::2] == [0.02, 0.04]
    assert math.isnan(corrected[1])


def test_the_correction_keeps_the_chance_of_any_false_alarm():
    """Six arms without a difference share a baseline; of 300 studies, 5 % and three standard errors at most."""
    rng = np.random.default_rng(4)
    alarms = 0
    for _ in range(300):
        arms, plain = rng.normal(size=(6, 9)), rng.normal(size=9)
        alarms += min(correct_for_arms([sign_flip_p(arm - plain) for arm in arms])) < 0.05
    assert alarms / 300 <= 0.05 + 3 * math.sqrt(0.05 * 0.95 / 300)


@pytest.mark.parametrize("n_arms", [1, 2, 6, 7])
def test_the_fewest_units_are_the_first_whose_smallest_p_suffices(n_arms):
    n = fewest_units(n_arms)
    assert 2 / 2**n * n_arms < 0.05 <= 2 / 2 ** (n - 1) * n_arms


def test_one_difference_has_no_interval_and_none_has_nothing():
    one = describe_differences(np.array([0.2]))
    assert (one.n, one.mean, one.p) == (1, 0.2, 1.0)
    assert math.isnan(one.low)
    assert math.isnan(one.high)
    none = describe_differences(np.empty(0))
    assert none.n == 0
    assert math.isnan(none.p)


@pytest.mark.parametrize("n", [3, 12])
def test_equal_differences_have_an_interval_of_no_width(n):
    found = describe_differences(np.full(n, 0.1))
    assert found.low == found.high == pytest.approx(0.1)
    zero = describe_differences(np.zeros(n))
    assert (zero.low, zero.high, zero.p) == (0, 0, 1)


def test_the_units_needed_make_the_interval_as_narrow_as_the_threshold():
    differences = np.random.default_rng(5).normal(0, 0.05, 6)
    needed = units_needed(differences, 0.02, 6)

    def half(n):
        return stats.t.ppf(0.975, n - 1) * differences.std(ddof=1) / math.sqrt(n)

    assert half(needed) <= 0.02 < half(needed - 1)
    assert needed > 8


def test_the_units_needed_are_those_of_p_if_differences_vary_little():
    assert units_needed(np.array([0.1, 0.1001, 0.0999]), 0.02, 6) == 8
    assert units_needed(np.array([0.1]), 0.02, 6) == 8
    assert units_needed(np.empty(0), 0.02, 1) == 6


def test_the_units_needed_are_more_than_there_are():
    """The mean is at the threshold: the interval is narrow enough, but must be narrower."""
    close = np.tile([0.015, 0.025], 10)
    assert 20 < units_needed(close, 0.02, 1) < 1000
    assert units_needed(np.full(9, 0.1), 0.02, 6) == 10


def test_descriptions_of_the_same_differences_are_equal():
    differences = np.random.default_rng(6).normal(size=20)
    assert describe_differences(differences) == describe_differences(differences)
