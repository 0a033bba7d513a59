"""Waiting: the share of a training step that is spent waiting for the loader's next batch."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from lightning.pytorch import Callback
from lightning.pytorch.profilers import Profiler

from viscy_train.run.metrics_csv import METRIC, is_logged
from viscy_train.training.checkpointing import step_is_complete

if TYPE_CHECKING:
    from collections.abc import Callable

    from lightning.pytorch import LightningModule, Trainer

_FETCH = "train_dataloader_next"


class DataWait(Callback):
    """Measure how long each step waits for its batch, and log the share.

    Notes
    -----
    A step is counted from the moment its batch is asked for until its end, of several batches where gradients are
    accumulated: the wait for the loader, then the transfer
    to the device, augmentation there, forward, backward and update. Waiting is the first of these alone, taken at the
    point where Lightning tells its profiler that it fetches a training batch. Validation, checkpoints and other
    callbacks between two steps count neither as waiting nor as work. It is measured by rank 0. On a GPU that works
    through a queue the process may wait while the GPU still has work: the share is then the most that the GPU waits.
    """

    def __init__(self) -> None:
        self._timer: FetchTimer | None = None
        self._step = -1
        self._waited = self._worked = 0.0
        self._waited_in_step = self._worked_in_step = 0.0
        self.share = 0.0
        """Of the last step."""

    @property
    def share_of_epoch(self) -> float:
        """Of all steps of the epoch so far."""
        return self._waited / max(self._waited + self._worked, 1e-12)

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Begin to listen to what the trainer tells its profiler."""
        self._timer = FetchTimer(_profiler_of(trainer))
        _set_profiler(trainer, self._timer)

    def teardown(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Give the trainer its profiler back."""
        if self._timer is not None and _profiler_of(trainer) is self._timer:
            _set_profiler(trainer, self._timer.inner)

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Count anew."""
        self._waited = self._worked = 0.0

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        """Remember the step, which its end has counted on."""
        if trainer.global_step != self._step:
            self._waited_in_step = self._worked_in_step = 0.0
        self._step = trainer.global_step

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Divide the step's time."""
        if self._timer is None:
            return
        waited, worked = self._timer.take()
        self._waited, self._worked = self._waited + waited, self._worked + worked
        self._waited_in_step, self._worked_in_step = self._waited_in_step + waited, self._worked_in_step + worked
        self.share = self._waited_in_step / max(self._waited_in_step + self._worked_in_step, 1e-12)
        if trainer.is_global_zero and step_is_complete(trainer, batch_idx) and is_logged(trainer, self._step):
            for logger in trainer.loggers:
                logger.log_metrics({METRIC: self.share}, step=self._step)


class FetchTimer(Profiler):
    """A profiler that times fetches of training batches and leaves the rest to another.

    Parameters
    ----------
    inner : lightning.pytorch.profilers.Profiler
        The trainer's own.
    clock : callable, optional
        Returns seconds.
    """

    def __init__(self, inner: Profiler, clock: Callable[[], float] = time.perf_counter) -> None:
        super().__init__()
        self.inner, self._clock = inner, clock
        self._began = self._ended = clock()
        self._waited = 0.0

    def start(self, action_name: str) -> None:
        """Begin an action."""
        self.inner.start(action_name)
        if action_name.endswith(_FETCH):
            self._began = self._clock()

    def stop(self, action_name: str) -> None:
        """End an action."""
        if action_name.endswith(_FETCH):
            self._ended = self._clock()
            self._waited += self._ended - self._began
        self.inner.stop(action_name)

    def take(self) -> tuple[float, float]:
        """Return seconds spent fetching since the last call, and seconds gone since the last fetch ended."""
        waited, self._waited = self._waited, 0.0
        return waited, self._clock() - self._ended

    def summary(self) -> str:
        """Return the other's."""
        return self.inner.summary()

    def describe(self) -> None:
        """Let the other tell."""
        self.inner.describe()

    def setup(self, stage: str, local_rank: int | None = None, log_dir: str | None = None) -> None:
        """Set the other up."""
        self.inner.setup(stage, local_rank, log_dir)

    def teardown(self, stage: str | None) -> None:
        """Tear the other down."""
        self.inner.teardown(stage)


def data_wait_of(trainer: Any) -> DataWait | None:
    """Return the callback that measures a trainer's waiting, or None where there is none."""
    return next((callback for callback in trainer.callbacks if isinstance(callback, DataWait)), None)


def _profiler_of(trainer: Any) -> Profiler:
    return trainer.profiler


def _set_profiler(trainer: Any, profiler: Profiler) -> None:
    trainer.profiler = profiler
