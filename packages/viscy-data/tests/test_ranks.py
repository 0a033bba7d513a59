"""Ranks: one global sequence, distributed batch by batch."""

import itertools

import numpy as np
import pytest
import torch.distributed as dist

from viscy_data import FlexibleBatchSampler
from viscy_sampling_testkit import (
    assert_equal_steps,
    assert_ranks_interleave,
    assert_same_batches,
    make_anchors,
    simulate_ranks,
)

TABLE = make_anchors(1030, seed=5)
OPTIONS = {"batch_size": 50, "leaky": 0.1, "temporal_enrichment": True}
TOTAL = 20


def make_sampler(rank=None, num_replicas=None, **options):
    return FlexibleBatchSampler(TABLE, num_replicas=num_replicas, rank=rank, **{**OPTIONS, **options})


def global_sequence(n, **options):
    return [make_sampler(**options).batch(k) for k in range(n)]


def test_two_ranks_yield_every_other_batch_each():
    epoch = list(make_sampler())
    even, odd = simulate_ranks(make_sampler, 2)
    assert even == epoch[0::2]
    assert odd == epoch[1::2]
    assert len(make_sampler(0, 2)) == len(make_sampler(1, 2)) == len(even) == len(odd) == 10


@pytest.mark.parametrize("num_replicas", [1, 2, 3, 4, 7, 19, 20, 21, 64])
def test_rank_r_of_n_yields_batches_r_and_every_nth_after_it(num_replicas):
    ranks = simulate_ranks(make_sampler, num_replicas)
    n_steps = -(-TOTAL // num_replicas)
    assert_equal_steps(ranks)
    assert [len(rank) for rank in ranks] == [n_steps] * num_replicas
    assert {len(make_sampler(rank, num_replicas)) for rank in range(num_replicas)} == {n_steps}
    assert_ranks_interleave(ranks, global_sequence(n_steps * num_replicas))


@pytest.mark.parametrize("num_replicas", [2, 3, 7])
def test_ranks_interleave_with_a_short_last_batch(num_replicas):
    ranks = simulate_ranks(lambda rank, n: make_sampler(rank, n, drop_last=False), num_replicas)
    n_steps = -(-(TOTAL + 1) // num_replicas)
    assert_equal_steps(ranks)
    sequence = global_sequence(n_steps * num_replicas, drop_last=False)
    assert_ranks_interleave(ranks, sequence)
    assert [len(batch) for batch in sequence[:22]] == ([50] * 20 + [30] + [50])[: len(sequence)]


def test_the_batches_that_fill_the_last_step_are_new_and_composed_like_any_other():
    ranks = simulate_ranks(make_sampler, 3)
    epoch = list(make_sampler())
    (extra,) = (batch for batch in itertools.chain(*ranks) if batch not in epoch)
    assert len(extra) == 50
    assert (TABLE["condition"].iloc[extra] == "infected").sum() == 25
    assert max(TABLE["experiment"].iloc[extra].value_counts()) == 45


@pytest.mark.parametrize("num_replicas", [1, 3, 7, 21])
def test_uneven_batches_stop_at_the_total(num_replicas):
    ranks = simulate_ranks(lambda rank, n: make_sampler(rank, n, even_batches=False), num_replicas)
    lengths = [len(make_sampler(rank, num_replicas, even_batches=False)) for rank in range(num_replicas)]
    assert [len(rank) for rank in ranks] == lengths
    assert sum(lengths) == TOTAL
    assert max(lengths) - min(lengths) <= 1
    assert [batch for step in itertools.zip_longest(*ranks) for batch in step if batch] == list(make_sampler())


@pytest.mark.parametrize(("rank", "num_replicas"), [(0, 1), (0, 64), (63, 64), (5, 1000)])
def test_a_rank_composes_only_its_own_batches(monkeypatch, rank, num_replicas):
    table = make_anchors(6400)
    sampler = FlexibleBatchSampler(table, 64, num_replicas=num_replicas, rank=rank)
    composed = []
    compose = sampler._composer.compose
    monkeypatch.setattr(sampler._composer, "compose", lambda plan, k: composed.extend(k.tolist()) or compose(plan, k))
    list(sampler)
    assert composed == list(range(rank, -(-100 // num_replicas) * num_replicas, num_replicas))


@pytest.mark.parametrize("num_replicas", [1, 2, 3, 8, 16])
def test_every_rank_draws_every_condition_equally_often(num_replicas):
    """With 20 conditions and 8 slots, each is in 40 % of the batches of every rank, within five standard errors."""
    table = make_anchors(16_000, n_experiments=1, conditions=[f"drug{i:02d}" for i in range(20)])
    code = table["condition"].str[4:].astype(int).to_numpy()
    ranks = simulate_ranks(lambda r, n: FlexibleBatchSampler(table, 8, num_replicas=n, rank=r), num_replicas)
    for batches in ranks:
        share = np.bincount(code[np.concatenate(batches)], minlength=20) / len(batches)
        assert np.abs(share - 0.4).max() < 5 * (0.24 / len(batches)) ** 0.5


def test_epochs_follow_each_other_on_many_ranks_as_on_one():
    one, of_three = make_sampler(), make_sampler(1, 3)
    for _ in range(3):
        epoch = list(one)
        assert list(of_three)[:6] == epoch[1:18:3]


@pytest.fixture
def initialize_process_group(monkeypatch):
    """Make this process look like rank 1 of 4 to torch.distributed."""

    def initialize_process_group():
        monkeypatch.setattr(dist, "is_initialized", lambda: True)
        monkeypatch.setattr(dist, "get_rank", lambda: 1)
        monkeypatch.setattr(dist, "get_world_size", lambda: 4)

    return initialize_process_group


def test_ranks_are_looked_up_when_they_are_used_not_only_at_construction(initialize_process_group):
    sampler = make_sampler()
    assert len(sampler) == TOTAL
    initialize_process_group()
    assert len(sampler) == 5
    assert_same_batches(list(sampler), global_sequence(20)[1::4])


def test_ranks_that_are_given_are_not_looked_up(initialize_process_group):
    initialize_process_group()
    assert len(make_sampler(0, 1)) == TOTAL


@pytest.mark.parametrize("one", [1, np.int64(1)])
def test_one_rank_alone_is_rank_0_and_not_looked_up(initialize_process_group, one):
    initialize_process_group()
    sampler = make_sampler(num_replicas=one)
    assert (sampler.rank, sampler.num_replicas) == (0, 1)
    assert list(sampler) == global_sequence(TOTAL)


def draw_two_epochs_in_step(rank, num_replicas):
    """Draw two epochs from a sampler that takes its rank from torch.distributed, in step with the other ranks."""
    sampler = make_sampler()
    batches = []
    for _ in range(2):
        for batch in sampler:
            dist.barrier()  # hangs until the deadline if ranks have different numbers of steps
            batches.append(batch)
    return batches


@pytest.mark.slow
def test_real_processes_yield_the_batches_of_simulated_ranks(run_on_ranks):
    simulated = [make_sampler(rank, 3) for rank in range(3)]
    expected = [list(sampler) + list(sampler) for sampler in simulated]
    assert run_on_ranks(draw_two_epochs_in_step, 3) == expected
