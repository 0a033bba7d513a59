"""Ranks: one global sequence, dealt out batch by batch."""

import itertools
import time

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
    spawn_ranks,
)

TABLE = make_anchors(1030, seed=5)
OPTIONS = {"batch_size": 50, "leaky": 0.1, "temporal_enrichment": True}
TOTAL = 20


def sampler(rank=None, num_replicas=None, **options):
    return FlexibleBatchSampler(TABLE, num_replicas=num_replicas, rank=rank, **{**OPTIONS, **options})


def sequence(n, **options):
    return [sampler(**options).batch(k) for k in range(n)]


def test_two_ranks_yield_every_other_batch_each():
    whole = list(sampler())
    even, odd = simulate_ranks(sampler, 2)
    assert even == whole[0::2]
    assert odd == whole[1::2]
    assert len(sampler(0, 2)) == len(sampler(1, 2)) == len(even) == len(odd) == 10


@pytest.mark.parametrize("num_replicas", [1, 2, 3, 4, 7, 19, 20, 21, 64])
def test_rank_r_of_n_yields_batches_r_r_plus_n_and_so_on(num_replicas):
    ranks = simulate_ranks(sampler, num_replicas)
    n_steps = -(-TOTAL // num_replicas)
    assert_equal_steps(ranks)
    assert [len(rank) for rank in ranks] == [n_steps] * num_replicas
    assert {len(sampler(rank, num_replicas)) for rank in range(num_replicas)} == {n_steps}
    assert_ranks_interleave(ranks, sequence(n_steps * num_replicas))


@pytest.mark.parametrize("num_replicas", [2, 3, 7])
def test_with_a_short_batch_too(num_replicas):
    ranks = simulate_ranks(lambda rank, n: sampler(rank, n, drop_last=False), num_replicas)
    n_steps = -(-(TOTAL + 1) // num_replicas)
    assert_equal_steps(ranks)
    whole = sequence(n_steps * num_replicas, drop_last=False)
    assert_ranks_interleave(ranks, whole)
    assert [len(batch) for batch in whole[:22]] == ([50] * 20 + [30] + [50])[: len(whole)]


def test_what_fills_the_last_step_is_fresh_and_composed_like_any_batch():
    ranks = simulate_ranks(sampler, 3)
    whole = list(sampler())
    (extra,) = (batch for batch in itertools.chain(*ranks) if batch not in whole)
    assert len(extra) == 50
    assert (TABLE["condition"].iloc[extra] == "infected").sum() == 25
    assert max(TABLE["experiment"].iloc[extra].value_counts()) == 45


@pytest.mark.parametrize("num_replicas", [1, 3, 7, 21])
def test_uneven_batches_stop_at_the_total(num_replicas):
    ranks = simulate_ranks(lambda rank, n: sampler(rank, n, even_batches=False), num_replicas)
    lengths = [len(sampler(rank, num_replicas, even_batches=False)) for rank in range(num_replicas)]
    assert [len(rank) for rank in ranks] == lengths
    assert sum(lengths) == TOTAL
    assert max(lengths) - min(lengths) <= 1
    assert [batch for step in itertools.zip_longest(*ranks) for batch in step if batch] == list(sampler())


@pytest.mark.parametrize(("rank", "num_replicas"), [(0, 1), (0, 64), (63, 64), (5, 1000)])
def test_a_rank_composes_its_own_batches_and_no_others(monkeypatch, rank, num_replicas):
    table = make_anchors(6400)
    own = FlexibleBatchSampler(table, 64, num_replicas=num_replicas, rank=rank)
    composed = []
    compose = own._composer.compose
    monkeypatch.setattr(own._composer, "compose", lambda plan, k: composed.extend(k.tolist()) or compose(plan, k))
    list(own)
    assert composed == list(range(rank, -(-100 // num_replicas) * num_replicas, num_replicas))


@pytest.mark.parametrize("num_replicas", [1, 2, 3, 8, 16])
def test_no_rank_misses_a_condition(num_replicas):
    """20 conditions, 8 slots: on each rank each condition is in 40 % of batches, within five standard errors."""
    table = make_anchors(16_000, n_experiments=1, conditions=[f"drug{i:02d}" for i in range(20)])
    code = table["condition"].str[4:].astype(int).to_numpy()
    ranks = simulate_ranks(lambda r, n: FlexibleBatchSampler(table, 8, num_replicas=n, rank=r), num_replicas)
    for batches in ranks:
        share = np.bincount(code[np.concatenate(batches)], minlength=20) / len(batches)
        assert np.abs(share - 0.4).max() < 5 * (0.24 / len(batches)) ** 0.5


def test_an_epoch_of_many_ranks_goes_on_with_the_next_as_on_one():
    one, of_three = sampler(), sampler(1, 3)
    for _ in range(3):
        whole = list(one)
        assert list(of_three)[:6] == whole[1:18:3]


def test_ranks_are_looked_up_at_use_not_only_at_construction(monkeypatch):
    early = sampler()
    assert len(early) == TOTAL
    monkeypatch.setattr(dist, "is_initialized", lambda: True)
    monkeypatch.setattr(dist, "get_rank", lambda: 1)
    monkeypatch.setattr(dist, "get_world_size", lambda: 4)
    assert len(early) == 5
    assert_same_batches(list(early), sequence(20)[1::4])


def test_ranks_that_are_given_are_not_looked_up(monkeypatch):
    monkeypatch.setattr(dist, "is_initialized", lambda: True)
    monkeypatch.setattr(dist, "get_rank", lambda: 1)
    monkeypatch.setattr(dist, "get_world_size", lambda: 4)
    assert len(sampler(0, 1)) == TOTAL


def epoch_in_a_process(rank, num_replicas):
    """Draw two epochs with a sampler that finds its rank itself, in step with the other ranks."""
    own = sampler()
    batches = []
    for _ in range(2):
        for batch in own:
            dist.barrier()  # hangs, until the deadline, where ranks have different numbers of steps
            batches.append(batch)
    return batches


@pytest.mark.slow
def test_real_processes_are_the_simulated_ranks():
    started = time.monotonic()
    ranks = spawn_ranks(epoch_in_a_process, 3, deadline=120)
    assert time.monotonic() - started < 120
    simulated = [sampler(rank, 3) for rank in range(3)]
    assert ranks == [list(own) + list(own) for own in simulated]
