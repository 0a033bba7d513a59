"""Data wait: the share of a training step spent waiting for the data loader's next batch."""

from __future__ import annotations

import time
from contextlib import nullcontext
from typing import TYPE_CHECKING, Any

from lightning.pytorch import Callback
from lightning.pytorch.profilers import PassThroughProfiler, Profiler

from viscy_train.loading.progress import step_is_complete
from viscy_train.run.metrics_csv import DATA_WAIT, is_logged

if TYPE_CHECKING:
    from collections.abc import Callable

    from lightning.pytorch import LightningModule, Trainer

_FETCH = "train_dataloader_next"
# Lightning names about a hundred actions in a step; a new context for each takes a tenth of a millisecond.
_UNTIMED = nullcontext()


class DataWait(Callback):
    """Measure the share of each step spent waiting for its batch, and log it as `DATA_WAIT`.

    Parameters
    ----------
    clock : callable, optional
        Returns seconds.

    Notes
    -----
    A step lasts from the request for its batch until its end (for several batches, if gradients are accumulated): the
    wait for the loader, then the transfer to the device, augmentation on the device, forward, backward and update. The
    data wait is the first of these alone, measured where Lightning reports to its profiler that it fetches a training
    batch. Validation, checkpoints and other callbacks between two steps count neither as waiting nor as work. Rank 0
    measures. On a GPU, which works through a queue, the process may wait while the GPU is still busy: the share is then
    an upper bound of the time for which the GPU waits.
    """

    def __init__(self, clock: Callable[[], float] = time.perf_counter) -> None:
        self._clock = clock
        self._timer: FetchTimer | None = None
        self._step = -1
        self._waited = self._worked = 0.0
        self._waited_in_step = self._worked_in_step = 0.0
        self.share = 0.0
        """Share of the last step."""

    @property
    def share_of_epoch(self) -> float:
        """Share of all steps of the epoch so far."""
        return self._waited / max(self._waited + self._worked, 1e-12)

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Wrap the trainer's profiler."""
        self._timer = FetchTimer(_profiler_of(trainer), self._clock)
        _set_profiler(trainer, self._timer)

    def teardown(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Restore the trainer's profiler."""
        if self._timer is not None and _profiler_of(trainer) is self._timer:
            _set_profiler(trainer, self._timer.inner)

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Reset the sums of the epoch."""
        self._waited = self._worked = 0.0

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        """Remember the step, because Lightning increments its counter before the batch ends."""
        if trainer.global_step != self._step:
            self._waited_in_step = self._worked_in_step = 0.0
        self._step = trainer.global_step

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Add up the times, and log the share of a complete step."""
        if self._timer is None:
            return
        waited, worked = self._timer.take()
        self._waited, self._worked = self._waited + waited, self._worked + worked
        self._waited_in_step, self._worked_in_step = self._waited_in_step + waited, self._worked_in_step + worked
        self.share = self._waited_in_step / max(self._waited_in_step + self._worked_in_step, 1e-12)
        if trainer.is_global_zero and step_is_complete(trainer, batch_idx) and is_logged(trainer, self._step):
            for logger in trainer.loggers:
                logger.log_metrics({DATA_WAIT: self.share}, step=self._step)


class FetchTimer(Profiler):
    """A profiler that times the fetches of training batches and passes all calls on to another profiler.

    Parameters
    ----------
    inner : lightning.pytorch.profilers.Profiler
        The trainer's own profiler.
    clock : callable, optional
        Returns seconds.
    """

    def __init__(self, inner: Profiler, clock: Callable[[], float] = time.perf_counter) -> None:
        super().__init__()
        self.inner, self._clock = inner, clock
        self._fetch_started = self._fetch_ended = clock()
        self._waited = 0.0

    def profile(self, action_name: str) -> Any:
        """Return a context for an action; that of the inner profiler if it is none that this one times."""
        if action_name.endswith(_FETCH):
            return super().profile(action_name)
        return _UNTIMED if isinstance(self.inner, PassThroughProfiler) else self.inner.profile(action_name)

    def start(self, action_name: str) -> None:
        """Start an action."""
        self.inner.start(action_name)
        if action_name.endswith(_FETCH):
            self._fetch_started = self._clock()

    def stop(self, action_name: str) -> None:
        """End an action."""
        if action_name.endswith(_FETCH):
            self._fetch_ended = self._clock()
            self._waited += self._fetch_ended - self._fetch_started
        self.inner.stop(action_name)

    def take(self) -> tuple[float, float]:
        """Return the seconds spent fetching since the last call, and the seconds since the last fetch ended."""
        waited, self._waited = self._waited, 0.0
        return waited, self._clock() - self._fetch_ended

    def summary(self) -> str:
        """Return the summary of the inner profiler."""
        return self.inner.summary()

    def describe(self) -> None:
        """Let the inner profiler report."""
        self.inner.describe()

    def setup(self, stage: str, local_rank: int | None = None, log_dir: str | None = None) -> None:
        """Set up the inner profiler."""
        self.inner.setup(stage, local_rank, log_dir)

    def teardown(self, stage: str | None) -> None:
        """Tear down the inner profiler."""
        self.inner.teardown(stage)


def data_wait_of(trainer: Any) -> DataWait | None:
    """Return the trainer's callback that measures the data wait, or None if it has none."""
    return next((callback for callback in trainer.callbacks if isinstance(callback, DataWait)), None)


def _profiler_of(trainer: Any) -> Profiler:
    return trainer.profiler


def _set_profiler(trainer: Any, profiler: Profiler) -> None:
    trainer.profiler = profiler
