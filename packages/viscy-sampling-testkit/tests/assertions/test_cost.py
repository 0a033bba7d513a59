"""A rank that builds its own batches only is accepted; one that builds those of all ranks, or holds them, is found."""

import sys
import tracemalloc

import numpy as np
import pytest
from torch.utils.data import BatchSampler, DistributedSampler

from viscy_sampling_testkit import assert_rank_cost

N_BATCHES = 48


def fails(*lines):
    """Return a context in which an assertion must fail with each of these lines in its message."""
    return pytest.raises(AssertionError, match="(?s)" + ".*".join(lines))


def build(k):
    rng = np.random.default_rng(k)
    return [rng.integers(1000).item() for _ in range(16)]


def own_batches_only(rank, num_replicas):
    return (build(k) for k in range(rank, N_BATCHES, num_replicas))


def test_a_rank_that_builds_its_own_batches_is_accepted():
    for num_replicas in (4, 8, 16):
        assert_rank_cost(own_batches_only, num_replicas)


def test_a_distributed_sampler_is_accepted_though_each_rank_shuffles_the_whole():
    def make_sampler(rank, num_replicas):
        return BatchSampler(DistributedSampler(range(1000), num_replicas, rank), 4, drop_last=False)

    assert_rank_cost(make_sampler)


@pytest.mark.parametrize(
    ("built", "lines"),
    [
        (iter, ["function calls for 6 batches", "in a single process", "bound: 3 times as many"]),
        (list, ["function calls for its epoch", "in a single process", "bound: 0.85 of that"]),
    ],
    ids=["on the way", "ahead"],
)
def test_a_rank_that_builds_the_batches_of_all_is_found(built, lines):
    class BuildsAll:
        def __init__(self, rank, num_replicas):
            self.rank, self.num_replicas = rank, num_replicas

        def __iter__(self):
            for k, batch in enumerate(built(map(build, range(N_BATCHES)))):
                if k % self.num_replicas == self.rank:
                    yield batch

    with fails("must build its own batches only", *lines, "n: 6 batches of rank 0 of 8, 48 of a single process"):
        assert_rank_cost(BuildsAll)


def test_what_every_rank_must_do_once_is_allowed_for():
    """Here as much as five of its batches, of which it has six."""

    class SetsUp:
        def __init__(self, rank, num_replicas):
            self.rank, self.num_replicas = rank, num_replicas

        def __iter__(self):
            for k in range(5):
                build(k)
            yield from own_batches_only(self.rank, self.num_replicas)

    assert_rank_cost(SetsUp)


def test_a_rank_that_holds_something_for_every_other_rank_is_found():
    def make_sampler(rank, num_replicas):
        plans = np.zeros((num_replicas, 200_000))
        return (build(k + int(plans[0, 0])) for k in range(rank, N_BATCHES, num_replicas))

    class HoldsAllPlans:
        def __init__(self, rank, num_replicas):
            self.arguments = rank, num_replicas

        def __iter__(self):
            return make_sampler(*self.arguments)

    with fails("must build its own batches only", "bytes", "3 times as many and 65536"):
        assert_rank_cost(HoldsAllPlans)


def test_measuring_leaves_the_profiler_and_the_tracer_as_they_were():
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


def test_too_few_ranks_or_batches_to_tell_are_refused():
    with pytest.raises(ValueError, match="num_replicas must be larger than the factor, 3, got 2"):
        assert_rank_cost(own_batches_only, 2)
    with pytest.raises(ValueError, match="2 batches or more for each of 32 ranks, got 48 in all; give more rows"):
        assert_rank_cost(own_batches_only, 32)
