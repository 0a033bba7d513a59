"""A rank that builds its own batches only passes; one that builds or holds the batches of all ranks fails."""

import sys
import tracemalloc

import numpy as np
import pytest
from torch.utils.data import BatchSampler, DistributedSampler

from viscy_sampling_testkit import assert_rank_cost

N_BATCHES = 48


def build(k):
    rng = np.random.default_rng(k)
    return [rng.integers(1000).item() for _ in range(16)]


def own_batches_only(rank, num_replicas):
    return (build(k) for k in range(rank, N_BATCHES, num_replicas))


def test_rank_that_builds_its_own_batches_passes():
    for num_replicas in (4, 8, 16):
        assert_rank_cost(own_batches_only, num_replicas)


def test_distributed_sampler_passes_although_each_rank_shuffles_all_rows():
    def make_sampler(rank, num_replicas):
        return BatchSampler(DistributedSampler(range(1000), num_replicas, rank), 4, drop_last=False)

    assert_rank_cost(make_sampler)


@pytest.mark.parametrize(
    ("built", "lines"),
    [
        (iter, ["function calls for 6 batches", "in a single process", "bound: 3 times as many"]),
        (list, ["function calls for its epoch", "in a single process", "bound: 0.85 of that"]),
    ],
    ids=["one by one", "in advance"],
)
def test_rank_that_builds_the_batches_of_all_ranks_fails(built, lines, assertion_fails):
    class BuildsAll:
        def __init__(self, rank, num_replicas):
            self.rank, self.num_replicas = rank, num_replicas

        def __iter__(self):
            for k, batch in enumerate(built(map(build, range(N_BATCHES)))):
                if k % self.num_replicas == self.rank:
                    yield batch

    with assertion_fails(
        "must build its own batches only", *lines, "n: 6 batches on rank 0 of 8, 48 in a single process"
    ):
        assert_rank_cost(BuildsAll)


def test_setup_of_every_rank_is_tolerated():
    """The setup costs as much as five batches, and the rank has six."""

    class SetsUp:
        def __init__(self, rank, num_replicas):
            self.rank, self.num_replicas = rank, num_replicas

        def __iter__(self):
            for k in range(5):
                build(k)
            yield from own_batches_only(self.rank, self.num_replicas)

    assert_rank_cost(SetsUp)


def test_rank_that_holds_memory_for_every_rank_fails(assertion_fails):
    def make_sampler(rank, num_replicas):
        plans = np.zeros((num_replicas, 200_000))
        return (build(k + int(plans[0, 0])) for k in range(rank, N_BATCHES, num_replicas))

    class HoldsAllPlans:
        def __init__(self, rank, num_replicas):
            self.arguments = rank, num_replicas

        def __iter__(self):
            return make_sampler(*self.arguments)

    with assertion_fails("must build its own batches only", "bytes", "3 times as many plus 65536"):
        assert_rank_cost(HoldsAllPlans)


def test_measuring_restores_the_profiler_and_the_tracer():
    def profile(*_):
        return None

    before = sys.getprofile()
    sys.setprofile(profile)
    try:
        assert_rank_cost(own_batches_only)
        assert sys.getprofile() is profile
    finally:
        sys.setprofile(before)
    assert not tracemalloc.is_tracing()


def test_too_few_ranks_or_batches_raise():
    with pytest.raises(ValueError, match="num_replicas must be larger than the factor, 3, got 2"):
        assert_rank_cost(own_batches_only, 2)
    with pytest.raises(ValueError, match="at least 2 batches for each of 32 ranks, got 48; give more rows"):
        assert_rank_cost(own_batches_only, 32)
