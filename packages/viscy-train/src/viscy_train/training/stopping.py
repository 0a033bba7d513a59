"""Graceful stop: on a signal, a run finishes its step, saves its state on all processes, and ends."""

from __future__ import annotations

import signal
import threading
from typing import TYPE_CHECKING, Any

import torch
import torch.distributed as dist
from lightning.pytorch.callbacks import Callback

from viscy_train.loading.progress import step_is_complete
from viscy_train.training.checkpointing import LastCheckpoint

if TYPE_CHECKING:
    from lightning.pytorch import LightningModule, Trainer

# SLURM sends SIGTERM before it preempts a job, and the signal of `--signal` before a time limit; Ctrl-C is SIGINT.
_SIGNALS = (signal.SIGTERM, signal.SIGUSR1, signal.SIGINT)


class StoppedError(Exception):
    """The run was stopped on request, after saving its state.

    Parameters
    ----------
    step : int
        Number of steps in the checkpoint.
    """

    def __init__(self, step: int) -> None:
        super().__init__(f"stopped on request after step {step}; rerun with --checkpoint last to resume")


class GracefulStop(Callback):
    """Stop at the end of a step after SIGTERM, SIGUSR1 or Ctrl-C; a second Ctrl-C ends the run immediately.

    Parameters
    ----------
    checkpoint : LastCheckpoint
        Saves the state.

    Notes
    -----
    All processes stop after the same step, whichever of them got the signal. They agree after each step, over a process
    group of their own on the CPU, which does not wait for the device. While training, this callback replaces
    Lightning's own signal handlers, which communicate with other processes or save in the middle of a step.
    """

    def __init__(self, checkpoint: LastCheckpoint) -> None:
        self._checkpoint = checkpoint
        self._is_requested = self._is_stopping = self._is_training = False
        self._group: Any = None
        self._handlers: dict[int, Any] = {}

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Install the signal handlers."""
        self._is_training = True
        if trainer.world_size > 1:
            self._group = dist.new_group(backend="gloo")
        if threading.current_thread() is threading.main_thread():
            self._handlers = {number: signal.signal(number, self._request_stop) for number in _SIGNALS}

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Agree whether to stop, and save."""
        self._is_stopping = step_is_complete(trainer, batch_idx) and self._is_requested_anywhere()
        if self._is_stopping:
            self._checkpoint.save(trainer)

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        """End the run before another step, after the last one was logged."""
        self._end_if_stopping(trainer)

    def on_validation_batch_start(
        self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int, dataloader_idx: int = 0
    ) -> None:
        """End the run during a validation, if the state was saved before it."""
        if self._is_training and self._checkpoint.is_saved(trainer):
            self._is_stopping = self._is_stopping or self._is_requested_anywhere()
            self._end_if_stopping(trainer)

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """End the run between two epochs."""
        self._end_if_stopping(trainer)

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Restore Lightning's signal handlers, before Lightning restores those of the process."""
        for number, handler in self._handlers.items():
            signal.signal(number, handler)
        self._handlers, self._is_training = {}, False

    def _request_stop(self, number: int, _: Any) -> None:
        self._is_requested = True
        if number == signal.SIGINT:
            signal.signal(signal.SIGINT, signal.default_int_handler)

    def _is_requested_anywhere(self) -> bool:
        """Return whether any process got a signal."""
        if self._group is None:
            return self._is_requested
        requested = torch.tensor(int(self._is_requested))
        dist.all_reduce(requested, dist.ReduceOp.MAX, self._group)
        return bool(requested)

    def _end_if_stopping(self, trainer: Trainer) -> None:
        if self._is_stopping:
            raise StoppedError(trainer.global_step)
