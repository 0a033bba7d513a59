"""ShardedDistributedSampler: every rank shuffles its own contiguous shard of the dataset."""

import itertools

import pytest
import torch.distributed as dist
from hypothesis import given
from hypothesis import strategies as st
from torch.utils.data import DataLoader, DistributedSampler

from viscy_data import ShardedDistributedSampler
from viscy_data.distributed import rank_and_world_size


def draw_shards(n, num_replicas, epoch=0, **options):
    samplers = [ShardedDistributedSampler(range(n), num_replicas, rank, **options) for rank in range(num_replicas)]
    for sampler in samplers:
        sampler.set_epoch(epoch)
    return [list(sampler) for sampler in samplers]


SIZES = {"n": st.integers(0, 60), "num_replicas": st.integers(1, 9), "epoch": st.integers(0, 5)}


@given(**SIZES, drop_last=st.booleans(), shuffle=st.booleans())
def test_all_ranks_have_equally_many_indices_and_len_gives_their_number(n, num_replicas, epoch, drop_last, shuffle):
    ranks = draw_shards(n, num_replicas, epoch, drop_last=drop_last, shuffle=shuffle)
    sampler = ShardedDistributedSampler(range(n), num_replicas, 0, drop_last=drop_last)
    expected = n // num_replicas if drop_last else -(-n // num_replicas)
    assert {len(rank) for rank in ranks} == {expected} == {len(sampler)}


@given(**SIZES)
def test_every_index_appears_and_only_the_padding_repeats_one(n, num_replicas, epoch):
    ranks = draw_shards(n, num_replicas, epoch)
    indices = list(itertools.chain(*ranks))
    assert set(indices) == set(range(n))
    assert len(indices) - n == -n % num_replicas
    assert all(len(rank) - len(set(rank)) <= 1 for rank in ranks)


@given(**SIZES)
def test_with_drop_last_no_index_repeats(n, num_replicas, epoch):
    indices = list(itertools.chain(*draw_shards(n, num_replicas, epoch, drop_last=True)))
    assert len(set(indices)) == len(indices) == n - n % num_replicas


@given(n=st.integers(1, 60), num_replicas=st.integers(1, 9))
def test_shards_are_contiguous_and_differ_in_length_by_at_most_one(n, num_replicas):
    ranks = [sorted(set(rank)) for rank in draw_shards(n, num_replicas)]
    for rank in ranks:
        assert rank == list(range(rank[0], rank[-1] + 1))
    if n >= num_replicas:
        assert list(itertools.chain(*ranks)) == list(range(n))
        assert max(map(len, ranks)) - min(map(len, ranks)) <= 1


def test_the_epoch_is_the_one_that_is_set_when_the_first_index_is_drawn():
    sampler = ShardedDistributedSampler(range(100))
    indices = iter(sampler)
    sampler.set_epoch(3)
    assert [list(indices)] == draw_shards(100, 1, epoch=3)


def test_a_rank_has_the_same_shard_in_every_epoch_in_another_order():
    epochs = [draw_shards(1000, 3, epoch) for epoch in range(4)]
    for rank in range(3):
        assert len({frozenset(epoch[rank]) for epoch in epochs}) == 1
        assert len({tuple(epoch[rank]) for epoch in epochs}) == 4


def test_ranks_shuffle_their_shards_differently():
    first, second = draw_shards(1000, 2)
    assert first != [index - 500 for index in second]


def test_the_next_epoch_is_not_the_next_seed():
    assert draw_shards(100, 2, epoch=1, seed=0) != draw_shards(100, 2, epoch=0, seed=1)


def test_the_same_seed_and_epoch_give_the_same_order():
    assert draw_shards(100, 2, epoch=3, seed=5) == draw_shards(100, 2, epoch=3, seed=5)


def test_the_dropped_or_repeated_index_differs_between_epochs():
    kept = {frozenset(draw_shards(11, 2, epoch, drop_last=True)[1]) for epoch in range(30)}
    assert len(kept) == 6
    repeated = {max(set(first), key=first.count) for first in (draw_shards(11, 2, epoch)[0] for epoch in range(40))}
    assert repeated == set(range(5))


def test_every_index_of_a_shard_is_first_in_some_epoch():
    """In 60 epochs, one of 5 indices is never first with a probability of 5 * 0.8**60 = 8e-6."""
    assert {draw_shards(10, 2, epoch)[1][0] for epoch in range(60)} == set(range(5, 10))


def test_a_shard_that_is_not_shuffled_is_in_order():
    assert draw_shards(10, 3, shuffle=False) == [[0, 1, 2, 0], [3, 4, 5, 3], [6, 7, 8, 9]]


def test_it_is_a_distributed_sampler_so_that_frameworks_leave_it_alone():
    sampler = ShardedDistributedSampler(range(10), 3, 1)
    assert isinstance(sampler, DistributedSampler)
    assert (sampler.num_samples, sampler.total_size) == (4, 12)
    assert [batch.tolist() for batch in DataLoader(range(10), batch_size=4, sampler=sampler)] == [list(sampler)]


def test_without_torch_distributed_it_is_the_only_rank():
    assert rank_and_world_size() == (0, 1)
    assert sorted(ShardedDistributedSampler(range(10))) == list(range(10))


def test_one_rank_alone_is_rank_0():
    alone = ShardedDistributedSampler(range(10), num_replicas=1)
    assert (alone.rank, alone.num_replicas) == (0, 1)
    assert list(alone) == list(ShardedDistributedSampler(range(10), 1, 0))


INVALID_OPTIONS = [
    ({"num_replicas": 2}, ValueError, "must be given together.*or num_replicas=1 alone"),
    ({"num_replicas": 0}, ValueError, "num_replicas must be at least 1, got 0"),
    ({"num_replicas": True}, TypeError, "num_replicas must be an integer"),
    ({"num_replicas": 1.0}, TypeError, "num_replicas must be an integer"),
    ({"num_replicas": 1, "rank": 1}, ValueError, r"rank must be in \[0, num_replicas\), got 1 of 1"),
    ({"rank": 0}, ValueError, "must be given together"),
    ({"num_replicas": 2, "rank": 2}, ValueError, r"rank must be in \[0, num_replicas\), got 2 of 2"),
    ({"num_replicas": 0, "rank": 0}, ValueError, "num_replicas must be at least 1, got 0"),
    ({"seed": -1}, ValueError, "seed must be at least 0, got -1"),
    ({"seed": 0.5}, TypeError, "seed must be an integer"),
    ({"shuffle": 1}, TypeError, "shuffle must be True or False"),
    ({"drop_last": None}, TypeError, "drop_last must be True or False"),
]


@pytest.mark.parametrize(("options", "error", "message"), INVALID_OPTIONS)
def test_an_invalid_option_raises_an_error(options, error, message):
    with pytest.raises(error, match=message):
        ShardedDistributedSampler(range(10), **options)


def test_a_negative_epoch_raises_an_error():
    with pytest.raises(ValueError, match="epoch must be at least 0, got -1"):
        ShardedDistributedSampler(range(10)).set_epoch(-1)


def draw_on_a_rank(rank, num_replicas):
    sampler = ShardedDistributedSampler(range(11), drop_last=True)
    assert rank_and_world_size() == (dist.get_rank(), dist.get_world_size()) == (rank, num_replicas)
    return list(sampler)


@pytest.mark.slow
def test_ranks_are_taken_from_torch_distributed(run_on_ranks):
    assert run_on_ranks(draw_on_a_rank, 2) == draw_shards(11, 2, drop_last=True)
