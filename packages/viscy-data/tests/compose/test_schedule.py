"""The schedule: the group of each batch and its index within the group, found without the batches before it."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from viscy_data._compose.schedule import CHUNK, Schedule
from viscy_data._random.hash import derive, epoch_key
from viscy_data._table.tables import MAX_ANCHORS

SHARES = st.lists(st.integers(0, 50), min_size=1, max_size=8).filter(any)


def make_schedule(weights, total, offset=0, seed=0):
    share = np.asarray(weights, float)
    return Schedule(share / np.cumsum(share)[-1], total, np.array([offset]), derive(epoch_key(seed, 0), 0))


@settings(deadline=None)
@given(weights=SHARES, total=st.integers(1, 1000), offset=st.integers(0, 2**24 - 1), seed=st.integers(0, 99))
def test_the_index_within_a_group_counts_its_earlier_batches_and_every_epoch_keeps_the_shares(
    weights, total, offset, seed
):
    n_batches = 2 * total + 5
    entries = make_schedule(weights, total, offset, seed).look_up(np.arange(n_batches))
    counts = np.zeros(len(weights), int)
    for number, (group, index) in enumerate(zip(entries.group, entries.index, strict=True)):
        assert index == counts[group]
        counts[group] += 1
        if (number + 1) % total == 0:
            expected = (number + 1) / total * total * np.array(weights) / sum(weights)
            assert (np.abs(counts - expected) < 1 + number // total + 1e-6).all()


@settings(deadline=None)
@given(
    weights=SHARES, total=st.integers(1, MAX_ANCHORS), numbers=st.lists(st.integers(0, 2**45), min_size=1, max_size=9)
)
def test_a_batch_looked_up_alone_is_the_one_looked_up_among_others(weights, total, numbers):
    schedule = make_schedule(weights, total)
    together = schedule.look_up(np.array(numbers))
    for at, number in enumerate(numbers):
        alone = schedule.look_up(np.array([number]))
        assert (alone.group[0], alone.index[0]) == (together.group[at], together.index[at])


@pytest.mark.parametrize("total", [1, 2, CHUNK, CHUNK + 1, 3 * CHUNK + 7, 4096])
def test_every_chunk_holds_about_the_share_of_every_group(total):
    weights = np.array([50, 30, 15, 5])
    groups = make_schedule(weights, total).look_up(np.arange(total)).group
    n_chunks = 1 << max(0, (-(-total // CHUNK) - 1).bit_length())
    expected = np.bincount(groups, minlength=4) / n_chunks
    bounds = np.linspace(0, total, n_chunks + 1).round().astype(int)
    for first, last in itertools.pairwise(bounds):
        # a chunk can begin one batch earlier or later than chunks of equal length would
        assert (np.abs(np.bincount(groups[first:last], minlength=4) - expected) < 3).all()


def test_a_group_with_a_share_of_zero_gets_no_batch():
    assert 1 not in make_schedule([1, 0, 2], 3000).look_up(np.arange(9000)).group


def test_seeds_give_different_orders():
    orders = {tuple(make_schedule([1, 1], 20, seed=seed).look_up(np.arange(20)).group) for seed in range(30)}
    assert len(orders) == 30
