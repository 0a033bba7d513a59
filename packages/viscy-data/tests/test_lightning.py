"""Lightning: training on the sampler's batches, in one process or two, and resuming with the batches not yet used."""

import contextlib
import os
from typing import Any

import lightning
import pytest
import torch
from torch.utils.data import DataLoader
from torchdata.stateful_dataloader import StatefulDataLoader

from viscy_data import FlexibleBatchSampler
from viscy_sampling_testkit import make_anchors

TABLE = make_anchors(1000, seed=8)
N_BATCHES, N_EPOCHS = 20, 3

pytestmark = [
    # Lightning suggests more workers than a test needs, and does not know that the data module keeps the state
    pytest.mark.filterwarnings("ignore:.*does not have many workers"),
    pytest.mark.filterwarnings("ignore:.*your dataloader is not resumable"),
    # torchdata 0.11 uses a function that newer releases of torch deprecate
    pytest.mark.filterwarnings("ignore:'set_vital' is deprecated"),
    # Lightning 2.6 uses a function that newer releases of torch deprecate
    pytest.mark.filterwarnings("ignore:.*LeafSpec.*is deprecated"),
]


def make_sampler():
    return FlexibleBatchSampler(TABLE, 50, leaky=0.1, temporal_enrichment=True)


def epoch_batches(*epochs):
    """Return all batches of the given epochs, in the order of the global sequence."""
    sampler = make_sampler()
    return [sampler.batch(k, epoch) for epoch in epochs for k in range(N_BATCHES)]


class StopTrainingError(Exception):
    """Ends a run in the middle of an epoch."""


class DataModule(lightning.LightningDataModule):
    """Saves the sampler's state in the checkpoint, counting the batches trained on rather than those prefetched."""

    def __init__(self, num_workers):
        super().__init__()
        self.sampler = make_sampler()
        self.num_workers = num_workers
        self.resumed = {"epoch": 0, "position": 0, "steps": 0}

    def train_dataloader(self):
        return DataLoader(torch.arange(len(TABLE)), batch_sampler=self.sampler, num_workers=self.num_workers)

    def state_dict(self):
        trainer: Any = self.trainer
        epoch, steps = trainer.current_epoch, trainer.fit_loop.epoch_loop.batch_progress.current.ready
        # the steps before the run was resumed may have been taken by another number of ranks
        before = self.resumed if self.resumed["epoch"] == epoch else {"position": 0, "steps": 0}
        position = before["position"] + (steps - before["steps"]) * trainer.world_size
        return {"sampler": {**self.sampler.state_dict(), "epoch": epoch, "position": position}, "steps": steps}

    def load_state_dict(self, state_dict):
        self.sampler.load_state_dict(state_dict["sampler"])
        self.resumed = {**state_dict["sampler"], "steps": state_dict["steps"]}


class Recorder(lightning.LightningModule):
    """Learns nothing and records the row numbers of every batch; may save a checkpoint after a step and stop there."""

    def __init__(self, last_step=None, checkpoint=None):
        super().__init__()
        self.layer = torch.nn.Linear(1, 1)
        self.last_step, self.checkpoint, self.batches = last_step, checkpoint, []

    def training_step(self, batch):
        self.batches.append(batch.tolist())
        return self.layer(batch[:, None].float()).mean() * 0.0

    def on_train_batch_end(self, outputs, batch, batch_idx):
        if self.trainer.global_step == self.last_step:
            self.trainer.save_checkpoint(self.checkpoint)
            raise StopTrainingError

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.0)


def train(num_workers=0, last_step=None, resume_from=None, save_to=None, **options):
    """Train from the start or from a checkpoint, to the end or to a step after which another checkpoint is saved."""
    model = Recorder(last_step, save_to)
    quiet = {
        "logger": False,
        "enable_checkpointing": False,
        "enable_progress_bar": False,
        "enable_model_summary": False,
    }
    options = {"max_epochs": N_EPOCHS, "use_distributed_sampler": False, **quiet, **options}
    trainer = lightning.Trainer(accelerator="cpu", **options)
    try:
        trainer.fit(model, datamodule=DataModule(num_workers), ckpt_path=resume_from, weights_only=False)
    except StopTrainingError:
        assert trainer.global_step == last_step
    return model.batches


# one process


def test_lightning_on_one_process_draws_epoch_after_epoch():
    assert train() == epoch_batches(*range(N_EPOCHS))


def test_lightning_sets_the_epoch_through_the_attribute_sampler():
    sampler = make_sampler()
    assert sampler.sampler is sampler
    sampler.sampler.set_epoch(3)
    assert next(iter(sampler)) == epoch_batches(3)[0]


@pytest.mark.slow
@pytest.mark.parametrize("num_workers", [0, 2])
@pytest.mark.parametrize(
    "stops",
    [(7,), (N_BATCHES,), (27,), (7, 13), (N_BATCHES, 33), (7, 27)],
    ids=["in the middle", "at the last batch", "in the second epoch", "twice", "at the last batch, then later", "late"],
)
def test_lightning_resumes_with_the_batches_not_yet_trained_on(tmp_path, num_workers, stops):
    batches, checkpoint = [], None
    for number, last_step in enumerate((*stops, None)):
        save_to = tmp_path / f"{number}.ckpt"
        batches += train(num_workers, last_step, checkpoint, save_to)
        checkpoint = save_to
    assert batches == epoch_batches(*range(N_EPOCHS))


# a loader without a data module


def train_with_loader(make_loader, checkpoint, last_step=None, resume_from=None, **options):
    """Train with the sampler in a loader, for which Lightning chooses the epochs; return the batches trained on."""
    model = Recorder(last_step, checkpoint)
    trainer = lightning.Trainer(
        max_epochs=N_EPOCHS,
        use_distributed_sampler=False,
        accelerator="cpu",
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        **options,
    )
    loader = make_loader(torch.arange(len(TABLE)), batch_sampler=make_sampler())
    with contextlib.suppress(StopTrainingError):
        trainer.fit(model, loader, ckpt_path=resume_from, weights_only=False)
    return model.batches


def test_a_plain_loader_draws_the_beginning_of_each_epoch_if_epochs_are_limited(tmp_path):
    batches = train_with_loader(DataLoader, None, limit_train_batches=5)
    assert batches == [batch for epoch in range(N_EPOCHS) for batch in epoch_batches(epoch)[:5]]


def test_a_plain_loader_resumes_in_the_epoch_in_which_it_stopped(tmp_path):
    """It has no state, so Lightning draws as many batches as are left from the beginning of that epoch."""
    checkpoint = tmp_path / "stopped.ckpt"
    assert train_with_loader(DataLoader, checkpoint, last_step=27) == epoch_batches(0, 1)[:27]
    assert train_with_loader(DataLoader, None, resume_from=checkpoint) == [*epoch_batches(1)[:13], *epoch_batches(2)]


def test_a_stateful_loader_resumes_with_the_next_batch(tmp_path):
    checkpoint = tmp_path / "stopped.ckpt"
    assert train_with_loader(StatefulDataLoader, checkpoint, last_step=27) == epoch_batches(0, 1)[:27]
    assert train_with_loader(StatefulDataLoader, None, resume_from=checkpoint) == epoch_batches(0, 1, 2)[27:]


class Predictor(Recorder):
    def predict_step(self, batch):
        return batch


@pytest.mark.parametrize("use_distributed_sampler", [False, True])
def test_predict_says_which_loader_it_needs_and_works_with_it(use_distributed_sampler):
    """Lightning rebuilds every batch sampler to predict, so that each row is visited once, whatever is set."""
    quiet = {"logger": False, "enable_progress_bar": False, "enable_checkpointing": False}
    trainer = lightning.Trainer(accelerator="cpu", use_distributed_sampler=use_distributed_sampler, **quiet)
    rows = torch.arange(len(TABLE))
    with pytest.raises(TypeError, match=r"predict rebuilds every batch sampler.*DataLoader\(dataset, batch_size=64\)"):
        trainer.predict(Predictor(), DataLoader(rows, batch_sampler=make_sampler()))
    predicted: Any = trainer.predict(Predictor(), DataLoader(rows, batch_size=64))
    assert torch.cat(predicted).tolist() == rows.tolist()


def test_fixed_batches_are_trained_on_again_in_each_epoch():
    fixed = [make_sampler().batch(k) for k in range(2)]

    def make_loader(dataset, batch_sampler):
        return DataLoader(dataset, batch_sampler=fixed)

    assert train_with_loader(make_loader, None, overfit_batches=2) == fixed * N_EPOCHS


# two processes


def train_on_a_rank(rank, num_replicas, checkpoint):
    """Train as one of Lightning's processes, which take their rank from the environment.

    Returns the error under Lightning's default setting, the batches of two epochs under the right one, and those of
    three steps after which a checkpoint is saved.
    """
    os.environ |= {"LOCAL_RANK": str(rank), "NODE_RANK": "0"}
    options = {"strategy": "ddp", "devices": num_replicas}
    with pytest.raises(Exception, match="use_distributed_sampler=False") as error:
        train(use_distributed_sampler=True, **options)
    two_epochs = train(max_epochs=2, **options)
    three_steps = train(last_step=3, save_to=checkpoint, **options)
    return type(error.value).__name__, two_epochs, three_steps


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    return tmp_path_factory.mktemp("lightning") / "three_steps.ckpt"


@pytest.fixture(scope="module")
def two_ranks(run_on_ranks, checkpoint):
    """Return what each of two processes has trained on; loading Lightning takes long, so they are started once."""
    return run_on_ranks(train_on_a_rank, 2, checkpoint)


@pytest.mark.slow
def test_lightnings_default_for_several_processes_raises_an_error_that_names_the_setting_to_change(two_ranks):
    assert [error for error, _, _ in two_ranks] == ["TypeError"] * 2


@pytest.mark.slow
def test_lightning_on_two_processes_distributes_the_batches(two_ranks):
    for rank, (_, two_epochs, _) in enumerate(two_ranks):
        assert two_epochs == [*epoch_batches(0)[rank::2], *epoch_batches(1)[rank::2]]


@pytest.mark.slow
def test_lightning_resumes_on_fewer_processes(two_ranks, checkpoint, tmp_path):
    """Three steps on two processes, four on one, and after a second stop the rest on one.

    On more processes than before Lightning would end the epoch early: it compares the steps of all attempts with the
    length of the last one.
    """
    batches = epoch_batches(*range(N_EPOCHS))
    assert [three_steps for _, _, three_steps in two_ranks] == [batches[0:6:2], batches[1:6:2]]
    assert train(last_step=7, resume_from=checkpoint, save_to=tmp_path / "later.ckpt") == batches[6:10]
    assert train(resume_from=tmp_path / "later.ckpt") == batches[10:]
