"""The cost of a batch, counted in bytes and calls, which unlike times do not depend on what else the machine runs."""

import dataclasses
import gc
import sys
import tracemalloc
from itertools import islice

import numpy as np
import pandas as pd
import pytest
from torch.utils.data import BatchSampler, RandomSampler

from viscy_data import FlexibleBatchSampler
from viscy_data._compose.block import BlockComposer

pytestmark = pytest.mark.slow

SMALL, LARGE = 2 * 10**4, 10**6
BATCH_SIZE = 64
# 1 + 64: the first two blocks, so no block is built in advance and left unused.
N_BATCHES = 65
# How much the costs for two tables may differ: the permutation of a larger pool takes a few more steps, and a larger
# integer a few more bytes.
SLACK = 1.1

AXES = {
    "all axes": {"leaky": 0.1, "experiment_weights": "uniform", "temporal_enrichment": True},
    "no enrichment": {"leaky": 0.1, "experiment_weights": "uniform"},
    "plain": {"experiment_aware": False, "condition_balanced": False},
}
NEW_OPTIONS = {
    "split_batches": {"split_batches": True, "num_replicas": 8, "rank": 0},
    "anchors_per_condition": {"anchors_per_condition": 4},
    "epoch_batches": {"epoch_batches": 100},
    "distinct_by": {"distinct_by": "lineage_id"},
}


def make_table(n_anchors):
    """Make a table in which every (experiment, condition, time) occurs, so that only its length differs."""
    row = np.random.default_rng(0).permutation(n_anchors)
    return pd.DataFrame(
        {
            "experiment": pd.Categorical.from_codes(row % 10, [f"exp{i}" for i in range(10)]),
            "condition": pd.Categorical.from_codes(row // 10 % 2, ["mock", "infected"]),
            "hours_post_infection": (row // 20 % 97 * 0.5).astype(np.float32),
        }
    )


@pytest.fixture(scope="module")
def tables():
    return {n: make_table(n) for n in (SMALL, LARGE)}


def draw_batches(sampler, n_batches=N_BATCHES):
    for _ in islice(iter(sampler), n_batches):
        pass


def peak_bytes(action):
    """Return the peak number of bytes that an action allocates."""
    action()  # what is done once per process or epoch is not the cost of a batch
    gc.collect()
    tracemalloc.start()
    try:
        action()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def count_calls(action):
    """Return the number of functions, in Python or C, that an action calls."""
    counted = 0

    def count(_frame, event, _argument):
        nonlocal counted
        counted += event in ("call", "c_call")

    action()
    before = sys.getprofile()
    sys.setprofile(count)
    try:
        action()
    finally:
        sys.setprofile(before)
    return counted


each_count = pytest.mark.parametrize("count", [peak_bytes, count_calls])


@pytest.mark.parametrize("options", AXES.values(), ids=AXES.keys())
@each_count
def test_batches_from_a_large_table_cost_as_much_as_those_from_a_small_one(tables, count, options):
    small, large = (FlexibleBatchSampler(tables[n], BATCH_SIZE, **options) for n in (SMALL, LARGE))
    assert count(lambda: draw_batches(large)) <= SLACK * count(lambda: draw_batches(small))


@pytest.mark.parametrize("options", AXES.values(), ids=AXES.keys())
def test_a_batch_allocates_nothing_as_long_as_the_table(tables, options):
    sampler = FlexibleBatchSampler(tables[LARGE], BATCH_SIZE, **options)
    assert peak_bytes(lambda: sampler.batch(5000)) < LARGE / 4  # a quarter of a byte per anchor: not even a mask


class CountingOrder:
    """Replaces the positions of all anchors: counts those that are looked up, and supports nothing else."""

    def __init__(self, order):
        self._order = order
        self.n_looked_up = 0

    def __len__(self):
        return len(self._order)

    def take(self, rows, mode):
        self.n_looked_up += rows.size
        return self._order.take(rows, mode=mode)


@pytest.mark.parametrize("options", AXES.values(), ids=AXES.keys())
def test_a_batch_looks_up_as_many_positions_as_it_has_slots(tables, options):
    sampler = FlexibleBatchSampler(tables[LARGE], BATCH_SIZE, **options)
    order = CountingOrder(sampler._index.order)
    index = dataclasses.replace(sampler._index, order=order)
    sampler._composer = BlockComposer(index, sampler._quotas, sampler._options)
    draw_batches(sampler)
    sampler.batch(3000)
    assert order.n_looked_up == (N_BATCHES + 1) * BATCH_SIZE


@pytest.mark.parametrize("options", AXES.values(), ids=AXES.keys())
@each_count
def test_a_batch_costs_rank_0_of_64_as_much_as_rank_0_of_1(tables, count, options):
    one, many = (FlexibleBatchSampler(tables[LARGE], BATCH_SIZE, **options, num_replicas=n, rank=0) for n in (1, 64))
    assert len(one) > len(many) > N_BATCHES
    assert count(lambda: draw_batches(many)) <= SLACK * count(lambda: draw_batches(one))


@each_count
def test_a_late_batch_costs_as_much_as_an_early_one(tables, count):
    sampler = FlexibleBatchSampler(tables[LARGE], BATCH_SIZE, **AXES["all axes"])
    late = LARGE // BATCH_SIZE - 1
    assert count(lambda: sampler.batch(late)) <= SLACK * count(lambda: sampler.batch(0))


@each_count
def test_resuming_late_costs_as_much_as_resuming_early(tables, count):
    sampler = FlexibleBatchSampler(tables[LARGE], BATCH_SIZE, **AXES["all axes"])
    early = sampler.state_dict()
    late = {**early, "position": LARGE // BATCH_SIZE - N_BATCHES}

    def resume(state):
        sampler.load_state_dict(state)
        draw_batches(sampler, n_batches=1)

    assert count(lambda: resume(late)) <= SLACK * count(lambda: resume(early))


@pytest.mark.parametrize("new", NEW_OPTIONS.values(), ids=NEW_OPTIONS.keys())
@pytest.mark.parametrize("options", [AXES["all axes"], AXES["no enrichment"]], ids=["enriched", "not enriched"])
def test_a_new_option_at_most_doubles_the_cost_of_a_batch(options, new):
    row = np.arange(10**5)
    table = make_table(len(row)).assign(condition=row // 20 % 50, lineage_id=row // 50)
    without, with_option = (FlexibleBatchSampler(table, BATCH_SIZE, **options, **added) for added in ({}, new))
    for count in (peak_bytes, count_calls):
        assert count(lambda: draw_batches(with_option)) <= 2 * SLACK * count(lambda: draw_batches(without))


def test_an_epoch_of_39_batches_costs_little_more_than_its_first_batch():
    sampler = FlexibleBatchSampler(make_table(39 * BATCH_SIZE), BATCH_SIZE, **AXES["all axes"])
    assert count_calls(lambda: draw_batches(sampler)) <= 2.5 * count_calls(lambda: draw_batches(sampler, 1))


def test_a_sampler_keeps_at_most_eight_bytes_per_anchor_and_not_the_table():
    FlexibleBatchSampler(make_table(SMALL), BATCH_SIZE, **AXES["all axes"])
    gc.collect()
    tracemalloc.start()
    try:
        sampler = FlexibleBatchSampler(make_table(LARGE), BATCH_SIZE, **AXES["all axes"])
        gc.collect()
        kept, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert len(sampler) == LARGE // BATCH_SIZE
    assert kept <= 8 * LARGE


class MaskingSampler(FlexibleBatchSampler):
    """Reads every anchor for each batch, and calls a function once for each rank."""

    def __iter__(self):
        numbers = np.zeros(len(self._index))
        for batch in super().__iter__():
            np.flatnonzero(numbers)
            for _ in range(self._sharding.given_ranks[1] if self._sharding.given_ranks else 0):
                len(batch)
            yield batch


def test_the_counts_detect_a_batch_that_reads_the_complete_table(tables):
    small, large = (MaskingSampler(tables[n], BATCH_SIZE) for n in (SMALL, LARGE))
    assert peak_bytes(lambda: draw_batches(large)) > 2 * SLACK * peak_bytes(lambda: draw_batches(small))


def test_the_counts_detect_a_rank_that_does_work_for_every_other_rank(tables):
    one, many = (MaskingSampler(tables[LARGE], BATCH_SIZE, num_replicas=n, rank=0) for n in (1, 64))
    assert count_calls(lambda: draw_batches(many)) > SLACK * count_calls(lambda: draw_batches(one))


def test_the_counts_detect_a_shuffle_of_all_rows():
    small, large = (BatchSampler(RandomSampler(range(n)), BATCH_SIZE, drop_last=True) for n in (SMALL, LARGE))
    assert peak_bytes(lambda: draw_batches(large)) > 2 * SLACK * peak_bytes(lambda: draw_batches(small))
