"""Rows of a pool occur equally often in a batch; a pool with fewer rows than slots is repeated evenly."""

import numpy as np
import pytest

from viscy_sampling_testkit import assert_drawn_in_rounds, assert_repeats_evenly

POOLS = ["large"] * 50 + ["tiny"] * 3


def draw(seed, sizes, n_batches=30):
    """Return batches in which each pool is repeated in a random order."""
    rng = np.random.default_rng(seed)
    members = {pool: np.flatnonzero(np.array(POOLS) == pool) for pool in sizes}
    return [
        [int(row) for pool, n in sizes.items() for row in np.resize(rng.permutation(members[pool]), n)]
        for _ in range(n_batches)
    ]


@pytest.mark.parametrize("seed", range(20))
def test_pool_that_is_repeated_evenly_passes(seed):
    assert_repeats_evenly([*draw(seed, {"large": 8, "tiny": 7}), *draw(seed, {"large": 50, "tiny": 3})], POOLS)


@pytest.mark.parametrize(
    ("batch", "lines"),
    [
        ([0, 1, 2, 2], ["position 2 2 times", "expected: 0 or 1 times each: 4 slots from pool 'large', 50 rows"]),
        ([50, 50, 51, 51, 52, 52, 52, 52], ["position 52 4 times", "expected: 2 or 3 times each: 8 slots"]),
        # No row is above the ceiling, but one is below the floor.
        ([50, 50, 50, 51, 51, 51, 52], ["position 50 3 times, position 52 1 times", "expected: 2 or 3 times each"]),
        ([50, 50, 51], ["position 50 2 times, position 52 0 times", "expected: 1 times each: 3 slots"]),
    ],
)
def test_pool_that_is_drawn_unevenly_fails(batch, lines, assertion_fails):
    batches = [*draw(0, {"tiny": 4}), batch]
    with assertion_fails(
        "equally often in a batch", *lines, "floor or ceiling", "n: 31 batches, 1 of them", "batch: 30"
    ):
        assert_repeats_evenly(batches, POOLS)


def test_draws_with_replacement_fail(assertion_fails):
    rng = np.random.default_rng(0)
    with assertion_fails("pool 'tiny'"):
        assert_repeats_evenly([(50 + rng.integers(3, size=6)).tolist() for _ in range(20)], POOLS)


def test_rounds_that_follow_each_other_pass():
    rng = np.random.default_rng(0)
    strata = np.array(["a"] * 12 + ["b"] * 8)
    for _ in range(50):
        rounds = [np.concatenate([rng.permutation(np.flatnonzero(strata == s)) for _ in range(3)]) for s in "ab"]
        batches = [np.r_[rounds[0][3 * k : 3 * k + 3], rounds[1][2 * k : 2 * k + 2]].tolist() for k in range(12)]
        assert_drawn_in_rounds(batches, strata)


def test_row_that_is_drawn_again_before_the_round_is_complete_fails(assertion_fails):
    batches = [[0, 1], [0, 2], [1, 2], [3, 3]]
    with assertion_fails("drawn again before all anchors", "2 times, another 0 times", "stratum 'all'", "batch: 1"):
        assert_drawn_in_rounds(batches, ["all"] * 4)
