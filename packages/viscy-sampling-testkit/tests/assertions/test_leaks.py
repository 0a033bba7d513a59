"""A leak that is drawn uniformly from the other groups passes; one that prefers a group, rows or times fails."""

import numpy as np
import pytest

from viscy_sampling_testkit import assert_uniform_leak, detectable_leak

GROUPS = np.array(["a"] * 100 + ["b"] * 100 + ["c"] * 200)
CONDITIONS = np.array(["mock", "infected"] * 200)
TIMES = np.tile(np.arange(50) * 0.5, 8)


def batches_of(choose, n=600, leaks=2, seed=0):
    """Return batches with six slots of a home group, and leak slots that `choose(rng, others, k)` returns."""
    rng = np.random.default_rng(seed)
    batches = []
    for k in range(n):
        home = rng.choice(["a", "b", "c"])
        own, others = np.flatnonzero(home == GROUPS), np.flatnonzero(home != GROUPS)
        batches.append([*rng.choice(own, 6, replace=False).tolist(), *choose(rng, others, k)[:leaks].tolist()])
    return batches


def uniform(rng, others, k):
    return rng.permutation(others)


def of_one_group(rng, others, k):
    """All leak slots of a batch come from one group, chosen in proportion to its rows."""
    group = GROUPS[rng.choice(others)]
    return rng.permutation(others[GROUPS[others] == group])


def of_groups_equally(rng, others, k):
    group = rng.choice(np.unique(GROUPS[others]), 8)
    return np.array([rng.choice(others[GROUPS[others] == g]) for g in group])


def of_one_group_for_a_while(rng, others, k):
    """For 50 batches the group that comes first leaks, then for 100 the other one."""
    first, second = np.unique(GROUPS[others])
    large, small = (first, second) if (first == GROUPS).sum() > 100 else (second, first)
    return rng.permutation(others[GROUPS[others] == (small if k % 150 < 50 else large)])


def of_first_rows(rng, others, k):
    return rng.permutation(others[others % 100 < 50])


@pytest.mark.parametrize("conditions", [None, CONDITIONS])
def test_uniform_leak_passes(conditions):
    for seed in range(8):
        assert_uniform_leak(batches_of(uniform, seed=seed), GROUPS, conditions, TIMES)


@pytest.mark.parametrize(
    ("choose", "rule"),
    [
        (of_one_group, "two leak slots of a batch must be of the same group only by chance"),
        (of_groups_equally, "groups must leak in proportion to their rows"),
        (of_one_group_for_a_while, "groups must leak in proportion to their rows"),
        (of_first_rows, "must"),
    ],
)
def test_leak_that_is_not_uniform_fails(choose, rule, assertion_fails):
    with assertion_fails(rule, "observed: ", "leak slots"):
        assert_uniform_leak(batches_of(choose), GROUPS)


def test_leak_of_one_condition_passes_only_if_conditions_are_named(assertion_fails):
    def of_mock(rng, others, k):
        return rng.permutation(others[CONDITIONS[others] == "mock"])

    assert_uniform_leak(batches_of(of_mock), GROUPS, CONDITIONS)
    with assertion_fails("each row must be drawn as often as expected"):
        assert_uniform_leak(batches_of(of_mock, n=6000), GROUPS)


def test_leak_near_the_times_of_the_batch_fails(assertion_fails):
    rng = np.random.default_rng(0)
    batches = []
    for _ in range(400):
        center = rng.choice(TIMES)
        near = np.flatnonzero(np.abs(TIMES - center) <= 2)
        own, others = near[GROUPS[near] == "c"], near[GROUPS[near] != "c"]
        batches.append([*rng.choice(own, 6).tolist(), int(rng.choice(others))])
    with assertion_fails("time of a leak slot must not depend", "between the quartiles"):
        assert_uniform_leak(batches, GROUPS, times=TIMES)


def test_group_that_must_not_leak_is_left_out(assertion_fails):
    batches = batches_of(lambda rng, others, k: rng.permutation(others[GROUPS[others] != "b"]))
    assert_uniform_leak(batches, GROUPS, excluded=("b",))
    with assertion_fails("groups must leak"):
        assert_uniform_leak(batches, GROUPS)


def test_batches_without_a_leak_raise():
    with pytest.raises(ValueError, match="batches must have leak slots for their rows to be tested, got none"):
        assert_uniform_leak([[0, 1], [2, 3]], GROUPS)


def test_stated_ratio_of_a_leaking_group_is_detected():
    """The group leaks `ratio` times as often as it should into the batches of each of the others."""
    ratio, groups = detectable_leak(1200, 3), np.repeat(["a", "b", "c"], 100)
    missed = 0
    for seed in range(10):
        rng = np.random.default_rng(seed)
        batches = []
        for _ in range(1200):
            home = rng.choice(["a", "b", "c"])
            weight = np.where(groups == home, 0, np.where(groups == "a", ratio, 2 - ratio if home != "a" else 1))
            own = rng.choice(np.flatnonzero(groups == home), 3)
            batches.append([*own.tolist(), int(rng.choice(300, p=weight / weight.sum()))])
        try:
            assert_uniform_leak(batches, groups)
            missed += 1
        except AssertionError:
            pass
    assert missed <= 1
    assert detectable_leak(1000, 2) == detectable_leak(4, 3) == np.inf
