"""Tickets: whose batch it is and how many of that group come before, found without the batches before."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from viscy_data._compose.schedule import CHUNK, Tickets
from viscy_data._random.hash import derive, epoch_key
from viscy_data._table.tables import MAX_ANCHORS

SHARES = st.lists(st.integers(0, 50), min_size=1, max_size=8).filter(any)


def tickets(weights, total, offset=0, seed=0):
    share = np.asarray(weights, float)
    return Tickets(share / np.cumsum(share)[-1], total, np.array([offset]), derive(epoch_key(seed, 0), 0))


@settings(deadline=None)
@given(weights=SHARES, total=st.integers(1, 1000), offset=st.integers(0, 2**24 - 1), seed=st.integers(0, 99))
def test_turns_count_the_batches_of_the_group_before_and_shares_are_kept_in_every_lap(weights, total, offset, seed):
    n_batches = 2 * total + 5
    turns = tickets(weights, total, offset, seed).turns(np.arange(n_batches))
    seen = np.zeros(len(weights), int)
    for number, (group, turn) in enumerate(zip(turns.group, turns.turn, strict=True)):
        assert turn == seen[group]
        seen[group] += 1
        if (number + 1) % total == 0:
            due = (number + 1) / total * total * np.array(weights) / sum(weights)
            assert (np.abs(seen - due) < 1 + number // total + 1e-6).all()


@settings(deadline=None)
@given(weights=SHARES, total=st.integers(1, MAX_ANCHORS), where=st.lists(st.integers(0, 2**45), min_size=1, max_size=9))
def test_a_batch_is_found_by_itself_as_among_others(weights, total, where):
    dealt = tickets(weights, total)
    together = dealt.turns(np.array(where))
    for at, number in enumerate(where):
        alone = dealt.turns(np.array([number]))
        assert (alone.group[0], alone.turn[0]) == (together.group[at], together.turn[at])


@pytest.mark.parametrize("total", [1, 2, CHUNK, CHUNK + 1, 3 * CHUNK + 7, 4096])
def test_every_chunk_has_of_every_group_the_floor_or_the_ceiling_of_its_share(total):
    weights = np.array([50, 30, 15, 5])
    groups = tickets(weights, total).turns(np.arange(total)).group
    n_chunks = 1 << max(0, (-(-total // CHUNK) - 1).bit_length())
    held = np.bincount(groups, minlength=4) / n_chunks
    bounds = np.linspace(0, total, n_chunks + 1).round().astype(int)
    for first, last in itertools.pairwise(bounds):
        # a chunk may begin one batch earlier or later than at equal lengths
        assert (np.abs(np.bincount(groups[first:last], minlength=4) - held) < 3).all()


def test_a_group_of_no_share_has_no_batch():
    assert 1 not in tickets([1, 0, 2], 3000).turns(np.arange(9000)).group


def test_seeds_deal_differently():
    orders = {tuple(tickets([1, 1], 20, seed=seed).turns(np.arange(20)).group) for seed in range(30)}
    assert len(orders) == 30
