"""A statistical assertion detects the stated deviation in nearly all of 50 seeds."""

import math

import numpy as np
import pytest

from viscy_sampling_testkit import (
    assert_exchangeable_slots,
    assert_mean_counts,
    assert_row_inclusion,
    assert_uniform,
    assert_unrelated,
    detectable_categories,
    detectable_means,
    detectable_position,
    detectable_row_ratios,
    detectable_share,
)

SEEDS = range(50)
# The stated probability of a miss is 1 %; then 3 or more misses in 50 seeds have a probability of 1.4 %.
MOST_MISSES = 2


def misses(assertion, draw):
    """Return for how many seeds an assertion wrongly accepts the batches of `draw`."""
    missed = 0
    for seed in SEEDS:
        try:
            assertion(draw(np.random.default_rng(seed)))
            missed += 1
        except AssertionError:
            pass
    return missed


@pytest.mark.parametrize("quota", [0.5, 2.3, 6.9])
def test_stated_means_are_detected(quota):
    low, high = detectable_means(1000, quota)
    assert math.floor(quota) <= low < quota < high <= math.ceil(quota)
    for mean in (low, high):

        def draw(rng, mean=mean):
            return (mean + rng.random(1000)).astype(int)

        assert misses(lambda counts: assert_mean_counts(counts, quota), draw) <= MOST_MISSES


def test_half_of_the_stated_deviation_of_the_mean_is_mostly_missed():
    """The stated deviation is not much too large: half of it is missed more often than not."""
    low, high = detectable_means(1000, 0.5)
    mean = 0.5 + (high - 0.5) / 2
    assert misses(lambda c: assert_mean_counts(c, 0.5), lambda rng: (mean + rng.random(1000)).astype(int)) > 25
    assert low == pytest.approx(1 - high)


def test_stated_means_with_a_spread_are_detected():
    low, high = detectable_means(400, 4, spread=8)
    assert low == pytest.approx(8 - high)
    assert (
        misses(lambda c: assert_mean_counts(c, 4, spread=8), lambda rng: rng.binomial(8, high / 8, 400)) <= MOST_MISSES
    )


def test_bound_is_infinite_if_no_mean_is_detected():
    assert detectable_means(10, 0.05) == (-math.inf, detectable_means(10, 0.05)[1])
    assert detectable_means(10, 0.95)[1] == math.inf
    assert detectable_means(10, 3.0) == (3.0, 3.0)


@pytest.mark.parametrize("times", [30, 120])
def test_stated_row_ratios_are_detected(times):
    n_anchors, size = 240, 12
    n_batches = times * n_anchors // size
    for ratio in detectable_row_ratios(times, n_anchors):
        weights = np.r_[ratio, np.ones(n_anchors - 1)]
        # Scale the other rows, so that the ratio is that of the row to its expectation.
        weights = weights * np.r_[1, np.full(n_anchors - 1, (n_anchors - ratio) / (n_anchors - 1))] / n_anchors

        def draw(rng, weights=weights):
            return rng.choice(n_anchors, (n_batches, size), p=weights).tolist()

        assert misses(lambda b: assert_row_inclusion(b, ["all"] * n_anchors), draw) <= MOST_MISSES


def test_rarely_expected_row_is_not_detected_if_it_is_never_drawn():
    low, high = detectable_row_ratios(10, 1000)
    assert low == -math.inf
    assert 3 < high < 7


@pytest.mark.parametrize("n_categories", [2, 20])
def test_stated_categories_are_detected(n_categories):
    w = detectable_categories(2000, n_categories)
    # One category is off by d, and the others share -d: w**2 = n_categories * d**2 * n_categories / (n_categories - 1).
    d = w * math.sqrt((n_categories - 1) / n_categories) / math.sqrt(n_categories)
    p = np.full(n_categories, 1 / n_categories - d / (n_categories - 1))
    p[0] = 1 / n_categories + d
    assert misses(assert_uniform, lambda rng: rng.multinomial(2000, p)) <= MOST_MISSES


@pytest.mark.parametrize("fraction", [0.5, 0.25])
def test_stated_label_at_a_slot_position_is_detected(fraction):
    n_batches, size = 400, 12
    n_rare = int(size * fraction)
    off = detectable_position(n_batches, size, fraction)

    def draw(rng):
        """Return batches of rare (0) and frequent (1) labels; the first slot is rare too often."""
        batches = np.ones((n_batches, size), int)
        first = rng.random(n_batches) < fraction + off
        for batch, is_rare in zip(batches, first, strict=True):
            batch[0] = not is_rare
            batch[1 + rng.permutation(size - 1)[: n_rare - is_rare]] = 0
        return batches.tolist()

    assert misses(lambda batches: assert_exchangeable_slots(batches, ["rare", "frequent"]), draw) <= MOST_MISSES


def test_too_few_batches_to_test_each_slot_position_raise():
    with pytest.raises(ValueError, match=r"must be at least 5, got 2\.5; give more batches"):
        detectable_position(10, 12, 0.5)


def test_stated_share_in_common_is_detected():
    n_batches, size, n_anchors = 100, 10, 1000
    share = detectable_share(n_batches, size, n_anchors)

    def draw(rng):
        a = np.stack([rng.permutation(n_anchors)[:size] for _ in range(n_batches)])
        b = np.stack([rng.permutation(n_anchors)[:size] for _ in range(n_batches)])
        n_common = round(share * n_batches * size)
        common = np.zeros(n_batches * size, bool)
        common[rng.permutation(n_batches * size)[:n_common]] = True
        return a.tolist(), np.where(common.reshape(a.shape), a, b).tolist()

    assert misses(lambda pair: assert_unrelated(*pair, n_anchors), draw) <= MOST_MISSES
    assert detectable_share(2, 10, 20) == math.inf


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"n_batches": 0}, "the number of batches, draws or times must be positive, got 0"),
        ({"miss": 0}, r"miss must be in \(0, 1\), got 0"),
        ({"false_alarm": 1}, r"false_alarm must be in \(0, 1\), got 1"),
    ],
)
def test_invalid_argument_raises(options, message):
    with pytest.raises(ValueError, match=message):
        detectable_means(**{"n_batches": 100, "quota": 0.5, **options})
