"""Independent batches pass; batches that share rows, leak, the order of slots or random numbers fail."""

import numpy as np
import pytest

from viscy_sampling_testkit import assert_independent_batches, detectable_coincidences, make_window

N_ROWS, SIZE, N = 300, 12, 600
NEXT = {"1 apart": [(k, k + 1) for k in range(N - 1)]}
CONDITIONS = np.resize(["mock", "infected"], N_ROWS)


def independent(rng):
    return np.stack([rng.permutation(N_ROWS)[:SIZE] for _ in range(N)])


def test_independent_batches_pass():
    for seed in range(10):
        batches = independent(np.random.default_rng(seed)).tolist()
        assert_independent_batches(batches, NEXT, conditions=CONDITIONS)


def test_batches_without_replacement_pass():
    for seed in range(10):
        rng = np.random.default_rng(seed)
        batches = np.concatenate([rng.permutation(N_ROWS).reshape(-1, SIZE) for _ in range(24)]).tolist()
        assert_independent_batches(batches, NEXT)


def test_batches_that_share_rows_with_the_next_one_fail(assertion_fails):
    batches = independent(np.random.default_rng(0))
    batches[1::2, :6] = batches[::2, :6]
    with assertion_fails("the rows of batches 1 apart must coincide", "coincidences", "Chernoff", "599 pairs"):
        assert_independent_batches(batches.tolist(), NEXT)


def test_batches_with_the_same_conditions_at_the_same_slots_fail(assertion_fails):
    rng = np.random.default_rng(0)
    slots = rng.permutation(np.repeat([0, 1], 6))
    batches = []
    for k in range(N):
        slots = slots if k % 2 else rng.permutation(slots)
        batches.append(2 * rng.permutation(N_ROWS // 2)[:SIZE] + slots)
    with assertion_fails("the conditions of the slots of batches 1 apart"):
        assert_independent_batches([batch.tolist() for batch in batches], NEXT, conditions=CONDITIONS)


def test_batches_that_share_their_leak_fail(assertion_fails):
    rng = np.random.default_rng(0)
    groups = np.repeat(["home", "other"], N_ROWS // 2)
    leak = rng.integers(N_ROWS // 2, N_ROWS, N)
    leak[1::2] = np.where(rng.random(N // 2) < 0.2, leak[::2], leak[1::2])
    batches = [[*rng.permutation(N_ROWS // 2)[:SIZE].tolist(), int(row)] for row in leak]
    with assertion_fails("the rows of the leak of batches 1 apart"):
        assert_independent_batches(batches, NEXT, groups)


def test_batches_that_use_the_same_random_numbers_for_other_windows_fail(assertion_fails):
    times = np.tile(np.arange(20) * 0.5, 15)
    window = make_window(times, 1.0, 0.0)

    def batches(share):
        drawn = []
        for k in range(N):
            rng = np.random.default_rng(k // share)
            focal = 1.0 + 0.5 * (7 * k % 16)
            drawn.append(rng.permutation(np.flatnonzero(np.abs(times - focal) <= 1.0))[:SIZE].tolist())
        return drawn

    assert_independent_batches(batches(1), NEXT, window=window)
    with assertion_fails("the indexes in the window of batches 1 apart"):
        assert_independent_batches(batches(2), NEXT, window=window)


def test_stated_coincidences_are_detected():
    expected = (N - 1) * SIZE**2 / N_ROWS
    extra = detectable_coincidences(N - 1, expected)
    missed = 0
    for seed in range(50):
        rng = np.random.default_rng(seed)
        batches = independent(rng)
        # Each shared row of a pair adds one coincidence, minus the one that it had by chance.
        shared = rng.random((N // 2, SIZE)) < 2 * extra / SIZE / (1 - SIZE / N_ROWS)
        batches[1::2] = np.where(shared, batches[::2], batches[1::2])
        try:
            assert_independent_batches(batches.tolist(), NEXT)
            missed += 1
        except AssertionError:
            pass
    assert missed <= 2


def test_no_pairs_raise():
    with pytest.raises(ValueError, match="pairs must name at least one pair of batches, got none"):
        assert_independent_batches([[0, 1]], {"1 apart": []})
