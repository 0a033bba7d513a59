"""Runs: an order of a pool in which every few rows follow each other, computed element by element."""

import numpy as np
import pytest

from viscy_data._compose.runs import KeyedRuns
from viscy_data._random.hash import derive, epoch_key
from viscy_sampling_testkit import assert_uniform

SIZES = np.array([1, 2, 3, 7, 8, 9, 16, 50, 203, 1000])


def keys(n, seed=0):
    return derive(epoch_key(seed, 0), np.arange(n))


def orders(sizes, length, seed=0):
    """Return the complete order of each pool."""
    runs = KeyedRuns.from_keys(sizes, keys(len(sizes), seed), length)
    elements = runs.elements(np.arange(len(sizes)), np.zeros_like(sizes), sizes, np.zeros_like(sizes))
    return runs, np.split(elements, np.cumsum(sizes)[:-1])


@pytest.mark.parametrize("length", [2, 3, 8, 64, 5000])
def test_an_order_has_every_row_once_in_runs_that_are_complete_except_for_the_last(length):
    for size, order in zip(SIZES, orders(SIZES, length)[1], strict=True):
        assert sorted(order) == list(range(size))
        for first in range(0, size, length):
            run = order[first : first + length]
            assert (np.diff(run) % size == 1 % size).all()


@pytest.mark.parametrize("length", [2, 3, 8, 64])
def test_elements_are_those_of_the_order_from_any_index_on(length):
    rng = np.random.default_rng(length)
    runs, complete = orders(SIZES, length)
    pool = rng.integers(0, len(SIZES), 300)
    first, count = rng.integers(0, 2 * SIZES[pool]), rng.integers(0, 40, 300)
    offset = rng.integers(0, 10**6, 300)
    ranges = zip(*(array.tolist() for array in (pool, first, count, offset)), strict=True)
    expected = [o + complete[p][np.arange(f, f + n) % SIZES[p]] for p, f, n, o in ranges]
    np.testing.assert_array_equal(runs.elements(pool, first, count, offset), np.concatenate(expected))


def test_every_row_is_equally_likely_at_every_index():
    """Chi-square with a false alarm rate of 1e-6 an index; 11 rows in runs of 4, so that the last run is short."""
    sizes = np.full(4000, 11)
    drawn = np.array(orders(sizes, 4, seed=3)[1])
    for index in range(11):
        assert_uniform(np.bincount(drawn[:, index], minlength=11))


def test_runs_are_in_random_order():
    """The run that follows another one in the order is any other one; where the first row is number 0."""
    sizes = np.full(40_000, 12)
    drawn = np.array(orders(sizes, 3, seed=5)[1])
    after = (drawn[:, 3] - drawn[:, 0]) % 12 // 3
    assert_uniform(np.bincount(after, minlength=4)[1:])
