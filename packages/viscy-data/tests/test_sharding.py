"""Sharding: each batch goes to exactly one rank, whether the sampler or the loader splits them."""

import itertools
import logging
import os
from types import SimpleNamespace

import pytest
import torch
from accelerate import Accelerator, PartialState
from accelerate.data_loader import BatchSamplerShard, DataLoaderDispatcher, SkipBatchSampler
from lightning.fabric import Fabric
from torch.utils.data import DataLoader, DistributedSampler

from viscy_data import FlexibleBatchSampler
from viscy_sampling_testkit import make_anchors

TABLE = make_anchors(1000, seed=8)
N_BATCHES = 20

# Fabric suggests more workers than a test needs.
pytestmark = pytest.mark.filterwarnings("ignore:.*does not have many workers")


def make_sampler(**options):
    return FlexibleBatchSampler(TABLE, 50, leaky=0.1, temporal_enrichment=True, **options)


def epoch_batches(epoch=0, n_batches=N_BATCHES):
    sampler = make_sampler()
    return [sampler.batch(k, epoch) for k in range(n_batches)]


class Wrapper:
    """A batch sampler that yields the batches of another one, as a user may write it."""

    def __init__(self, sampler):
        self.sampler, self.batch_size, self.drop_last = sampler, sampler.batch_size, sampler.drop_last

    def __len__(self):
        return len(self.sampler)

    def __iter__(self):
        yield from self.sampler


class ListWrapper(Wrapper):
    """Draws all batches at once."""

    def __iter__(self):
        return iter(list(self.sampler))


class DistributedWrapper(DistributedSampler):
    """Distributes the batches of another sampler, as several libraries do."""

    def __iter__(self):
        drawn = list(self.dataset)
        return (drawn[i] for i in super().__iter__())


# by the loader


@pytest.mark.parametrize("wrap", [Wrapper, ListWrapper, lambda sampler: Wrapper(ListWrapper(sampler)), lambda s: s])
@pytest.mark.parametrize("n_ranks", [1, 2, 3, 7])
@pytest.mark.parametrize("sharded_by", ["loader", None])
def test_a_wrapped_sampler_loses_no_batch_under_accelerate(wrap, n_ranks, sharded_by):
    n_steps = -(-N_BATCHES // n_ranks)
    for rank in range(n_ranks):
        sampler = make_sampler(rank=rank, num_replicas=n_ranks, sharded_by=sharded_by)
        shard = BatchSamplerShard(wrap(sampler), n_ranks, rank)
        assert len(shard) == n_steps
        assert list(shard) == epoch_batches(0, n_steps * n_ranks)[rank::n_ranks]
        assert list(shard) == epoch_batches(1, n_steps * n_ranks)[rank::n_ranks]


class OwnShard(BatchSamplerShard):
    """A user's variant of accelerate's class."""


def test_variants_of_accelerates_sampler_are_recognized():
    for rank in (0, 1):
        own = epoch_batches()[rank::2]
        assert list(OwnShard(make_sampler(rank=rank, num_replicas=2), 2, rank)) == own
        skipped = SkipBatchSampler(BatchSamplerShard(Wrapper(make_sampler(rank=rank, num_replicas=2)), 2, rank), 3)
        assert list(skipped) == own[3:]


class Dispatcher(DataLoaderDispatcher):
    """Draws the batches of both ranks, as accelerate's loader does on the first rank, but without processes."""

    def __init__(self, split_batches):
        self.state, self.split_batches = SimpleNamespace(num_processes=2), split_batches

    def draw(self, sampler):
        return list(sampler)


@pytest.mark.parametrize("split_batches", [False, True])
def test_a_loader_that_draws_for_all_ranks_gets_all_batches(split_batches):
    sampler = make_sampler(rank=0, num_replicas=2)
    assert Dispatcher(split_batches).draw(sampler) == epoch_batches()


def test_a_warning_is_logged_where_accelerate_may_split_the_batches_again(monkeypatch, caplog):
    monkeypatch.setattr("viscy_data._sharding.rank_and_world_size", lambda: (0, 2))
    PartialState(cpu=True)
    try:
        for options, n_warnings in (({}, 1), ({"sharded_by": "sampler"}, 0), ({"rank": 0, "num_replicas": 2}, 0)):
            caplog.clear()
            assert list(make_sampler(**options)) == epoch_batches()[0::2]
            assert len(caplog.messages) == n_warnings
            assert all('sharded_by="sampler" or sharded_by="loader"' in message for message in caplog.messages)
    finally:
        PartialState._reset_state()


def test_accelerate_may_split_each_batch_over_the_ranks():
    shards = [
        BatchSamplerShard(make_sampler(rank=rank, num_replicas=2), 2, rank, split_batches=True) for rank in (0, 1)
    ]
    halves = [list(shard) for shard in shards]
    assert [one + other for one, other in zip(*halves, strict=True)] == epoch_batches()


def test_a_loader_that_picks_batches_gets_all_of_them_and_a_complete_last_step():
    for n_ranks in (1, 2, 3, 7):
        n_steps = -(-N_BATCHES // n_ranks)
        sampler = make_sampler(rank=0, num_replicas=n_ranks, sharded_by="loader")
        assert len(sampler) == n_steps * n_ranks
        assert list(sampler) == epoch_batches(0, n_steps * n_ranks)


def test_a_state_under_a_loader_that_picks_batches_resumes_on_other_ranks():
    stopped = [make_sampler(rank=rank, num_replicas=2, sharded_by="loader") for rank in (0, 1)]
    shards = [iter(BatchSamplerShard(sampler, 2, rank)) for rank, sampler in enumerate(stopped)]
    assert [next(shard) for _ in range(3) for shard in shards] == epoch_batches()[:6]
    assert stopped[0].state_dict() == stopped[1].state_dict()
    resumed = [make_sampler(rank=rank, num_replicas=7) for rank in range(7)]
    for sampler in resumed:
        sampler.load_state_dict(stopped[0].state_dict())
    rest = itertools.chain.from_iterable(zip(*resumed, strict=True))
    assert list(rest) == epoch_batches()[6:]


# twice


@pytest.mark.parametrize("wrap", [Wrapper, ListWrapper])
def test_batches_that_the_sampler_splits_are_not_split_again_by_accelerate(wrap):
    sampler = make_sampler(rank=0, num_replicas=2, sharded_by="sampler")
    shard = BatchSamplerShard(wrap(sampler), 2, 0)
    with pytest.raises(RuntimeError, match=r'split over ranks once, but BatchSamplerShard .* set sharded_by="loader"'):
        list(shard)
    with pytest.raises(RuntimeError, match="split over ranks once"):
        len(shard)


@pytest.mark.parametrize("sharded_by", ["sampler", None])
def test_batches_that_the_sampler_splits_are_not_split_again_by_a_distributed_sampler(sharded_by):
    sampler = make_sampler(rank=0, num_replicas=2, sharded_by=sharded_by)
    with pytest.raises(RuntimeError, match="split over ranks once, but DistributedWrapper"):
        DistributedWrapper(sampler, num_replicas=2, rank=0)


def test_a_distributed_sampler_may_split_the_batches_if_the_sampler_does_not():
    ranks = [
        list(DistributedWrapper(make_sampler(rank=r, num_replicas=2, sharded_by="loader"), 2, r, shuffle=False))
        for r in (0, 1)
    ]
    assert ranks == [epoch_batches()[0::2], epoch_batches()[1::2]]


def test_one_rank_never_splits():
    sampler = make_sampler(sharded_by="sampler")
    assert list(DistributedWrapper(sampler, num_replicas=1, rank=0, shuffle=False)) == epoch_batches()


# options


@pytest.mark.parametrize(
    ("sharded_by", "error"), [("accelerate", ValueError), ("", ValueError), (True, TypeError), (2, TypeError)]
)
def test_who_splits_is_the_sampler_or_the_loader(sharded_by, error):
    with pytest.raises(error, match="sharded_by must be None"):
        make_sampler(sharded_by=sharded_by)


# real processes


def prepare_to_dispatch(accelerator, loader):
    """Prepare a loader from which the first rank draws the batches of all ranks."""
    prepared = accelerator.prepare(loader)
    assert isinstance(prepared, DataLoaderDispatcher)
    return prepared


def draw_under_frameworks(rank, num_replicas):
    """Draw an epoch from loaders that accelerate and Fabric have prepared; return batches and warnings of each."""
    ranks = {"LOCAL_RANK": rank, "RANK": rank, "WORLD_SIZE": num_replicas, "LOCAL_WORLD_SIZE": num_replicas}
    os.environ |= {name: str(value) for name, value in ranks.items()} | {"MASTER_ADDR": "127.0.0.1", "NODE_RANK": "0"}
    messages = []

    class Collector(logging.Handler):
        def emit(self, record):
            messages.append(record.getMessage())

    logging.getLogger("viscy_data.sampler").addHandler(Collector())

    def draw(prepare, wrap=lambda sampler: sampler, **options):
        messages.clear()
        loader = prepare(DataLoader(torch.arange(len(TABLE)), batch_sampler=wrap(make_sampler(**options))))
        return [batch.tolist() for batch in loader], list(messages)

    fabric = Fabric(accelerator="cpu", devices=num_replicas, strategy="ddp")
    fabric.launch()
    results = {"fabric": draw(lambda loader: fabric.setup_dataloaders(loader, use_distributed_sampler=False))}
    with pytest.raises(TypeError, match="use_distributed_sampler=False"):
        draw(fabric.setup_dataloaders)
    accelerator = Accelerator(cpu=True)
    results["prepared"] = draw(accelerator.prepare, Wrapper)
    results["prepared, stated"] = draw(accelerator.prepare, Wrapper, sharded_by="loader")
    dispatch = Accelerator(cpu=True)
    dispatch.dataloader_config.dispatch_batches = True
    results["dispatched"] = draw(lambda loader: prepare_to_dispatch(dispatch, loader), Wrapper)
    results["not prepared, stated"] = draw(lambda loader: loader, sharded_by="sampler")
    results["not prepared"] = draw(lambda loader: loader)
    return results


@pytest.mark.weekly
@pytest.mark.slow
def test_under_fabric_and_accelerate_each_batch_goes_to_one_rank(run_on_ranks):
    results = run_on_ranks(draw_under_frameworks, 2)
    for name in results[0]:
        assert [rank[name][0] for rank in results] == [epoch_batches()[0::2], epoch_batches()[1::2]], name
    for rank in results:
        warned = [name for name, (_, messages) in rank.items() if messages]
        assert warned == ["not prepared"]
        assert "accelerate is in use" in rank["not prepared"][1][0]
