"""With `split_batches`, the parts of a batch on R processes are the batch of one process, pixel for pixel."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch

from viscy_train.config.schema import AugmentationConfig, PositiveConfig, SamplerConfig
from viscy_train.errors import UserError
from viscy_train.loading.augmentation import Augment
from viscy_train.loading.batches import Batch, IndexedBatches, RepeatedBatches, TrainingBatches
from viscy_train.loading.datasets import PairDataset, finish_batch
from viscy_train.loading.progress import Progress
from viscy_train.loading.sampler import make_sampler, validation_options
from viscy_train.model.module import ContrastiveModule
from viscy_train.positives.lineages import Lineages
from viscy_train.training.lightning_cli import TrainingCLI

ROWS = np.arange(40, 360)
OPTIONS = SamplerConfig(batch_size=12, split_batches=True)


@pytest.fixture
def anchors(anchors_of):
    return anchors_of({("a", "mock"): 160, ("b", "mock"): 80, ("b", "virus"): 80})


def parts_of(anchors, n_ranks, make=IndexedBatches, **more):
    """Return the parts of all ranks, a list for each step."""
    samplers = [make_sampler(anchors, OPTIONS, 3, rank, n_ranks) for rank in range(n_ranks)]
    ranks = [make(sampler, ROWS, rank, n_ranks, **more) for rank, sampler in enumerate(samplers)]
    return list(zip(*ranks, strict=True))


@pytest.mark.parametrize("n_ranks", [2, 3, 12])
@pytest.mark.parametrize("make", [IndexedBatches, RepeatedBatches])
def test_the_parts_of_a_step_are_the_batch_of_one_process(anchors, n_ranks, make):
    steps = parts_of(anchors, n_ranks, make)
    batches = [batch for (batch,) in parts_of(anchors, 1, make)]
    assert len(steps) == len(batches) == len(ROWS) // 12
    for step, batch in zip(steps, batches, strict=True):
        assert np.concatenate([part.rows for part in step]).tolist() == batch.rows.tolist()
        assert {(part.epoch, part.index) for part in step} == {(batch.epoch, batch.index)}
        assert [part.first_slot for part in step] == list(range(0, 12, 12 // n_ranks))


@pytest.mark.parametrize("n_ranks", [1, 3])
def test_a_recorded_part_is_found_in_its_batch(anchors, n_ranks):
    for rank, part in enumerate(parts_of(anchors, n_ranks)[4]):
        found = Batch.of_rank(part.rows, part.epoch, part.index, rank=rank, batch_size=12)
        assert (found.epoch, found.index, found.first_slot) == (part.epoch, part.index, part.first_slot)


def test_training_resumes_at_the_next_batch_on_all_processes(anchors):
    steps = parts_of(anchors, 2, TrainingBatches, first_batch=lambda _: 5)
    assert [part.index for part, _ in steps] == list(range(5, len(ROWS) // 12))


def test_a_part_has_the_positives_and_the_pixels_of_its_slots(noise):
    table = noise[0]
    lineages = Lineages.of(table.observations, PositiveConfig(min_frames=1, max_frames=3))
    dataset = PairDataset(table, lineages, 3)
    anchors = table.observations
    samplers = [make_sampler(anchors, OPTIONS, 3, rank, 2) for rank in range(2)]
    parts = [next(iter(IndexedBatches(one, np.arange(len(anchors)), rank, 2))) for rank, one in enumerate(samplers)]
    whole = make_sampler(anchors, OPTIONS, 3, 0, 1)
    batch = next(iter(IndexedBatches(whole, np.arange(len(anchors)))))
    *loaded, expected = [finish_batch(dataset.__getitems__(part)) for part in (*parts, batch)]
    for name in ("anchor", "positive", "row", "positive_row", "lineage"):
        assert torch.equal(torch.cat([one[name] for one in loaded]), expected[name]), name
    assert [int(one["first_slot"]) for one in loaded] == [0, 6]


def test_a_part_is_augmented_as_within_its_batch():
    crops = torch.randn(8, 2, 1, 16, 16, generator=torch.Generator().manual_seed(0))
    augment = Augment(AugmentationConfig(blur=0.5, channel_dropout=0.3, noise=1.0))
    parts = [augment(crops[first : first + 2], 7, first) for first in (0, 2, 4, 6)]
    torch.testing.assert_close(torch.cat(parts), augment(crops, 7, 0), rtol=1e-5, atol=1e-6)
    assert not torch.equal(augment(crops, 7, 0), augment(crops, 8, 0))
    alike = augment(crops[:1].expand(8, -1, -1, -1, -1), 7, 0)
    assert len({tuple(one.flatten()[:5].tolist()) for one in alike}) == 8, "slots must have noise of their own"


def test_a_step_is_one_batch_of_the_sequence_however_many_processes_there_are():
    trainer = SimpleNamespace(world_size=4, global_rank=3, limit_train_batches=1.0, accumulate_grad_batches=1)
    progress = Progress(10, trainer, split_batches=True)
    assert progress.count_done() == 0
    trainer.is_last_batch, trainer.current_epoch = False, 0
    progress.on_train_batch_end(trainer, None, None, {"batch": 6}, 6)
    assert (progress.cursor.position, progress.count_done()) == (7, 7)


@pytest.mark.parametrize("in_data", [False, True])
def test_a_module_that_does_not_share_batches_as_the_data_do_is_a_user_error(project, in_data):
    data = TrainingCLI("fit", ["--config", str(project), f"--data.sampler.split_batches={in_data}"], "").make_data()
    trainer = SimpleNamespace(
        world_size=1, global_rank=0, lightning_module=ContrastiveModule(n_channels=2, split_batches=not in_data)
    )
    vars(data)["trainer"] = trainer
    with pytest.raises(UserError, match=f"split_batches of the module must be that of data.sampler, {in_data}, got"):
        data.setup("fit")


def test_processes_that_cannot_share_a_batch_are_a_user_error(anchors):
    with pytest.raises(UserError, match=r"^data.sampler: .* got 5 ranks for 12 slots; choose batch_size=10 or 15"):
        make_sampler(anchors, OPTIONS, 3, 0, 5)


@pytest.mark.parametrize(("n_anchors", "n_ranks", "size"), [(320, 4, 12), (11, 4, 8), (11, 1, 11), (3, 4, 0)])
def test_validation_batches_can_be_shared(anchors, n_anchors, n_ranks, size):
    assert validation_options(OPTIONS, anchors.head(n_anchors), n_ranks).batch_size == size


def test_validation_has_complete_epochs_and_no_more_anchors_of_a_condition_than_slots(anchors):
    options = SamplerConfig(batch_size=12, epoch_batches=2, anchors_per_condition=6)
    adapted = validation_options(options, anchors.head(5))
    assert (adapted.batch_size, adapted.epoch_batches, adapted.anchors_per_condition) == (5, None, 5)
    assert len(make_sampler(anchors.head(5), adapted, 0, 0, 1)) == 1
