"""Batches in random order pass; labels in blocks, in turns or at fixed indexes fail, and so does biased rounding."""

import math

import numpy as np
import pytest

from viscy_sampling_testkit import assert_random_order, assert_unbiased_rounding, detectable_means

LABELS = np.array(["a"] * 10 + ["b"] * 6 + ["c"] * 4)


def epochs_of(order, n=60, seed=0):
    rng = np.random.default_rng(seed)
    return [order(rng).tolist() for _ in range(n)]


def test_random_order_passes():
    for seed in range(30):
        epochs = epochs_of(lambda rng: rng.permutation(LABELS), seed=seed)
        assert_random_order(epochs, others=epochs_of(lambda rng: rng.permutation(LABELS), seed=1000 + seed))


def test_labels_that_are_mixed_completely_in_every_stretch_pass():
    def mixed(rng):
        return np.concatenate([rng.permutation(np.repeat(LABELS, 2)) for _ in range(4)])

    assert_random_order(epochs_of(mixed))


@pytest.mark.parametrize(
    ("order", "rule"),
    [
        (
            lambda rng: np.concatenate([LABELS[group == LABELS] for group in rng.permutation(["a", "b", "c"])]),
            "must",
        ),
        (lambda rng: rng.permutation(LABELS.reshape(-1, 2)).ravel(), "must follow each other only by chance"),
        (lambda rng: np.concatenate([["a"], rng.permutation(LABELS[1:])]), "at one index of the epoch"),
        (lambda rng: np.random.default_rng(0).permutation(LABELS), "must"),
        (lambda rng: np.roll(np.resize(["a", "b"], 20), rng.integers(2)), "must follow each other only by chance"),
        (lambda rng: np.r_[rng.permutation(LABELS[:16]), LABELS[16:]], "must"),
    ],
    ids=["blocks", "pairs", "first", "same", "turns", "late"],
)
def test_order_that_is_not_random_fails(order, rule, assertion_fails):
    with assertion_fails(rule, "observed: "):
        assert_random_order(epochs_of(order))


def test_equal_orders_of_two_sequences_fail(assertion_fails):
    epochs = epochs_of(lambda rng: rng.permutation(LABELS))
    with assertion_fails("agree in the order of their batches only by chance", "1200 batches with the same label"):
        assert_random_order(epochs, others=epochs)


def test_sequences_of_one_label_raise():
    with pytest.raises(ValueError, match="batches must have at least 2 labels for their order to be tested, got 1"):
        assert_random_order([["a"] * 10] * 5)


def rounded(rng, quota=2.4, n=20):
    """Return counts that are rounded by a common offset, so that they depend on each other."""
    return np.diff(np.floor(np.arange(n + 1) * quota + rng.random())).tolist()


def test_unbiased_rounding_passes_in_all_classes():
    classes = [[k % 2 for k in range(20)]] * 60
    for seed in range(100):
        rng = np.random.default_rng(seed)
        assert_unbiased_rounding([rounded(rng) for _ in range(60)], 2.4, classes)


def test_rounding_that_depends_on_the_class_fails(assertion_fails):
    counts, classes = [[2, 3] * 10] * 60, [[0, 1] * 10] * 60
    assert_unbiased_rounding(counts, 2.5)
    with assertion_fails(
        "without bias in all batches of class 0", "observed: mean 2", "expected: mean 2.5", "60 epochs"
    ):
        assert_unbiased_rounding(counts, 2.5, classes)
    with pytest.raises(ValueError, match=r"counts must be the floor or the ceiling of the quota, 2\.5, to test"):
        assert_unbiased_rounding([[2, 4]], 2.5)


def test_stated_bias_is_detected():
    low, high = detectable_means(100, 2.4)
    for mean in (low, high):
        missed = 0
        for seed in range(50):
            rng = np.random.default_rng(seed)
            try:
                assert_unbiased_rounding([[math.floor(mean + rng.random())] for _ in range(100)], 2.4)
                missed += 1
            except AssertionError:
                pass
        assert missed <= 2
