import pickle
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch._utils import ExceptionWrapper
from torch.utils.data import DataLoader

from viscy_data import FlexibleBatchSampler
from viscy_train.anchors.lineages import Lineages
from viscy_train.errors import UserError
from viscy_train.loading.batches import Batch, NumberedBatches
from viscy_train.loading.crops import CropReader
from viscy_train.loading.datasets import CropDataset, PairDataset, as_loaded

SEED = 11
# Python warns of threads where a loader forks workers; that a fork is safe is tested in test_start_methods.
FORKED = pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")


def make_sampler(table, rows, **changes):
    columns = ["experiment", "condition", "hours_post_infection"]
    options = {"batch_size": 16, "leaky": 0.125, "seed": SEED} | changes
    return FlexibleBatchSampler(table.observations.iloc[rows][columns], **options)


def make_batches(table, rank=0, num_replicas=1, **changes):
    rows = np.arange(1, len(table.observations), 2)
    sampler = make_sampler(table, rows, rank=rank, num_replicas=num_replicas, **changes)
    return NumberedBatches(sampler, rows, rank, num_replicas)


def make_dataset(table, seed=SEED):
    return PairDataset(table, Lineages.of(table.observations, table.positive), seed)


def contents(batches):
    return [(batch.rows.tolist(), batch.epoch, batch.number) for batch in batches]


@pytest.fixture
def table(noise):
    return noise[0]


@pytest.mark.parametrize("as_arrays", [False, True])
def test_batches_are_the_samplers_with_their_epoch_and_number(table, as_arrays):
    rows = np.arange(1, len(table.observations), 2)
    batches = make_batches(table, as_arrays=as_arrays)
    assert len(batches) == len(rows) // 16
    for epoch in (0, 1):
        drawn = list(batches)
        assert [(batch.epoch, batch.number) for batch in drawn] == [(epoch, k) for k in range(len(batches))]
        for batch in drawn:
            assert batch.rows.dtype == np.int64
            assert batch.rows.tolist() == rows[make_sampler(table, rows).batch(batch.number, epoch)].tolist()


def test_ranks_share_the_numbers_of_one_sequence(table):
    whole = contents(make_batches(table))
    ranks = [contents(make_batches(table, rank, 2)) for rank in (0, 1)]
    dealt = sorted(ranks[0] + ranks[1], key=lambda batch: batch[2])
    assert dealt[: len(whole)] == whole
    assert [number for _, _, number in ranks[1]] == list(range(1, 2 * len(ranks[1]), 2))


def test_an_epoch_can_be_chosen(table):
    batches = make_batches(table)
    batches.set_epoch(3)
    assert {batch.epoch for batch in batches} == {3}
    assert {batch.epoch for batch in batches} == {4}


def test_a_resumed_sampler_goes_on_with_the_numbers(table):
    before = make_batches(table)
    iterator = iter(before)
    for _ in range(2):
        next(iterator)
    state = before.sampler.state_dict()
    after = make_batches(table, 1, 2)
    after.sampler.load_state_dict(state)
    assert next(iter(after)).number == 3
    same = make_batches(table)
    same.sampler.load_state_dict(state)
    assert contents(same) == contents(make_batches(table))[2:]


def test_a_discarded_iterator_counts_for_nothing(table):
    batches = make_batches(table)
    iter(batches)
    assert {batch.epoch for batch in batches} == {0}


def test_a_loaded_batch_has_what_training_needs(table):
    batch = next(iter(make_batches(table)))
    loaded = make_dataset(table).__getitems__(batch)
    assert loaded["anchor"].shape == loaded["positive"].shape == (16, 2, 1, 8, 8)
    assert loaded["anchor"].dtype == torch.float32
    cells = table.observations.iloc[batch.rows]
    assert loaded["row"].tolist() == batch.rows.tolist()
    assert loaded["lineage"].tolist() == cells["lineage_id"].tolist()
    conditions = table.observations["condition"].cat.categories
    assert [conditions[code] for code in loaded["condition"].tolist()] == cells["condition"].tolist()
    assert (int(loaded["epoch"]), int(loaded["batch"])) == (0, 0)
    assert {loaded[key].dtype for key in ("row", "positive_row", "lineage", "condition", "epoch", "batch")} == {
        torch.int64
    }
    reader = CropReader(table)
    for crops, rows in (("anchor", "row"), ("positive", "positive_row")):
        assert torch.equal(loaded[crops], torch.from_numpy(reader.read(loaded[rows].numpy())))
    positives = table.observations.iloc[loaded["positive_row"].tolist()]
    assert positives["lineage_id"].tolist() == cells["lineage_id"].tolist()
    assert (loaded["positive_row"] != loaded["row"]).all()


def test_positives_are_a_function_of_seed_epoch_and_number(table):
    rows, dataset = np.arange(40), make_dataset(table)
    chosen = dataset.positives_of(Batch(rows, 1, 2))
    assert make_dataset(table).positives_of(Batch(rows, 1, 2)).tolist() == chosen.tolist()
    assert dataset.positives_of(Batch(rows[:5], 1, 2)).tolist() == chosen[:5].tolist()
    for other in (Batch(rows, 0, 2), Batch(rows, 1, 3)):
        assert dataset.positives_of(other).tolist() != chosen.tolist()
    assert make_dataset(table, SEED + 1).positives_of(Batch(rows, 1, 2)).tolist() != chosen.tolist()


def test_every_permitted_time_comes_up(table):
    dataset = make_dataset(table)
    chosen = {int(dataset.positives_of(Batch(np.array([0]), 0, number))[0]) for number in range(100)}
    assert chosen == {1, 2, 3}


@FORKED
@pytest.mark.parametrize("workers", [0, 2])
def test_a_loader_gives_each_batch_as_it_is_alone(table, workers):
    loader = DataLoader(
        make_dataset(table),
        batch_sampler=make_batches(table),
        collate_fn=as_loaded,
        num_workers=workers,
        persistent_workers=workers > 0,
    )
    loaded = [batch for _ in range(2) for batch in loader]
    alone = make_batches(table)
    asked = [batch for _ in range(2) for batch in alone]
    assert len(loaded) == len(asked) == 2 * len(alone)
    for got, batch in reversed(list(zip(loaded, asked, strict=True))):
        wanted = make_dataset(table).__getitems__(batch)
        assert all(torch.equal(got[key], wanted[key]) for key in wanted)


def test_what_a_worker_complains_of_is_one_line(table):
    beyond_the_end = replace(table, observations=table.observations.assign(t=99))
    dataset = PairDataset(beyond_the_end, Lineages.of(table.observations, table.positive), SEED)
    try:
        dataset.__getitems__(next(iter(make_batches(table))))
    except UserError:
        passed_on = ExceptionWrapper(where="in DataLoader worker process 0")
    with pytest.raises(UserError, match=r"^cannot use pixels of experiment .* frame 99 .* --pixels all`$") as told:
        passed_on.reraise()
    assert "\n" not in str(told.value)


def test_a_batch_can_be_sent_to_a_worker():
    batch = pickle.loads(pickle.dumps(Batch(np.array([3, 1]), 2, 5)))
    assert contents([batch]) == [([3, 1], 2, 5)]


def test_cells_are_read_one_by_one_for_embedding(table):
    dataset = CropDataset(table)
    loader = DataLoader(dataset, batch_size=30, collate_fn=as_loaded)
    loaded = list(loader)
    assert torch.cat([batch["row"] for batch in loaded]).tolist() == list(range(len(dataset)))
    crops = torch.cat([batch["crops"] for batch in loaded])
    assert torch.equal(crops, torch.from_numpy(CropReader(table).read(np.arange(len(table.observations)))))
