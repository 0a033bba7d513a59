"""Rows that are drawn independently pass; runs of rows, in the table or in time, fail."""

import numpy as np
import pytest

from viscy_sampling_testkit import assert_independent_rows

# At the default false-alarm rate of 1e-6, these tests fail by chance in one of about two thousand runs.
SEEDS = range(200)
N, SIZE = 240, 12
GROUPS = np.repeat(["a", "b", "c"], 80)
TIMES = np.random.default_rng(0).permutation(N).astype(float)


def independent(seed, n_batches=200, replace=False):
    rng = np.random.default_rng(seed)
    return [rng.choice(N, SIZE, replace) for _ in range(n_batches)]


def in_runs(length, order=None, n_batches=200):
    """Return batches that consist of runs of rows, at random places."""
    rng, order = np.random.default_rng(0), np.arange(N) if order is None else order
    starts = length * np.stack([rng.permutation(N // length)[: SIZE // length] for _ in range(n_batches)])
    return order[(starts[:, :, None] + np.arange(length)).reshape(n_batches, SIZE)]


def with_leak(leak):
    """Return batches with eight slots of a home group, and the given run or rows of the other groups."""
    rng, batches = np.random.default_rng(0), []
    for number in range(300):
        home, others = np.flatnonzero("abc"[number % 3] == GROUPS), np.flatnonzero("abc"[number % 3] != GROUPS)
        batches.append([*rng.choice(home, 8, replace=False), *leak(rng, others)])
    return batches


def test_draws_with_and_without_replacement_and_permutations_pass():
    for seed in SEEDS:
        assert_independent_rows(independent(seed), ["all"] * N, times=TIMES)
        assert_independent_rows(independent(seed, replace=True), GROUPS)
        rng = np.random.default_rng(seed)
        epochs = np.concatenate([rng.permutation(N).reshape(-1, SIZE) for _ in range(10)])
        assert_independent_rows(epochs, ["all"] * N)


@pytest.mark.parametrize("length", [2, 3, 12])
def test_runs_of_rows_fail(length, assertion_fails):
    with assertion_fails("home slots must follow each other in the table only by chance", "n: 200 batches"):
        assert_independent_rows(in_runs(length), ["all"] * N)


def test_runs_in_time_fail(assertion_fails):
    batches = in_runs(3, np.argsort(TIMES))
    assert_independent_rows(batches, ["all"] * N)
    with assertion_fails("home slots must follow each other in time only by chance"):
        assert_independent_rows(batches, ["all"] * N, times=TIMES)


def test_rows_of_a_few_times_pass_if_times_are_cells():
    # Each batch has rows of one time; they are independent given that.
    times = np.repeat(np.arange(12), 20)
    rng = np.random.default_rng(0)
    batches = [rng.choice(np.flatnonzero(times == k % 12), 6, replace=False) for k in range(240)]
    assert_independent_rows(batches, ["all"] * N, times, times=times)
    with pytest.raises(AssertionError, match="only by chance"):
        assert_independent_rows(batches, ["all"] * N)


def test_runs_in_the_leak_fail(assertion_fails):
    def at_random(rng, others):
        return rng.choice(others, 2, replace=False)

    def one_run(rng, others):
        start = rng.integers(len(others) - 1)
        return others[start : start + 2]

    assert_independent_rows(with_leak(at_random), GROUPS, groups=GROUPS)
    with assertion_fails("leak slots must follow each other in the table only by chance"):
        assert_independent_rows(with_leak(one_run), GROUPS, groups=GROUPS)


def test_repeated_rows_count_once():
    assert_independent_rows([[0, 0, 1, 1, 2, 2]] * 100, ["all"] * 3)


def test_invalid_false_alarm_raises():
    with pytest.raises(ValueError, match=r"false_alarm must be in \(0, 1\), got 0"):
        assert_independent_rows(independent(0), GROUPS, false_alarm=0)
