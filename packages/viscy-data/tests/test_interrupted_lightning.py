"""Runs under Lightning that are interrupted and gone on with: the batches not yet trained on, in order, none twice."""

import os
from typing import Any

import lightning
import pytest
import torch
from torch.utils.data import DataLoader

from viscy_data import FlexibleBatchSampler
from viscy_sampling_testkit import make_anchors, spawn_ranks

TABLE = make_anchors(1000, seed=8)
N_BATCHES, N_EPOCHS = 20, 3

pytestmark = [
    # Lightning suggests more workers than a test needs, and does not know that the data module keeps the state
    pytest.mark.filterwarnings("ignore:.*does not have many workers"),
    pytest.mark.filterwarnings("ignore:.*your dataloader is not resumable"),
    # Lightning 2.6 calls what newer releases of torch deprecate
    pytest.mark.filterwarnings("ignore:.*LeafSpec.*is deprecated"),
]


def sampler():
    return FlexibleBatchSampler(TABLE, 50, leaky=0.1, temporal_enrichment=True)


class KilledError(Exception):
    """Ends a run in the middle."""


class Data(lightning.LightningDataModule):
    """Keeps the sampler's state with the checkpoint: how many batches were trained on, not how many were fetched."""

    def __init__(self, num_workers):
        super().__init__()
        self.sampler = sampler()
        self.num_workers = num_workers
        self.resumed = {"epoch": 0, "position": 0, "steps": 0}

    def train_dataloader(self):
        return DataLoader(torch.arange(len(TABLE)), batch_sampler=self.sampler, num_workers=self.num_workers)

    def state_dict(self):
        trainer: Any = self.trainer
        epoch, steps = trainer.current_epoch, trainer.fit_loop.epoch_loop.batch_progress.current.ready
        # steps before the run was resumed may have been of another number of ranks
        before = self.resumed if self.resumed["epoch"] == epoch else {"position": 0, "steps": 0}
        position = before["position"] + (steps - before["steps"]) * trainer.world_size
        return {"sampler": {**self.sampler.state_dict(), "epoch": epoch, "position": position}, "steps": steps}

    def load_state_dict(self, state_dict):
        self.sampler.load_state_dict(state_dict["sampler"])
        self.resumed = {**state_dict["sampler"], "steps": state_dict["steps"]}


class Recorder(lightning.LightningModule):
    """Keeps the positions of every batch; saves a checkpoint after a step and dies."""

    def __init__(self, last_step, checkpoint):
        super().__init__()
        self.layer = torch.nn.Linear(1, 1)
        self.last_step, self.checkpoint, self.drawn = last_step, checkpoint, []

    def training_step(self, batch):
        self.drawn.append(batch.tolist())
        return self.layer(batch[:, None].float()).mean() * 0.0

    def on_train_batch_end(self, outputs, batch, batch_idx):
        if self.trainer.global_step == self.last_step:
            self.trainer.save_checkpoint(self.checkpoint)
            raise KilledError

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.0)


def train(num_workers, last_step, before, after, **options):
    """Train from a checkpoint (or none) until the end or a step, after which another checkpoint is written."""
    model = Recorder(last_step, after)
    trainer = lightning.Trainer(
        accelerator="cpu",
        max_epochs=N_EPOCHS,
        use_distributed_sampler=False,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        **options,
    )
    try:
        trainer.fit(model, datamodule=Data(num_workers), ckpt_path=before, weights_only=False)
    except KilledError:
        assert trainer.global_step == last_step
    return model.drawn


def train_as_a_rank(rank, num_replicas, last_step, before, after):
    """Train as one of Lightning's processes, which are told their rank by the environment."""
    os.environ |= {"LOCAL_RANK": str(rank), "NODE_RANK": "0"}
    return train(0, last_step, before, after, strategy="ddp", devices=num_replicas)


@pytest.mark.slow
@pytest.mark.parametrize("num_workers", [0, 2])
@pytest.mark.parametrize(
    "stops",
    [(7,), (N_BATCHES,), (27,), (7, 13), (N_BATCHES, 33), (7, 27)],
    ids=["in the middle", "at the last batch", "in the second epoch", "twice", "at the last batch, then later", "late"],
)
def test_lightning_goes_on_with_the_batches_not_yet_trained_on(tmp_path, num_workers, stops):
    drawn, checkpoint = [], None
    for number, last_step in enumerate((*stops, None)):
        after = tmp_path / f"{number}.ckpt"
        drawn += train(num_workers, last_step, checkpoint, after)
        checkpoint = after
    whole = sampler()
    assert drawn == [whole.batch(k, epoch) for epoch in range(N_EPOCHS) for k in range(N_BATCHES)]


@pytest.mark.slow
def test_lightning_goes_on_with_fewer_processes(tmp_path):
    """Three steps on two processes, four on one, stopped again, and the rest on one.

    On more processes than before Lightning would end the epoch early: it counts the steps of all lives against the
    length of the last.
    """
    files = [tmp_path / f"{number}.ckpt" for number in range(2)]
    on_two = spawn_ranks(train_as_a_rank, 2, 3, None, files[0], deadline=240)
    on_one = train(0, 7, files[0], files[1])
    rest = train(0, None, files[1], None)
    whole = sampler()
    assert on_two == [[whole.batch(k) for k in (0, 2, 4)], [whole.batch(k) for k in (1, 3, 5)]]
    assert on_one == [whole.batch(k) for k in (6, 7, 8, 9)]
    later = [whole.batch(k, epoch) for epoch in range(1, N_EPOCHS) for k in range(N_BATCHES)]
    assert rest == [whole.batch(k) for k in range(10, N_BATCHES)] + later
