"""Systematic rounding: floors and ceilings, exact totals, exact averages, and cumulative counts without summing."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from viscy_data._compose.rounding import BITS, UNIT, Offsets, cumulative, round_alongside, round_slots, slots_before
from viscy_data._compose.window import window_slots
from viscy_data._random.hash import derive, epoch_key

quotas = st.lists(st.floats(0, 1), min_size=1, max_size=12).filter(lambda parts: sum(parts) > 1e-3)


def make_bounds(parts, total):
    parts = np.array(parts)
    return cumulative(parts[None] / parts.sum() * total, total)


@given(quotas, st.integers(1, 500), st.integers(0, UNIT - 1))
def test_counts_are_the_floor_or_the_ceiling_of_their_quotas_and_add_up(parts, total, start):
    bound = make_bounds(parts, total)
    slots = round_slots(bound, np.array([start]))
    quota = np.diff(bound) / UNIT
    assert slots.sum() == total
    assert (np.abs(slots - quota) < 1).all()


@given(quotas, st.integers(1, 500), st.integers(0, UNIT - 1))
def test_a_part_with_a_quota_of_zero_gets_no_slots(parts, total, start):
    slots = round_slots(make_bounds([*parts, 0.0, *parts, 0.0], total), np.array([start]))[0]
    assert slots[len(parts)] == slots[-1] == 0


def test_whole_quotas_stay_whole_in_spite_of_floating_point():
    bound = cumulative(np.array([[100 * 0.29, 100 * 0.57, 100 * 0.14]]), 100)
    for start in (0, 1, UNIT // 2, UNIT - 1):
        assert round_slots(bound, np.array([start])).tolist() == [[29, 57, 14]]


KEY = derive(epoch_key(0, 0), 1)
OFFSETS = Offsets(2**18, derive(epoch_key(0, 0), 2))


def repeat_key(n):
    return np.repeat(KEY, n)


@pytest.mark.parametrize("n_batches", [64, 4096])
def test_every_part_gets_its_quota_on_average(n_batches):
    bound = make_bounds([0.1, 0.25, 0.3, 0.35], 8)
    indices = np.arange(n_batches)
    slots = round_slots(np.repeat(bound, n_batches, axis=0), OFFSETS.at(indices, repeat_key(n_batches)))
    # the offsets of 2**m batches are 2**m equal steps, so the mean of a part is off by at most one step
    assert np.abs(slots.mean(axis=0) - np.diff(bound)[0] / UNIT).max() <= 1 / n_batches


@given(quotas, st.integers(1, 300), st.integers(0, 2**30))
def test_slots_before_a_batch_are_the_sum_over_the_earlier_batches(parts, total, first):
    bound = make_bounds(parts, total)
    indices = np.arange(first, first + 150)
    summed = round_slots(np.repeat(bound, 150, axis=0), OFFSETS.at(indices, repeat_key(150))).sum(axis=0)
    before = [slots_before(bound, np.array([index]), OFFSETS, KEY)[0] for index in (first, first + 150)]
    assert (before[1] - before[0]).tolist() == summed.tolist()


@pytest.mark.parametrize("stride", [2, 8, 64])
def test_every_nth_batch_gets_the_quota_on_average(stride):
    """The batches of one rank: the mean of 2048 is within five standard errors of that of independent offsets."""
    bound = make_bounds([0.1, 0.25, 0.3, 0.35], 8)
    indices = np.arange(0, 2048 * stride, stride)
    slots = round_slots(np.repeat(bound, 2048, axis=0), OFFSETS.at(indices, repeat_key(2048)))
    assert np.abs(slots.mean(axis=0) - np.diff(bound)[0] / UNIT).max() < 5 * 0.5 / 2048**0.5


def test_offsets_of_aligned_batches_fill_equal_intervals():
    indices = np.arange(4096)
    values = OFFSETS.at(indices, repeat_key(4096))
    assert sorted(values >> (BITS - 12)) == list(range(4096))
    assert sorted(values[1024:1088] >> (BITS - 6)) == list(range(64))


def test_no_slots_come_before_the_first_batch():
    assert slots_before(make_bounds([0.3, 0.7], 11), np.array([0]), OFFSETS, KEY).tolist() == [[0, 0]]


@given(quotas, st.integers(1, 300), st.floats(0, 1), st.integers(0, UNIT - 1), st.integers(0, UNIT - 1))
def test_focal_and_global_slots_are_the_floor_or_the_ceiling_of_their_quotas(
    parts, total, fraction, start, start_of_focal
):
    bound = make_bounds(parts, total)
    slots, quota = round_slots(bound, np.array([start])), np.diff(bound)
    focal = window_slots(slots, quota, fraction, np.array([start_of_focal]))
    focal_quota = np.rint(quota * fraction)
    assert (np.abs(focal - focal_quota / UNIT) < 1).all()
    assert (np.abs((slots - focal) - (quota - focal_quota) / UNIT) < 1).all()


def test_focal_slots_meet_their_quota_on_average():
    """With 60,000 random offsets each mean is within 6 standard errors; false alarm rate 1e-8 for five conditions."""
    n = 60_000
    rng = np.random.default_rng(0)
    bound = np.repeat(make_bounds([0.11, 0.2, 0.29, 0.15, 0.25], 13), n, axis=0)
    slots = round_slots(bound, rng.integers(0, 1 << BITS, n))
    focal = window_slots(slots, np.diff(bound), 0.63, rng.integers(0, 1 << BITS, n))
    error = focal.mean(axis=0) - 0.63 * np.diff(bound)[0] / UNIT
    assert (np.abs(error) <= 6 * np.maximum(focal.std(axis=0), 1e-3) / np.sqrt(n)).all()


@given(
    taken=st.lists(st.integers(3, 4), min_size=1, max_size=12),
    total=st.integers(0, 40),
    seed=st.integers(0, 1000),
)
def test_equal_quotas_rounded_alongside_others_keep_all_sums_within_one(taken, total, seed):
    keys = np.random.default_rng(seed).integers(0, 2**63, len(taken)).astype(np.uint64)
    given_slots = round_alongside(np.array([taken]), np.array([total]), keys[None])[0]
    assert given_slots.sum() == total
    assert given_slots.max() - given_slots.min() <= 1
    assert np.ptp(given_slots + taken) <= 1


def test_ties_are_broken_at_random():
    keys = np.random.default_rng(0).integers(0, 2**63, (9000, 3)).astype(np.uint64)
    shares = round_alongside(np.tile([1, 0, 0], (9000, 1)), np.ones(9000, int), keys).mean(axis=0)
    assert shares[0] == 0
    assert shares[1:] == pytest.approx(0.5, abs=5 * 0.5 / 9000**0.5)
