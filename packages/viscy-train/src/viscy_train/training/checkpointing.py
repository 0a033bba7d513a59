"""Checkpointing: saving the state of a run, and resuming from it on any number of processes."""

from __future__ import annotations

import io
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from lightning.fabric.plugins import TorchCheckpointIO
from lightning.pytorch.callbacks import Checkpoint

from viscy_train.atomic import atomic_write
from viscy_train.errors import UserError
from viscy_train.loading.progress import step_is_complete

if TYPE_CHECKING:
    from lightning.pytorch import LightningModule, Trainer

    from viscy_train.config.schema import CheckpointConfig


class LastCheckpoint(Checkpoint):
    """Save the state of the run every few steps, before each validation, and at the end of each epoch.

    Parameters
    ----------
    path : pathlib.Path
        Checkpoint to write, see `AtomicCheckpointIO`.
    options : CheckpointConfig
        How often to save.

    Notes
    -----
    Nothing is saved in the middle of a step that accumulates gradients, because a checkpoint does not contain them.
    """

    def __init__(self, path: Path, options: CheckpointConfig) -> None:
        self._path, self._every = path, options.every_n_steps
        self._saved_at = -1

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Save if enough steps have passed, or if a validation follows."""
        is_due = trainer.global_step - self._saved_at >= self._every
        if step_is_complete(trainer, batch_idx) and (is_due or _validation_follows(trainer, batch_idx)):
            self.save(trainer)

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Save again after the end of the epoch."""
        self.save(trainer)

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Count from the first step of this attempt."""
        self._saved_at = trainer.global_step

    def save(self, trainer: Trainer) -> None:
        """Save the state of the run; all processes must call this.

        Raises
        ------
        UserError
            If weights are not finite, so that the state is not worth saving.
        """
        if not all(torch.isfinite(weights).all() for weights in trainer.lightning_module.parameters()):
            raise UserError(
                f"the weights are not finite after step {trainer.global_step}; {self._path} keeps an earlier state. "
                "The log shows the first step without a finite loss, and `viscy-train replay` shows its batch; "
                "a lower model.optimizer.learning_rate may help"
            )
        trainer.save_checkpoint(self._path)
        self._saved_at = trainer.global_step

    def is_saved(self, trainer: Trainer) -> bool:
        """Return whether the state was saved after the last step."""
        return self._saved_at == trainer.global_step


class AtomicCheckpointIO(TorchCheckpointIO):
    """Write checkpoints atomically.

    Notes
    -----
    Lightning writes a checkpoint to the directory for temporary files and moves it from there. If that directory is on
    another disk, as on most clusters, the move is a copy onto the last checkpoint, and a kill in between destroys both.
    """

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any = None) -> None:
        """Write a checkpoint.

        Parameters
        ----------
        checkpoint : dict
            The content.
        path : path
            The file, in a file system of this machine.
        storage_options
            Ignored.

        Raises
        ------
        UserError
            If the file cannot be written.
        """
        content = io.BytesIO()
        torch.save(checkpoint, content)
        # No view of the buffer: the traceback of a full disk would keep it, and Python 3.12 crashes if it deletes a
        # cycle of objects with such a view when it ends (https://github.com/python/cpython/issues/111049).
        with atomic_write(Path(path)) as unfinished:
            unfinished.write_bytes(content.getvalue())


def _validation_follows(trainer: Trainer, batch_idx: int) -> bool:
    every = trainer.val_check_batch
    # Like Lightning, count across epochs if validation does not depend on epochs.
    number = trainer.fit_loop.epoch_loop.total_batch_idx if trainer.check_val_every_n_epoch is None else batch_idx
    return trainer.is_last_batch or (isinstance(every, int) and (number + 1) % every == 0)
