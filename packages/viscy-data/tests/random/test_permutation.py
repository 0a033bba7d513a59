"""A keyed permutation: every element once, and elements drawn fairly without replacement."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from viscy_data._random.hash import derive, epoch_key
from viscy_data._random.permutation import SMALL, KeyedPermutations

KEY = epoch_key(0, 0)
FALSE_ALARM = 1e-6


def all_elements(size, key=KEY):
    return KeyedPermutations.from_keys(np.full(size, size), np.repeat(key, size)).element(np.arange(size))


@given(st.integers(1, 5000), st.integers(0, 2**64 - 1))
def test_every_element_appears_at_exactly_one_index(size, key):
    assert sorted(all_elements(size, np.array([key], np.uint64)).tolist()) == list(range(size))


@pytest.mark.parametrize("size", [2**17 - 1, 2**24, 2**31 - 1])
@pytest.mark.parametrize("salt", range(3))
def test_elements_of_large_permutations_are_distinct_and_below_the_size(size, salt):
    """Consecutive elements, and those at the end: random numbers would repeat some of them."""
    indices = np.r_[0 : 2**16, size - 2**16 + 1 : size]
    permutations = KeyedPermutations.from_keys(np.array([size]), derive(KEY, np.array([salt])))
    elements = permutations.repeat(np.array([len(indices)])).element(indices)
    assert len(np.unique(elements)) == len(indices)
    assert elements.max() < size


def test_several_permutations_at_once_equal_each_one_alone():
    sizes = np.array([1, 5, SMALL, SMALL + 1, 100_000])
    keys = derive(KEY, np.arange(5))
    together = KeyedPermutations.from_keys(sizes, keys).element(sizes - 1)
    alone = [
        KeyedPermutations.from_keys(sizes[i : i + 1], keys[i : i + 1]).element(sizes[i : i + 1] - 1)[0]
        for i in range(5)
    ]
    assert together.tolist() == alone


def test_repeating_a_permutation_gives_its_elements_one_after_another():
    permutations = KeyedPermutations.from_keys(np.array([300, 4]), derive(KEY, np.arange(2)))
    elements = permutations.repeat(np.array([300, 4])).element(np.r_[0:300, 0:4])
    assert sorted(elements[:300].tolist()) == list(range(300))
    assert sorted(elements[300:].tolist()) == list(range(4))


@pytest.mark.parametrize("size", [2, 3, 4, 7, 16, 50, SMALL, SMALL + 1, 300])
def test_pairs_of_elements_are_uniform(size):
    """Chi-square over the ordered pairs at two indices of 200,000 permutations; false alarm rate 1e-6 in total."""
    n = 200_000
    permutations = KeyedPermutations.from_keys(np.full(n, size), derive(KEY, size, np.arange(n)))
    for indices in [(0, 1), (0, size - 1)]:
        first, second = (permutations.element(np.full(n, index)).astype(np.int64) for index in indices)
        count = np.bincount(first * size + second, minlength=size * size)[~np.eye(size, dtype=bool).ravel()]
        assert stats.chisquare(count).pvalue > FALSE_ALARM / 18


def test_the_first_elements_are_spread_like_a_random_subset():
    """How many of 64 elements are in a tenth of the range is hypergeometric, within 5 standard errors."""
    n, size, n_drawn = 20_000, 20_000, 64
    permutations = KeyedPermutations.from_keys(np.full(n, size), derive(KEY, 9, np.arange(n))).repeat(
        np.full(n, n_drawn)
    )
    elements = permutations.element(np.tile(np.arange(n_drawn), n)).reshape(n, n_drawn)
    tenth = (elements < size // 10).sum(axis=1)
    expected = stats.hypergeom(size, size // 10, n_drawn)
    assert tenth.mean() == pytest.approx(expected.mean(), abs=5 * expected.std() / np.sqrt(n))
    assert tenth.var() == pytest.approx(expected.var(), rel=5 * np.sqrt(2 / n))
