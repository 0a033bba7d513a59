"""Training: what one process of a run does, with Lightning."""

from __future__ import annotations

import logging
import os
import warnings
from typing import TYPE_CHECKING

from lightning.pytorch import Trainer, seed_everything
from lightning.pytorch.callbacks import Callback, ModelCheckpoint
from lightning.pytorch.loggers import CSVLogger
from lightning.pytorch.plugins.environments import LightningEnvironment
from lightning.pytorch.strategies import DDPStrategy, SingleDeviceStrategy, Strategy
from rich.console import Console

from viscy_train.anchors import read_anchors
from viscy_train.callbacks import BatchRecorder, LossProgress
from viscy_train.config import load_config
from viscy_train.data_module import PairDataModule
from viscy_train.module import ContrastiveModule

if TYPE_CHECKING:
    from viscy_train.folder import RunFolder


def train(folder: RunFolder) -> None:
    """Train as this process's part of a run.

    Parameters
    ----------
    folder : RunFolder
        With configuration and anchor table; receives checkpoints, log and batches.
    """
    _quieten_lightning()
    config = load_config(folder.config)
    seed_everything(config.seed, verbose=False)
    trainer = Trainer(
        accelerator="cpu",
        devices=config.training.processes,
        strategy=_strategy(config.training.processes),
        plugins=[LightningEnvironment()],
        # The sampler deals its batches to the ranks itself.
        use_distributed_sampler=False,
        # A new loader in each epoch, whose dataset knows the epoch.
        reload_dataloaders_every_n_epochs=1,
        max_epochs=config.training.epochs,
        logger=CSVLogger(folder.path, name=folder.metrics.parent.name, version=""),
        log_every_n_steps=1,
        callbacks=_callbacks(folder),
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    trainer.fit(ContrastiveModule(config), datamodule=PairDataModule(read_anchors(folder.anchors), config))


def _strategy(processes: int) -> Strategy:
    if processes == 1:
        return SingleDeviceStrategy(device="cpu")
    return DDPStrategy(process_group_backend="gloo")


def _callbacks(folder: RunFolder) -> list[Callback]:
    checkpoints = ModelCheckpoint(
        folder.checkpoints, filename="epoch-{epoch}", auto_insert_metric_name=False, save_top_k=-1
    )
    first = [LossProgress(Console())] if os.environ["LOCAL_RANK"] == "0" else []
    return [*first, BatchRecorder(folder.batches), checkpoints]


def _quieten_lightning() -> None:
    """Leave out what Lightning tells on every run; its other warnings stay."""
    for name in ("lightning.pytorch", "lightning.fabric"):
        logging.getLogger(name).setLevel(logging.WARNING)
    # Crops are read in the training process: two processes already keep two cores busy.
    warnings.filterwarnings("ignore", message=".*does not have many workers")
    # Lightning's own use of torch, nothing that a user could change.
    warnings.filterwarnings("ignore", message=".*LeafSpec.* is deprecated")
