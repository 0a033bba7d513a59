"""Resume: a run that goes on from a checkpoint as if it had not stopped, also on another number of processes."""

from __future__ import annotations

import io
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from lightning.fabric.plugins import TorchCheckpointIO
from lightning.pytorch.callbacks import Callback, Checkpoint

from viscy_train.atomic import atomic_write
from viscy_train.errors import UserError
from viscy_train.run.checkpoint import DATA

if TYPE_CHECKING:
    from lightning.pytorch import LightningModule, Trainer

    from viscy_train.config.schema import CheckpointConfig

_BATCH_PROGRESS = "epoch_loop.batch_progress"
_COUNTS = ("ready", "started", "processed", "completed")


class LastCheckpoint(Checkpoint):
    """Save the state of the run every few steps, at the end of each epoch, and before it stops.

    Parameters
    ----------
    path : pathlib.Path
        Checkpoint to write, see `AtomicCheckpointIO`.
    options : CheckpointConfig
        How often.

    Notes
    -----
    While gradients are being accumulated nothing is saved: they are no part of a checkpoint.
    """

    def __init__(self, path: Path, options: CheckpointConfig) -> None:
        self._path, self._every = path, options.every_n_steps
        self._saved_at = -1

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Save when it is time, and before a validation."""
        is_due = trainer.global_step - self._saved_at >= self._every
        if step_is_complete(trainer, batch_idx) and (is_due or _validation_follows(trainer, batch_idx)):
            self.save(trainer)

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Save once more, now that the epoch is over."""
        self.save(trainer)

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Count from the step that the run begins at."""
        self._saved_at = trainer.global_step

    def save(self, trainer: Trainer) -> None:
        """Save the state of the run; all processes must call this.

        Raises
        ------
        UserError
            If there is nothing left to save: the weights are no numbers any more.
        """
        if not all(torch.isfinite(weights).all() for weights in trainer.lightning_module.parameters()):
            raise UserError(
                f"the weights are no numbers any more after step {trainer.global_step}: {self._path} is of before; see "
                "the log for where the loss was lost, and `viscy-train replay` for its batch; a lower "
                "model.optimizer.learning_rate may help"
            )
        trainer.save_checkpoint(self._path)
        self._saved_at = trainer.global_step

    def is_saved(self, trainer: Trainer) -> bool:
        """Whether no step was made since the state was saved."""
        return self._saved_at == trainer.global_step


class AtomicCheckpointIO(TorchCheckpointIO):
    """Checkpoints that are whole files.

    Notes
    -----
    Lightning's own are written into the folder for temporary files and moved from there. Where that is on another disk,
    as on most clusters, the move is a copy onto the last checkpoint, and a kill meanwhile leaves neither.
    """

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any = None) -> None:
        """Write a checkpoint.

        Parameters
        ----------
        checkpoint : dict
            What to write.
        path : path
            On a disk of this machine.
        storage_options
            None.

        Raises
        ------
        UserError
            If it cannot be written.
        """
        content = io.BytesIO()
        torch.save(checkpoint, content)
        with atomic_write(Path(path)) as unfinished:
            unfinished.write_bytes(content.getbuffer())


class StepCounter(Callback):
    """Tell Lightning, which counts steps, how many of this number of processes the run has behind it.

    Lightning ends an epoch after as many steps as its loader has batches, and a schedule of the learning rate ends
    after as many as Lightning estimates for all epochs; both count the steps of all lives of the run. The data module
    knows how many batches were trained on. Where the number of processes has changed, a step is another number of
    batches, and only the latter is right.
    """

    def on_load_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        """Set the steps so that those which remain are those of the batches that remain."""
        running: Any = trainer
        data = running.datamodule
        place = checkpoint[DATA]
        behind = data.steps_behind(place)
        current = checkpoint["loops"]["fit_loop"][_BATCH_PROGRESS]["current"]
        shift = behind - current["processed"]
        current.update({name: current[name] + shift for name in _COUNTS})
        if trainer.max_steps < 0:  # else a schedule is over so many steps, whatever they hold
            steps_of_epoch = _updates(trainer, _limited(trainer, data.steps_of_epoch))
            steps = place["epoch"] * steps_of_epoch + _updates(trainer, behind)
            for schedule in checkpoint["lr_schedulers"]:
                schedule["last_epoch"] = steps


def _limited(trainer: Trainer, n_batches: int) -> int:
    """Return how many of a loader's batches Lightning takes in an epoch."""
    limit = trainer.limit_train_batches
    return min(n_batches, limit) if isinstance(limit, int) else int(n_batches * limit)


def _updates(trainer: Trainer, n_batches: int) -> int:
    """Return how many steps of the optimizer an epoch's first batches of a process are."""
    return -(-n_batches // trainer.accumulate_grad_batches)


def _validation_follows(trainer: Trainer, batch_idx: int) -> bool:
    every = trainer.val_check_batch
    # As Lightning counts: where validation is not by the epoch, over all of them.
    number = trainer.fit_loop.epoch_loop.total_batch_idx if trainer.check_val_every_n_epoch is None else batch_idx
    return trainer.is_last_batch or (isinstance(every, int) and (number + 1) % every == 0)


def step_is_complete(trainer: Trainer, batch_idx: int) -> bool:
    """Whether a batch ended a step of the optimizer: no gradients are waiting for more batches."""
    return (batch_idx + 1) % trainer.accumulate_grad_batches == 0 or trainer.is_last_batch
