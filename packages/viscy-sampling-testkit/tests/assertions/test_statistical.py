"""Each statistical assertion accepts correct samplers over many seeds and rejects one with a matching mistake."""

import numpy as np
import pytest

from viscy_sampling_testkit import (
    assert_exchangeable_slots,
    assert_mean_counts,
    assert_slot_classes,
    assert_uniform,
    assert_unrelated,
)

# At the default false-alarm rate of 1e-6, these tests fail by chance in one of about five thousand runs.
SEEDS = range(200)
LABELS = np.array(["a"] * 600 + ["b"] * 300 + ["c"] * 100)


def epoch(seed, n_anchors=1000, batch_size=10):
    """Return the batches of a shuffled epoch."""
    return np.random.default_rng(seed).permutation(n_anchors).reshape(-1, batch_size).tolist()


def rounded_at_random(seed, quota, n_batches=400):
    """Return counts that are the floor or the ceiling of a quota, with the quota as their mean."""
    return (quota + np.random.default_rng(seed).random(n_batches)).astype(int)


@pytest.mark.parametrize("quota", [0.05, 0.4, 3.0, 6.5, 12.9])
def test_randomly_rounded_quotas_have_the_expected_mean(quota):
    for seed in SEEDS:
        assert_mean_counts(rounded_at_random(seed, quota), quota)
        assert_mean_counts(rounded_at_random(seed, quota), quota, spread=1)


def test_quota_that_is_always_rounded_down_fails(assertion_fails):
    with assertion_fails(
        r"expected mean\n  observed: mean 0, from 0 to 0", "expected: mean 0.5", "statistic: ", "n: 400 batches"
    ):
        assert_mean_counts([0] * 400, 0.5)


def test_mean_that_is_slightly_off_fails_with_enough_batches(assertion_fails):
    counts = rounded_at_random(0, 0.55, 6000)
    with assertion_fails(
        "mean 0.5[45]", "bound: 14.51", r"n: 6000 batches\n  seed: 7", "less than the false-alarm rate 1e-06"
    ):
        assert_mean_counts(counts, 0.5, seed=7)
    with assertion_fails("n: 6000"):
        assert_mean_counts(counts, 0.5, spread=1)


@pytest.mark.parametrize(("counts", "quota"), [([3, 5] * 50, 4.0), ([4] * 99 + [5], 4.0), ([0, 2] * 50, 1.5)])
def test_count_beyond_floor_and_ceiling_fails(counts, quota, assertion_fails):
    with assertion_fails("n: 100 batches", "p value: 0"):
        assert_mean_counts(counts, quota)


def test_counts_with_a_spread_can_be_anything_within_it(assertion_fails):
    for seed in SEEDS:
        assert_mean_counts(np.random.default_rng(seed).integers(0, 9, 200), 4, spread=8)
    with assertion_fails("mean 6", "expected: mean 4"):
        assert_mean_counts([4, 8] * 200, 4, spread=8)


def test_counts_beyond_their_spread_raise_and_no_counts_fail(assertion_fails):
    with pytest.raises(ValueError, match="spread must be at least the range of the counts, 4, got 3"):
        assert_mean_counts([4, 8], 6, spread=3)
    with assertion_fails("there must be counts", "0 counts"):
        assert_mean_counts([], 6)


def test_false_alarm_rate_is_at_most_the_stated_one():
    """At a rate of 0.1, at most a tenth of 2000 correct sequences may fail, plus six standard deviations."""
    failures = 0
    for seed in range(2000):
        try:
            assert_mean_counts(rounded_at_random(seed, 0.3, 50), 0.3, false_alarm=0.1)
        except AssertionError:
            failures += 1
    assert failures < 2000 * 0.1 + 6 * (2000 * 0.1 * 0.9) ** 0.5


def test_uniform_draws_pass():
    for seed in SEEDS:
        rng = np.random.default_rng(seed)
        assert_uniform(np.bincount(rng.integers(20, size=2000), minlength=20))
        assert_uniform(rng.multinomial(1000, [0.7, 0.2, 0.1]), [7, 2, 1])
    assert_uniform([50] * 20)


def test_category_that_is_too_frequent_fails(assertion_fails):
    counts = np.random.default_rng(0).multinomial(2000, [0.1, *[0.9 / 19] * 19])
    with assertion_fails(
        "category 0 ", "expected: 100 times", "chi-square = ", "19 degrees", "n: 2000 in 20", "p value"
    ):
        assert_uniform(counts)
    with assertion_fails("category 0 200 times", "expected: 500 times"):
        assert_uniform([200, 800], [1, 1])


@pytest.mark.parametrize(
    ("counts", "expected", "message"),
    [
        ([100], None, "counts must have at least 2 categories, and expected as many, got 1 and 1"),
        ([100, 100], [1, 1, 1], "got 2 and 3"),
        ([3, 4], None, "expected counts must be at least 5, got 3.5; give more draws"),
        ([100, 0], [1, 0], "expected counts must be at least 5, got 0"),
    ],
)
def test_counts_that_allow_no_test_raise(counts, expected, message):
    with pytest.raises(ValueError, match=message):
        assert_uniform(counts, expected)


@pytest.mark.parametrize("batch_size", [2, 8, 50])
def test_slots_in_random_order_are_exchangeable(batch_size):
    for seed in SEEDS:
        assert_exchangeable_slots(epoch(seed, batch_size=batch_size), LABELS)


def test_slots_in_random_order_are_exchangeable_with_any_composition():
    """Batches with one, two and all labels, a rare label, and a short last batch."""
    a, b = np.arange(600), np.arange(600, 900)
    for seed in SEEDS:
        rng = np.random.default_rng(seed)
        parts = [(a, 10), (b, 10), (np.concatenate([a, b]), 10), (np.arange(1000), 10)]
        batches = [rng.choice(pool, n, replace=False).tolist() for pool, n in parts * 40]
        balanced = [[*rng.choice(a, 5, replace=False), *rng.choice(b, 5, replace=False)] for _ in range(40)]
        shuffled = [rng.permutation(batch).tolist() for batch in balanced]
        assert_exchangeable_slots([*batches, *shuffled, [600, 1, 2]], LABELS)
        assert_exchangeable_slots(epoch(seed), np.where(np.arange(1000) < 30, "rare", "frequent"))


def test_slots_sorted_by_label_fail(assertion_fails):
    batches = [sorted(batch) for batch in epoch(0)]
    with assertion_fails(
        "must not depend on its position",
        r"slot positions \[9\]",
        "chi-square = ",
        r"n: 100 batches of 10\n  seed: 0",
        "p value",
    ):
        assert_exchangeable_slots(batches, LABELS, seed=0)


def test_label_that_prefers_the_last_slot_in_one_of_three_batches_fails(assertion_fails):
    labels = np.resize(LABELS, 10_000)
    batches = [sorted(b, key=lambda p: labels[p] == "c") if k % 3 == 0 else b for k, b in enumerate(epoch(0, 10_000))]
    with assertion_fails("must not depend on its position"):
        assert_exchangeable_slots(batches, labels)


def test_labels_in_blocks_fail_although_each_slot_position_has_its_share(assertion_fails):
    batches = [np.roll(sorted(batch), k).tolist() for k, batch in enumerate(epoch(0))]
    with assertion_fails(
        "equal labels must cluster", "runs of equal labels", "expected: ", "z = -", "n: 100 batches of 10"
    ):
        assert_exchangeable_slots(batches, LABELS)


def test_labels_that_alternate_fail(assertion_fails):
    rng = np.random.default_rng(0)
    pairs = [np.stack([rng.permutation(600)[:5], 600 + rng.permutation(300)[:5]], axis=1) for _ in range(100)]
    batches = [(pair if rng.random() < 0.5 else pair[:, ::-1]).ravel().tolist() for pair in pairs]
    with assertion_fails("equal labels must cluster or alternate only by chance", "observed: 1000 runs", "z = [1-9]"):
        assert_exchangeable_slots(batches, LABELS)


@pytest.mark.parametrize("batches", [epoch(0)[:2], [list(range(10))] * 100])
def test_labels_that_hardly_vary_within_batches_raise(batches):
    with pytest.raises(ValueError, match="labels must vary within batches for their order to be tested; give more"):
        assert_exchangeable_slots(batches, LABELS)


def test_batches_of_two_labels_are_tested_by_slot_position_only(assertion_fails):
    """The number of runs is constant there: that is neither an error nor a false alarm."""
    rng = np.random.default_rng(0)
    batches = [rng.permutation([k % 600, 600 + k % 300]).tolist() for k in range(200)]
    assert_exchangeable_slots(batches, LABELS)
    with assertion_fails("must not depend on its position"):
        assert_exchangeable_slots([sorted(batch) for batch in batches], LABELS)


def test_different_seeds_are_unrelated():
    for seed in SEEDS:
        assert_unrelated(epoch(seed), epoch(1000 + seed), 1000)


def test_sequences_that_draw_some_anchors_more_often_are_unrelated():
    weights = np.r_[np.full(50, 10.0), np.ones(150)]
    for seed in SEEDS:
        rng = np.random.default_rng(seed)
        a, b = ([rng.choice(200, 10, False, weights / weights.sum()).tolist() for _ in range(60)] for _ in range(2))
        assert_unrelated(a, b, 50)


def test_sequences_with_one_group_per_batch_are_unrelated():
    for seed in SEEDS:
        rng = np.random.default_rng(seed)
        a, b = ([(100 * rng.integers(5) + rng.permutation(100)[:10]).tolist() for _ in range(60)] for _ in range(2))
        assert_unrelated(a, b, 100)


def test_equal_batches_from_a_small_pool_are_unrelated():
    assert_unrelated([[0, 1], [2, 3]], [[2, 3], [0, 1]], 4)


def test_equal_sequences_are_related(assertion_fails):
    with assertion_fails(
        "coincide only by chance", "observed: 1000 coin", "expected: 10 coin", "Chatterjee", "n: 100 batches", "p v"
    ):
        assert_unrelated(epoch(0), epoch(0), 1000)


def test_sequences_that_differ_in_one_anchor_per_batch_are_related(assertion_fails):
    other = [[*batch[1:], (batch[0] + 1) % 1000] for batch in epoch(0)]
    with assertion_fails("coincide only by chance"):
        assert_unrelated(epoch(0), other, 1000)


def test_equal_batches_in_another_order_are_related(assertion_fails):
    other = [batch[::-1] for batch in epoch(0)]
    other = other[1:] + other[:1]
    with assertion_fails(
        "share a batch", "100 equal batches; batch 0 of one is batch 99 of the other", "seed: 3", "batch: 0"
    ):
        assert_unrelated(epoch(0), other, 1000, seed=3)


def test_pool_smaller_than_a_batch_raises():
    with pytest.raises(ValueError, match="n_anchors must be at least the batch size, 10, got 9"):
        assert_unrelated(epoch(0), epoch(1), 9)


@pytest.mark.parametrize("false_alarm", [0, 1, float("nan")])
def test_false_alarm_rate_out_of_range_raises(false_alarm):
    message = r"false_alarm must be in \(0, 1\), got"
    with pytest.raises(ValueError, match=message):
        assert_mean_counts([1], 1, false_alarm=false_alarm)
    with pytest.raises(ValueError, match=message):
        assert_uniform([10, 10], false_alarm=false_alarm)
    with pytest.raises(ValueError, match=message):
        assert_exchangeable_slots(epoch(0), LABELS, false_alarm=false_alarm)
    with pytest.raises(ValueError, match=message):
        assert_unrelated(epoch(0), epoch(1), 1000, false_alarm=false_alarm)


def test_slots_in_random_order_have_the_same_labels_in_all_classes():
    for seed in range(20):
        rng = np.random.default_rng(seed)
        batches = [rng.permutation(40)[:9].tolist() for _ in range(200)]
        assert_slot_classes(batches, [0] * 20 + [1] * 20, seed=seed)


@pytest.mark.parametrize("arrange", [lambda batch: batch[::2] + batch[1::2], lambda batch: [*batch[:-1], max(batch)]])
def test_even_odd_or_last_slots_that_prefer_a_label_fail(arrange, assertion_fails):
    rng = np.random.default_rng(0)
    batches = [sorted(rng.permutation(40)[:8].tolist()) for _ in range(200)]
    in_pairs = [[row for pair in zip(batch[:4], batch[4:], strict=True) for row in pair] for batch in batches]
    with assertion_fails("must not depend on the class of its index", "labels deviate most in class"):
        assert_slot_classes([arrange(batch) for batch in in_pairs], [0] * 20 + [1] * 20)
