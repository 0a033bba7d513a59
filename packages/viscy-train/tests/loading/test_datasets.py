import os
import pickle
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch._utils import ExceptionWrapper
from torch.utils.data import DataLoader

from viscy_data import FlexibleBatchSampler
from viscy_train.errors import UserError
from viscy_train.loading.batches import Batch, IndexedBatches
from viscy_train.loading.crop_source import READS, ReadCounts
from viscy_train.loading.crops import CropReader
from viscy_train.loading.datasets import CropDataset, PairDataset, finish_batch, no_collation
from viscy_train.positives.lineages import Lineages

SEED = 11
# Python warns about threads when a loader forks workers; test_start_methods checks that the fork is safe.
FORKED = pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")


def make_sampler(table, rows, **changes):
    columns = ["experiment", "condition", "hours_post_infection"]
    options = {"batch_size": 16, "leaky": 0.125, "seed": SEED} | changes
    return FlexibleBatchSampler(table.observations.iloc[rows][columns], **options)


def make_batches(table, rank=0, num_replicas=1, **changes):
    rows = np.arange(1, len(table.observations), 2)
    sampler = make_sampler(table, rows, rank=rank, num_replicas=num_replicas, **changes)
    return IndexedBatches(sampler, rows, rank, num_replicas)


def make_dataset(table, seed=SEED):
    return PairDataset(table, Lineages.of(table.observations, table.positive), seed)


def as_tuples(batches):
    return [(batch.rows.tolist(), batch.epoch, batch.index) for batch in batches]


@pytest.fixture
def table(noise):
    return noise[0]


@pytest.mark.parametrize("as_arrays", [False, True])
def test_batches_are_those_of_the_sampler_with_their_epoch_and_index(table, as_arrays):
    rows = np.arange(1, len(table.observations), 2)
    batches = make_batches(table, as_arrays=as_arrays)
    assert len(batches) == len(rows) // 16
    for epoch in (0, 1):
        epoch_batches = list(batches)
        assert [(batch.epoch, batch.index) for batch in epoch_batches] == [(epoch, k) for k in range(len(batches))]
        for batch in epoch_batches:
            assert batch.rows.dtype == np.int64
            assert batch.rows.tolist() == rows[make_sampler(table, rows).batch(batch.index, epoch)].tolist()


def test_the_ranks_share_the_indices_of_one_global_sequence(table):
    expected = as_tuples(make_batches(table))
    ranks = [as_tuples(make_batches(table, rank, 2)) for rank in (0, 1)]
    together = sorted(ranks[0] + ranks[1], key=lambda batch: batch[2])
    assert together[: len(expected)] == expected
    assert [index for _, _, index in ranks[1]] == list(range(1, 2 * len(ranks[1]), 2))


def test_set_epoch_chooses_the_next_epoch(table):
    batches = make_batches(table)
    batches.set_epoch(3)
    assert {batch.epoch for batch in batches} == {3}
    assert {batch.epoch for batch in batches} == {4}


def test_a_resumed_sampler_continues_the_indices(table):
    before = make_batches(table)
    iterator = iter(before)
    for _ in range(2):
        next(iterator)
    state = before.sampler.state_dict()
    after = make_batches(table, 1, 2)
    after.sampler.load_state_dict(state)
    assert next(iter(after)).index == 3
    on_one_rank = make_batches(table)
    on_one_rank.sampler.load_state_dict(state)
    assert as_tuples(on_one_rank) == as_tuples(make_batches(table))[2:]


def test_a_discarded_iterator_has_no_effect(table):
    batches = make_batches(table)
    iter(batches)
    assert {batch.epoch for batch in batches} == {0}


def test_a_loaded_batch_has_the_crops_and_labels_of_its_pairs(table):
    batch = next(iter(make_batches(table)))
    loaded = finish_batch(make_dataset(table).__getitems__(batch))
    assert loaded["anchor"].shape == loaded["positive"].shape == (16, 2, 1, 8, 8)
    assert loaded["anchor"].dtype == torch.float32
    anchors = table.observations.iloc[batch.rows]
    assert loaded["row"].tolist() == batch.rows.tolist()
    assert loaded["lineage"].tolist() == anchors["lineage_id"].tolist()
    conditions = table.observations["condition"].cat.categories
    assert [conditions[code] for code in loaded["condition"].tolist()] == anchors["condition"].tolist()
    assert (int(loaded["epoch"]), int(loaded["batch"])) == (0, 0)
    assert {loaded[key].dtype for key in ("row", "positive_row", "lineage", "condition", "epoch", "batch")} == {
        torch.int64
    }
    reader = CropReader(table)
    for crops, rows in (("anchor", "row"), ("positive", "positive_row")):
        assert torch.equal(loaded[crops], torch.from_numpy(reader.read(loaded[rows].numpy())))
    positives = table.observations.iloc[loaded["positive_row"].tolist()]
    assert positives["lineage_id"].tolist() == anchors["lineage_id"].tolist()
    assert (loaded["positive_row"] != loaded["row"]).all()


def test_positives_are_a_function_of_seed_epoch_and_batch_index(table):
    rows, dataset = np.arange(40), make_dataset(table)
    chosen = dataset.choose_positives(Batch(rows, 1, 2))
    assert make_dataset(table).choose_positives(Batch(rows, 1, 2)).tolist() == chosen.tolist()
    assert dataset.choose_positives(Batch(rows[:5], 1, 2)).tolist() == chosen[:5].tolist()
    for other in (Batch(rows, 0, 2), Batch(rows, 1, 3)):
        assert dataset.choose_positives(other).tolist() != chosen.tolist()
    assert make_dataset(table, SEED + 1).choose_positives(Batch(rows, 1, 2)).tolist() != chosen.tolist()


def test_every_permitted_frame_is_chosen_eventually(table):
    dataset = make_dataset(table)
    chosen = {int(dataset.choose_positives(Batch(np.array([0]), 0, index))[0]) for index in range(100)}
    assert chosen == {1, 2, 3}


@FORKED
@pytest.mark.parametrize("workers", [0, 2])
def test_a_loader_gives_the_same_batches_as_reading_them_directly(table, workers):
    loader = DataLoader(
        make_dataset(table),
        batch_sampler=make_batches(table),
        collate_fn=no_collation,
        num_workers=workers,
        persistent_workers=workers > 0,
    )
    loaded = [batch for _ in range(2) for batch in loader]
    sampler = make_batches(table)
    batches = [batch for _ in range(2) for batch in sampler]
    assert len(loaded) == len(batches) == 2 * len(sampler)
    for actual, batch in reversed(list(zip(loaded, batches, strict=True))):
        expected, actual = finish_batch(make_dataset(table).__getitems__(batch)), finish_batch(actual)
        assert all(torch.equal(actual[key], expected[key]) for key in expected.keys() - {READS})


def test_the_error_of_a_worker_is_one_line(table):
    outside = replace(table, observations=table.observations.assign(t=99))
    dataset = PairDataset(outside, Lineages.of(table.observations, table.positive), SEED)
    try:
        dataset.__getitems__(next(iter(make_batches(table))))
    except UserError:
        wrapper = ExceptionWrapper(where="in DataLoader worker process 0")
    with pytest.raises(UserError, match=r"^cannot use pixels of experiment .* frame 99 .* --pixels all`$") as error:
        wrapper.reraise()
    assert "\n" not in str(error.value)


def test_a_batch_can_be_pickled():
    batch = pickle.loads(pickle.dumps(Batch(np.array([3, 1]), 2, 5)))
    assert as_tuples([batch]) == [([3, 1], 2, 5)]


def test_the_crop_dataset_reads_every_observation_in_order(table):
    dataset = CropDataset(table)
    loader = DataLoader(dataset, batch_size=30, collate_fn=no_collation)
    loaded = list(loader)
    assert torch.cat([batch["row"] for batch in loaded]).tolist() == list(range(len(dataset)))
    crops = torch.cat([batch["crops"].finish() for batch in loaded])
    assert torch.equal(crops, torch.from_numpy(CropReader(table).read(np.arange(len(table.observations)))))


def test_a_batch_carries_what_its_process_has_read(table):
    dataset, batches = make_dataset(table), list(make_batches(table))
    for batch in batches[:2]:
        process, *counts = dataset.__getitems__(batch)[READS].tolist()
        assert process == os.getpid()
        assert ReadCounts.of(counts) == dataset._reader.source.counts
    assert ReadCounts.of(counts).n_crops == 2 * 2 * 16
