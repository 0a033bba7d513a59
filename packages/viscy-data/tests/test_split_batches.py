"""split_batches: each step holds one batch of the global sequence, whose slots the ranks share."""

import copy
import itertools
import logging
import os
import pickle
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
import torch.distributed as dist
from accelerate import Accelerator
from accelerate.data_loader import BatchSamplerShard, DataLoaderDispatcher
from accelerate.utils import DataLoaderConfiguration
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from lightning.fabric import Fabric
from torch.utils.data import DataLoader, DistributedSampler
from torchdata.stateful_dataloader import StatefulDataLoader

from viscy_data import FlexibleBatchSampler
from viscy_sampling_testkit import assert_leak, assert_one_group, assert_rounded, make_anchors
from viscy_sampling_testkit.strategies import anchor_tables, sampler_options

TABLE = make_anchors(1016, seed=5)
OPTIONS = {"batch_size": 48, "leaky": 0.125, "temporal_enrichment": True, "seed": 3}
TOTAL = 21  # batches of 48 slots, and a short one of 8 with drop_last=False

pytestmark = [
    # torchdata 0.11 uses a function that newer releases of torch deprecate
    pytest.mark.filterwarnings("ignore:'set_vital' is deprecated"),
    # Fabric suggests more workers than a test needs
    pytest.mark.filterwarnings("ignore:.*does not have many workers"),
]


def make_sampler(rank=None, num_replicas=None, **options) -> Any:
    options = {"split_batches": True} | OPTIONS | options
    return FlexibleBatchSampler(TABLE, num_replicas=num_replicas, rank=rank, **options)


def draw_steps(num_replicas, **options):
    """Return the batches of each step of an epoch, one for each rank."""
    return list(zip(*[list(make_sampler(r, num_replicas, **options)) for r in range(num_replicas)], strict=True))


def join(step):
    return list(itertools.chain.from_iterable(step))


def whole_batches(n=TOTAL, epoch=0, **options):
    sampler = make_sampler(**options)
    return [sampler.batch(k, epoch) for k in range(n)]


# one batch a step


@pytest.mark.parametrize("num_replicas", [1, 2, 3, 4, 8, 48])
@pytest.mark.parametrize("even_batches", [True, False])
def test_a_step_holds_the_same_anchors_on_any_number_of_ranks(num_replicas, even_batches):
    steps = draw_steps(num_replicas, even_batches=even_batches)
    assert [join(step) for step in steps] == whole_batches()
    assert {len(batch) for step in steps for batch in step} == {48 // num_replicas}


def test_without_split_batches_the_same_batches_are_of_one_rank_each():
    assert whole_batches() == list(FlexibleBatchSampler(TABLE, **OPTIONS))


@pytest.mark.parametrize("num_replicas", [1, 2, 8])
def test_the_length_is_that_of_the_epoch_on_every_rank(num_replicas):
    assert {len(make_sampler(rank, num_replicas)) for rank in range(num_replicas)} == {TOTAL}
    assert {len(make_sampler(rank, num_replicas, drop_last=False)) for rank in range(num_replicas)} == {TOTAL + 1}


@pytest.mark.parametrize("num_replicas", [1, 2, 4, 8])
def test_the_short_last_batch_is_shared_as_well(num_replicas):
    steps = draw_steps(num_replicas, drop_last=False)
    assert [join(step) for step in steps] == whole_batches(TOTAL + 1, drop_last=False)
    assert [len(batch) for batch in steps[-1]] == [8 // num_replicas] * num_replicas


def test_epochs_follow_each_other_on_many_ranks_as_on_one():
    ranks = [make_sampler(rank, 4) for rank in range(4)]
    for epoch in range(3):
        assert [join(step) for step in zip(*ranks, strict=True)] == whole_batches(epoch=epoch)


def test_the_quotas_hold_over_the_step_and_not_for_a_rank():
    steps = [join(step) for step in draw_steps(8, temporal_enrichment=False)]
    assert_leak(steps, TABLE["experiment"], 0.125)
    assert_rounded(steps, TABLE["condition"], {"infected": 0.5, "uninfected": 0.5})
    assert_one_group(draw_steps(8, leaky=0.0)[0], TABLE["experiment"])


def test_no_rank_is_preferred_by_a_condition_or_by_the_leak():
    """A slot of rank r leaks with probability 1/8 and is infected with 1/2, within five standard errors."""
    table = make_anchors(9600, seed=6)
    options: Any = OPTIONS | {"split_batches": True, "num_replicas": 8}
    infected, group = (table["condition"] == "infected").to_numpy(), table["experiment"].to_numpy()
    ranks = [np.array(list(FlexibleBatchSampler(table, rank=rank, **options))) for rank in range(8)]
    most = [max(set(rows), key=list(rows).count) for rows in group[np.concatenate(ranks, axis=1)]]
    for rank in ranks:
        for observed, expected in ((infected[rank], 0.5), (group[rank] != np.array(most)[:, None], 0.125)):
            assert abs(observed.mean() - expected) < 5 * (expected * (1 - expected) / rank.size) ** 0.5


@pytest.mark.parametrize("num_replicas", [1, 2, 8])
def test_arrays_hold_the_slots_of_the_lists(num_replicas):
    for rank in range(num_replicas):
        arrays = list(make_sampler(rank, num_replicas, as_arrays=True))
        assert {(array.dtype, array.shape) for array in arrays} == {(np.dtype(np.int64), (48 // num_replicas,))}
        assert [array.tolist() for array in arrays] == list(make_sampler(rank, num_replicas))


def test_a_batch_by_its_number_is_whole():
    assert make_sampler(1, 8).batch(5) == make_sampler().batch(5)
    assert len(make_sampler(1, 8, as_arrays=True).batch(5)) == 48


def test_the_batch_size_is_that_of_the_step():
    assert make_sampler(1, 8).batch_size == 48
    assert make_sampler(1, 8).planned().options["batch_size"] == 48


# state


def test_a_step_advances_the_position_by_one_on_every_rank():
    for num_replicas, rank in ((1, 0), (4, 0), (4, 3), (8, 5)):
        sampler = make_sampler(rank, num_replicas)
        assert len(list(itertools.islice(iter(sampler), 7))) == 7
        assert (sampler.state_dict()["epoch"], sampler.state_dict()["position"]) == (0, 7)


def test_the_state_at_the_end_of_an_epoch_is_the_start_of_the_next():
    sampler = make_sampler(1, 4)
    assert len(list(sampler)) == TOTAL
    assert (sampler.state_dict()["epoch"], sampler.state_dict()["position"]) == (1, 0)


@pytest.mark.parametrize(("n_before", "n_after"), [(1, 2), (2, 1), (2, 8), (8, 3)])
@pytest.mark.parametrize("drop_last", [True, False])
def test_a_run_resumes_on_another_number_of_ranks(n_before, n_after, drop_last):
    n_after = n_after if drop_last else min(n_after, 2)
    before = [make_sampler(rank, n_before, drop_last=drop_last) for rank in range(n_before)]
    drawn = list(zip(*[itertools.islice(iter(rank), 5) for rank in before], strict=True))
    states = [rank.state_dict() for rank in before]
    assert all(state == states[0] for state in states)
    after = [make_sampler(rank, n_after, drop_last=drop_last) for rank in range(n_after)]
    for rank in after:
        rank.load_state_dict(states[0])
    rest = list(zip(*[list(rank) for rank in after], strict=True))
    assert [join(step) for step in drawn + rest] == whole_batches(TOTAL + (not drop_last), drop_last=drop_last)


def test_a_run_may_stop_with_whole_batches_and_resume_with_split_ones():
    before = [make_sampler(rank, 2, split_batches=False) for rank in (0, 1)]
    drawn = [
        batch for step in zip(*[itertools.islice(iter(rank), 4) for rank in before], strict=True) for batch in step
    ]
    after = [make_sampler(rank, 4) for rank in range(4)]
    for rank in after:
        rank.load_state_dict(before[0].state_dict())
    assert drawn + [join(step) for step in zip(*after, strict=True)] == whole_batches()
    assert "split_batches" not in before[0].state_dict()["fingerprint"]


@pytest.mark.parametrize("make_copy", [copy.deepcopy, lambda sampler: pickle.loads(pickle.dumps(sampler))])
def test_a_copy_yields_the_same_slots(make_copy):
    assert list(make_copy(make_sampler(1, 4))) == list(make_sampler(1, 4))


@pytest.mark.parametrize("num_workers", [0, pytest.param(2, marks=pytest.mark.slow)])
def test_a_stateful_data_loader_resumes_with_the_next_step(num_workers):
    def make_loader(rank, num_replicas):
        return StatefulDataLoader(
            torch.arange(len(TABLE)), batch_sampler=make_sampler(rank, num_replicas), num_workers=num_workers
        )

    before, after = make_loader(1, 4), make_loader(1, 2)
    drawn = [batch.tolist() for batch in itertools.islice(before, 9)]
    assert drawn == [batch[12:24] for batch in whole_batches(9)]
    iterator = iter(before)
    for _ in range(3):
        next(iterator)
    after.load_state_dict(before.state_dict())
    assert [batch.tolist() for batch in after] == [batch[24:] for batch in whole_batches(epoch=1)[3:]]


# sizes that do not divide


def test_a_number_of_ranks_that_does_not_divide_the_batch_is_an_error_at_construction():
    with pytest.raises(ValueError, match=r"must divide batch_size, got 5 ranks for 48 slots; choose"):
        make_sampler(0, 5)
    with pytest.raises(ValueError, match=r"batch_size=45 or 50"):
        make_sampler(0, 5)
    with pytest.raises(ValueError, match=r"got 96 ranks for 48 slots; choose batch_size=96"):
        make_sampler(0, 96)


def test_a_number_of_ranks_that_does_not_divide_the_short_batch_is_an_error_at_construction():
    with pytest.raises(ValueError, match=r"the short last batch.*got 3 ranks for 8 slots; set drop_last=True"):
        make_sampler(0, 3, drop_last=False)
    assert len(list(make_sampler(0, 3))) == TOTAL


def test_ranks_that_are_looked_up_are_compared_with_the_batch_when_it_is_drawn(monkeypatch):
    sampler = make_sampler()
    monkeypatch.setattr("viscy_data._sharding.rank_and_world_size", lambda: (2, 5))
    for use in (len, lambda sampler: next(iter(sampler))):
        with pytest.raises(ValueError, match="got 5 ranks for 48 slots"):
            use(sampler)
    assert len(sampler.batch(0)) == 48
    monkeypatch.setattr("viscy_data._sharding.rank_and_world_size", lambda: (2, 4))
    assert list(sampler) == [batch[24:36] for batch in whole_batches()]


@pytest.mark.parametrize("value", [1, None, "yes"])
def test_a_value_that_is_not_a_bool_raises_an_error(value):
    with pytest.raises(TypeError, match="split_batches must be True or False"):
        make_sampler(split_batches=value)


# loaders that split


@pytest.mark.parametrize("sharded_by", ["loader", None])
@pytest.mark.parametrize("n_ranks", [1, 2, 4])
@pytest.mark.parametrize("as_arrays", [False, True])
def test_a_loader_of_accelerate_that_cuts_batches_gets_whole_ones(sharded_by, n_ranks, as_arrays):
    for rank in range(n_ranks):
        sampler = make_sampler(rank, n_ranks, sharded_by=sharded_by, as_arrays=as_arrays)
        shard = BatchSamplerShard(sampler, n_ranks, rank, split_batches=True)
        size = 48 // n_ranks
        assert len(shard) == TOTAL
        assert [list(batch) for batch in shard] == [b[rank * size : (rank + 1) * size] for b in whole_batches()]


def test_any_loader_that_cuts_batches_gets_whole_ones_if_that_is_stated():
    assert list(make_sampler(1, 4, sharded_by="loader")) == whole_batches()
    assert len(make_sampler(1, 4, sharded_by="loader")) == TOTAL


@pytest.mark.parametrize("sharded_by", ["loader", "sampler", None])
def test_a_loader_of_accelerate_that_distributes_whole_batches_is_an_error(sharded_by):
    shard: Any = BatchSamplerShard(make_sampler(0, 2, sharded_by=sharded_by), 2, 0)
    for use in (list, len):
        with pytest.raises(RuntimeError, match=r"BatchSamplerShard .*DataLoaderConfiguration\(split_batches=True\)"):
            use(shard)


class DistributedWrapper(DistributedSampler):
    """Distributes the batches of another sampler, as several libraries do."""

    def __iter__(self):
        return iter(list(self.dataset))


@pytest.mark.parametrize("sharded_by", ["loader", "sampler", None])
def test_a_distributed_sampler_that_distributes_whole_batches_is_an_error(sharded_by):
    with pytest.raises(RuntimeError, match="DistributedWrapper distributes whole batches over 2 ranks"):
        DistributedWrapper(make_sampler(0, 2, sharded_by=sharded_by), num_replicas=2, rank=0)


def test_batches_that_the_sampler_cuts_are_not_cut_again():
    shard = BatchSamplerShard(make_sampler(0, 2, sharded_by="sampler"), 2, 0, split_batches=True)
    with pytest.raises(RuntimeError, match=r'split over ranks once, but BatchSamplerShard .* set sharded_by="loader"'):
        list(shard)


def test_a_short_batch_that_accelerate_would_fill_up_is_an_error():
    shard = BatchSamplerShard(make_sampler(0, 2, drop_last=False), 2, 0, split_batches=True)
    with pytest.raises(ValueError, match=r"BatchSamplerShard fills up.* 8 slots; set drop_last=True"):
        list(shard)
    no_rest = FlexibleBatchSampler(TABLE[:96], **OPTIONS, drop_last=False, split_batches=True)
    assert len(list(BatchSamplerShard(no_rest, 2, 0, split_batches=True))) == 2


class Dispatcher(DataLoaderDispatcher):
    """Draws the batches of all ranks, as accelerate's loader does on the first rank, but without processes."""

    def __init__(self, num_processes, split_batches):
        self.state, self.split_batches = SimpleNamespace(num_processes=num_processes), split_batches

    def draw(self, sampler):
        return list(sampler)


def test_a_loader_that_draws_on_one_rank_and_cuts_gets_whole_batches_and_the_short_one():
    assert Dispatcher(2, split_batches=True).draw(make_sampler(drop_last=False)) == whole_batches(
        TOTAL + 1, drop_last=False
    )
    with pytest.raises(ValueError, match="got 5 ranks for 48 slots"):
        Dispatcher(5, split_batches=True).draw(make_sampler())
    with pytest.raises(RuntimeError, match="Dispatcher distributes whole batches over 2 ranks"):
        Dispatcher(2, split_batches=False).draw(make_sampler())


def test_a_cutting_loader_on_ranks_that_do_not_divide_the_short_batch_is_an_error():
    with pytest.raises(ValueError, match="got 3 ranks for 8 slots"):
        make_sampler(0, 3, drop_last=False, sharded_by="loader")


# real processes


def draw_under_launchers(rank, num_replicas):
    """Draw an epoch with ranks from torch.distributed, and from loaders that accelerate has prepared."""
    ranks = {"LOCAL_RANK": rank, "RANK": rank, "WORLD_SIZE": num_replicas, "LOCAL_WORLD_SIZE": num_replicas}
    os.environ |= {name: str(value) for name, value in ranks.items()} | {"MASTER_ADDR": "127.0.0.1", "NODE_RANK": "0"}
    messages = []

    class Collector(logging.Handler):
        def emit(self, record):
            messages.append(record.getMessage())

    logging.getLogger("viscy_data.sampler").addHandler(Collector())
    plain = []
    for batch in make_sampler():
        dist.barrier()  # hangs until the deadline if ranks have different numbers of steps
        plain.append(batch)

    def draw(dispatch_batches=None, split_batches=True, **options):
        configuration = DataLoaderConfiguration(split_batches=split_batches, dispatch_batches=dispatch_batches)
        accelerator = Accelerator(cpu=True, dataloader_config=configuration)
        loader = accelerator.prepare(DataLoader(torch.arange(len(TABLE)), batch_sampler=make_sampler(**options)))
        assert isinstance(loader, DataLoaderDispatcher) == bool(dispatch_batches)
        return [batch.tolist() for batch in loader]

    fabric = Fabric(accelerator="cpu", devices=num_replicas, strategy="ddp")
    fabric.launch()
    loader = DataLoader(torch.arange(len(TABLE)), batch_sampler=make_sampler())
    set_up: Any = fabric.setup_dataloaders(loader, use_distributed_sampler=False)
    under_fabric = [batch.tolist() for batch in set_up]
    results = {
        "torch.distributed": plain,
        "Fabric": under_fabric,
        "accelerate": draw(),
        "accelerate, stated": draw(sharded_by="loader"),
        "accelerate, dispatched": draw(dispatch_batches=True),
    }
    with pytest.raises(RuntimeError, match=r"DataLoaderConfiguration\(split_batches=True\)"):
        draw(split_batches=False)
    return results, messages


@pytest.mark.weekly
@pytest.mark.slow
def test_real_processes_share_the_batch_of_each_step(run_on_ranks):
    results = run_on_ranks(draw_under_launchers, 2)
    for rank, (drawn, messages) in enumerate(results):
        for name, batches in drawn.items():
            assert batches == [batch[24 * rank : 24 * (rank + 1)] for batch in whole_batches()], name
        assert not messages


# any table and options


@st.composite
def split_cases(draw):
    """Return a table, options, and numbers of ranks that divide its batches."""
    table = draw(anchor_tables())
    options = draw(sampler_options(table))
    sizes = [options["batch_size"]]
    if not options["drop_last"] and len(table) % options["batch_size"]:
        sizes.append(len(table) % options["batch_size"])
    divisors = [r for r in range(1, max(sizes) + 1) if all(size % r == 0 for size in sizes)]
    return table, options, draw(st.sampled_from(divisors)), draw(st.sampled_from(divisors))


@pytest.mark.slow
@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(case=split_cases(), stop=st.integers(0, 20), even_batches=st.booleans(), as_arrays=st.booleans())
def test_any_sampler_stopped_and_resumed_shares_its_batches(case, stop, even_batches, as_arrays):
    table, options, n_before, n_after = case
    options = options | {"split_batches": True, "even_batches": even_batches, "as_arrays": as_arrays}
    whole = FlexibleBatchSampler(table, **options)
    expected = [list(whole.batch(k)) for k in range(len(whole))]

    def make_ranks(n):
        return [FlexibleBatchSampler(table, num_replicas=n, rank=rank, **options) for rank in range(n)]

    before, after = make_ranks(n_before), make_ranks(n_after)
    drawn = list(zip(*[itertools.islice(iter(rank), stop) for rank in before], strict=True))
    for rank in after:
        rank.load_state_dict(before[-1].state_dict())
    rest = list(zip(*[list(rank) for rank in after], strict=True)) if len(drawn) < len(expected) else []
    assert [join(step) for step in drawn + rest] == expected
    assert all(len({len(batch) for batch in step}) == 1 for step in drawn + rest)


def test_whole_steps_are_composed_once_by_each_rank(monkeypatch):
    sampler = make_sampler(3, 8)
    composed = []
    compose = sampler._composer.compose
    monkeypatch.setattr(sampler._composer, "compose", lambda plan, k: composed.extend(k.tolist()) or compose(plan, k))
    assert len(list(sampler)) == TOTAL
    assert composed == list(range(TOTAL))
