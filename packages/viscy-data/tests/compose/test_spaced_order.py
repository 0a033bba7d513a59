"""The order of a stratum in which rows of the same value are far apart."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from viscy_data import AnchorIndex
from viscy_data._compose.spaced_order import _PRIMES, SpacedOrder
from viscy_data._random.hash import derive, epoch_key
from viscy_data._table.tables import MAX_ANCHORS
from viscy_sampling_testkit import assert_uniform


def make_order(lengths, most_slots):
    """Make the order of one stratum, and its index; lengths are the numbers of rows of its values."""
    table = pd.DataFrame({"value": np.repeat(np.arange(len(lengths)), lengths)})
    index = AnchorIndex.build(table, experiment_by=None, condition_by=None, time_by=None, distinct_by="value")
    return SpacedOrder(index, np.array([[most_slots]])), index


def take(order, first, n, seed=0):
    return order.rows(np.array([0]), np.array([first]), np.array([n]), epoch_key(seed, 0))


@settings(deadline=None)
@given(lengths=st.lists(st.integers(1, 9), min_size=1, max_size=40), slots=st.integers(1, 40), seed=st.integers(0, 99))
def test_every_row_is_in_the_order_once_and_rows_of_a_value_are_apart(lengths, slots, seed):
    order, index = make_order(lengths, slots)
    n = sum(lengths)
    rows = take(order, 0, 2 * n, seed)
    assert sorted(rows[:n].tolist()) == list(range(n))
    assert rows[n:].tolist() == rows[:n].tolist()  # the order starts over
    if n // (max(lengths) + 2) > slots:
        codes = index.value_codes(rows)
        assert all(len(set(codes[i : i + slots].tolist())) == slots for i in range(n))


@settings(deadline=None)
@given(lengths=st.lists(st.integers(1, 4), min_size=30, max_size=60), slots=st.integers(2, 9))
def test_only_values_that_are_too_frequent_are_close_to_each_other(lengths, slots):
    order, index = make_order([*lengths, 500], slots)
    n = sum(lengths) + 500
    codes = index.value_codes(take(order, 0, 2 * n)).tolist()
    for i in range(n):
        others = [code for code in codes[i : i + slots] if code != len(lengths)]
        assert len(set(others)) == len(others)


def test_parts_of_several_strata_are_those_of_each_alone():
    table = pd.DataFrame({"condition": np.arange(400) % 3, "value": np.arange(400) // 9})
    index = AnchorIndex.build(table, experiment_by=None, time_by=None, distinct_by="value")
    order = SpacedOrder(index, np.full((1, 3), 5))
    key = derive(epoch_key(0, 0), np.arange(3))
    first, slots = np.array([0, 130, 40]), np.array([3, 5, 7])
    together = order.rows(np.arange(3), first, slots, key)
    alone = [order.rows(*(array[[i]] for array in (np.arange(3), first, slots, key))) for i in range(3)]
    assert together.tolist() == np.concatenate(alone).tolist()


@pytest.mark.parametrize("slots", [2, 7])
def test_every_row_is_equally_likely_at_every_index(slots):
    """Chi-square over 3000 keys, with the false alarm rate of `assert_uniform`."""
    order, _ = make_order([1, 1, 2, 3, 3, 3, 4] * 4, slots)
    n = 68
    key = derive(epoch_key(0, 0), np.arange(3000))
    for first in (0, 41):
        ones = np.ones(len(key), int)
        rows = order.rows(0 * ones, first * ones, ones, key)
        assert_uniform(np.bincount(rows, minlength=n))


def test_multipliers_are_primes_above_the_largest_number_of_rows():
    for prime in _PRIMES.tolist():
        assert prime > MAX_ANCHORS
        assert all(prime % divisor for divisor in range(2, int(prime**0.5) + 1))
