"""Stopping: a run that is asked to stop finishes its step, saves its state on all processes, and ends."""

from __future__ import annotations

import signal
import threading
from typing import TYPE_CHECKING, Any

import torch
import torch.distributed as dist
from lightning.pytorch.callbacks import Callback

from viscy_train.training.checkpointing import LastCheckpoint, step_is_complete

if TYPE_CHECKING:
    from lightning.pytorch import LightningModule, Trainer

# SLURM sends SIGTERM before it takes a machine away, and what `--signal` names before a time limit; Ctrl-C is SIGINT.
_SIGNALS = (signal.SIGTERM, signal.SIGUSR1, signal.SIGINT)


class StoppedError(Exception):
    """The run was asked to stop and has saved its state.

    Parameters
    ----------
    step : int
        Steps that are in the checkpoint.
    """

    def __init__(self, step: int) -> None:
        super().__init__(f"stopped as asked after step {step}; the same command with --ckpt_path last goes on")


class GracefulStop(Callback):
    """Stop at the end of a step after SIGTERM, SIGUSR1 or Ctrl-C; a second Ctrl-C ends the run at once.

    Parameters
    ----------
    checkpoint : LastCheckpoint
        Saves the state.

    Notes
    -----
    All processes stop after the same step, whichever of them was asked: they agree at each step, over a group of their
    own on the CPU, which does not wait for the device. Lightning's own handlers, which talk to other processes or save
    in the middle of a step, are replaced while training.
    """

    def __init__(self, checkpoint: LastCheckpoint) -> None:
        self._checkpoint = checkpoint
        self._asked = self._stopping = self._listening = False
        self._group: Any = None
        self._before: dict[int, Any] = {}

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Listen."""
        self._listening = True
        if trainer.world_size > 1:
            self._group = dist.new_group(backend="gloo")
        if threading.current_thread() is threading.main_thread():
            self._before = {number: signal.signal(number, self._ask) for number in _SIGNALS}

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Agree, and save."""
        self._stopping = step_is_complete(trainer, batch_idx) and self._agreed()
        if self._stopping:
            self._checkpoint.save(trainer)

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        """End the run before another step, once the last one is in the log."""
        self._end_if_stopping(trainer)

    def on_validation_batch_start(
        self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int, dataloader_idx: int = 0
    ) -> None:
        """End the run in the middle of a validation, where the state was saved before it."""
        if self._listening and self._checkpoint.is_saved(trainer):
            self._stopping = self._stopping or self._agreed()
            self._end_if_stopping(trainer)

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """End the run between two epochs."""
        self._end_if_stopping(trainer)

    def teardown(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Leave the signals to whoever had them."""
        for number, handler in self._before.items():
            signal.signal(number, handler)
        self._before, self._listening = {}, False

    def _ask(self, number: int, _: Any) -> None:
        self._asked = True
        if number == signal.SIGINT:
            signal.signal(signal.SIGINT, signal.default_int_handler)

    def _agreed(self) -> bool:
        """Whether any process was asked."""
        if self._group is None:
            return self._asked
        asked = torch.tensor(int(self._asked))
        dist.all_reduce(asked, dist.ReduceOp.MAX, self._group)
        return bool(asked)

    def _end_if_stopping(self, trainer: Trainer) -> None:
        if self._stopping:
            raise StoppedError(trainer.global_step)
