"""Training callbacks: log the composition of batches and the loss, and show progress."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import torch
from lightning.pytorch import Callback
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from viscy_train.console import ProgressLog, is_quiet, on_each_of
from viscy_train.loading.progress import step_is_complete
from viscy_train.row_slices import as_category, distinct_values
from viscy_train.run.metrics_csv import EFFECTIVE_RANK, LEARNING_RATE, LOSS, TEMPERATURE, is_logged, share_names
from viscy_train.training.data_wait import data_wait_of
from viscy_train.training.read_volume import read_volume_of
from viscy_train.wording import count

if TYPE_CHECKING:
    from collections.abc import Callable

    import pandas as pd
    from lightning.pytorch import LightningModule, Trainer
    from numpy.typing import NDArray
    from rich.console import Console
    from torch import Tensor

# Reading the loss makes the process wait for the GPU, and nobody can read a bar that changes more often.
_SECONDS_BETWEEN_LOSSES = 0.5
# Nobody looks at more curves, and writing them takes longer than a step.
_MAX_LABELS = 100


class _Shares(NamedTuple):
    """The labels of an axis, and the names of their shares; without names if they are too many to log each."""

    axis: str
    codes: NDArray[np.signedinteger]
    """The code of each row, as the column has it, so that it needs no copy."""
    numbers: NDArray[np.int64]
    """For each code, which label it is, in the order in which labels first appear."""
    names: list[str]

    @classmethod
    def of(cls, observations: pd.DataFrame, axis: str) -> _Shares:
        column: Any = as_category(observations[axis])
        labels, categories = distinct_values(column), column.cat.categories
        numbers = np.full(len(categories), -1)
        numbers[categories.get_indexer(labels)] = np.arange(len(labels))
        names = share_names(f"batch/{axis}/", labels) if len(labels) <= _MAX_LABELS else []
        return cls(axis, column.array.codes, numbers, names)

    def of_each(self, rows: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return how many rows have each label."""
        return np.bincount(self.numbers[self.codes[rows]], minlength=len(self.names))

    def metrics(self, rows: NDArray[np.int64]) -> dict[str, float]:
        """Return the metrics of a batch."""
        counts = self.of_each(rows)
        if not self.names:
            return {f"batch/distinct_{self.axis}s": float(np.count_nonzero(counts))}
        shares = counts / len(rows)
        return dict(zip(self.names, shares.tolist(), strict=True))


class CompositionLogger(Callback):
    """Log the composition of batches to all loggers of the trainer.

    Parameters
    ----------
    observations : pandas.DataFrame
        The table in which a batch's ``row`` counts rows: experiment, condition, hours_post_infection, lineage_id.
    complete_batch : callable, optional
        Returns the rows of the batch of which a batch of this process is a part, if processes share batches.

    Notes
    -----
    The metrics are ``batch/experiment/<name>`` and ``batch/condition/<name>``, the shares of the slots; or, if there
    are more than 100, ``batch/distinct_experiments`` and ``batch/distinct_conditions``, the numbers of them in a batch;
    ``batch/own_experiment``, the share of the experiment with most slots; ``batch/hours_mean`` and
    ``batch/hours_std``, in hours; and ``batch/distinct_lineages``, a count. They describe the batch of rank 0, which is
    drawn like those of the other ranks, or shared with them; collecting those of other ranks would make the ranks wait
    for one another. The batch record contains all batches. Steps are logged as often as the trainer logs; a step that
    accumulates gradients is described by the first of its batches.
    """

    def __init__(
        self, observations: pd.DataFrame, complete_batch: Callable[[Any], NDArray[np.int64]] | None = None
    ) -> None:
        self._logged = -1
        self._rows_of = complete_batch or (lambda batch: np.asarray(batch["row"]))
        self._shares = [_Shares.of(observations, axis) for axis in ("experiment", "condition")]
        self._hours = observations["hours_post_infection"].to_numpy(dtype=float)
        self._lineage = observations["lineage_id"].to_numpy()

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        """Log the first batch of a step that is logged."""
        step = trainer.global_step
        if trainer.is_global_zero and trainer.loggers and step != self._logged and is_logged(trainer, step):
            self._logged = step
            metrics = self.composition(self._rows_of(batch))
            for logger in trainer.loggers:
                logger.log_metrics(metrics, step=step)

    def composition(self, rows: NDArray[np.int64]) -> dict[str, float]:
        """Return the metrics of a batch.

        Parameters
        ----------
        rows : numpy.ndarray
            Rows of the table, shape (n_slots,).

        Returns
        -------
        dict of str to float
            Metrics by name.
        """
        hours = self._hours[rows]
        return {
            **{name: value for shares in self._shares for name, value in shares.metrics(rows).items()},
            "batch/own_experiment": float(self._shares[0].of_each(rows).max() / len(rows)),
            "batch/hours_mean": float(hours.mean()),
            "batch/hours_std": float(hours.std()),
            "batch/distinct_lineages": float(len(np.unique(self._lineage[rows]))),
        }


class LossLogger(Callback):
    """Log the loss, the learning rate and a learned temperature of steps, before the state after them is saved.

    Notes
    -----
    Steps are logged as often as the trainer logs, and at the end of an epoch. The loss of a step is the mean over the
    batches whose gradients it accumulates. Lightning writes what a module logs only after the callbacks have ended the
    step, so a run killed between the checkpoint and that moment would resume without the row of its last step.
    """

    def __init__(self) -> None:
        self._step = -1
        self._rate = float("nan")
        self._temperature: Tensor | None = None
        self._losses: list[Tensor] = []

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        """Remember the step, because Lightning increments its counter before the batch ends, and its settings."""
        if trainer.global_step != self._step:
            self._losses = []
        self._step = trainer.global_step
        self._rate = trainer.optimizers[0].param_groups[0]["lr"]
        temperature = getattr(getattr(pl_module, "loss", None), "temperature", None)
        self._temperature = temperature.detach() if isinstance(temperature, torch.Tensor) else None

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Log the step if it is complete and due."""
        self._losses.append(loss_of(outputs, trainer))
        is_due = is_logged(trainer, self._step) or trainer.is_last_batch
        if trainer.is_global_zero and step_is_complete(trainer, batch_idx) and is_due:
            loss = float(torch.stack(self._losses).mean())
            metrics = {LOSS: loss, LEARNING_RATE: self._rate, "epoch": trainer.current_epoch}
            if self._temperature is not None:
                metrics[TEMPERATURE] = float(self._temperature)
            for logger in trainer.loggers:
                logger.log_metrics(metrics, step=self._step)


class LossProgress(Callback):
    """Show a progress bar for each epoch on a terminal, and print a line at the end of each epoch.

    Parameters
    ----------
    console : rich.console.Console
        Console to print to.

    Notes
    -----
    The line contains the mean loss, the ``val/loss`` and the effective rank of a validation, and the data wait and what
    was read, if the trainer has a `viscy_train.training.data_wait.DataWait` and a
    `viscy_train.training.read_volume.ReadVolume`.
    """

    def __init__(self, console: Console) -> None:
        self._console = console
        self._bar: Progress | None = None
        self._task = TaskID(0)
        self._log: ProgressLog | None = None
        self._sum: Any = 0.0
        self._steps = 0
        self._updated_at = 0.0
        self._is_validated = False

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Show a bar, because Lightning does not start an epoch that is resumed in the middle."""
        self._begin(trainer, trainer.fit_loop.epoch_loop.batch_progress.current.ready)

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Show a bar."""
        # Lightning resets the number of batches of the last epoch only after this.
        self._begin(trainer, 0)

    def _begin(self, trainer: Trainer, done: int) -> None:
        self._stop_bar()
        self._sum, self._steps, self._updated_at, self._is_validated = 0.0, 0, 0.0, False
        columns = TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn()
        is_shown = self._console.is_interactive and trainer.is_global_zero and not is_quiet()
        self._bar = Progress(*columns, console=self._console, transient=True, disable=not is_shown)
        total = trainer.num_training_batches
        self._task = self._bar.add_task(self._title(trainer), total=int(total) if np.isfinite(total) else None)
        self._bar.start()
        self._log = _log_of(trainer, self._title(trainer), total, self._console, done=done)

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Advance the bar."""
        loss = loss_of(outputs, trainer)
        self._sum, self._steps = self._sum + loss, self._steps + 1
        if self._bar is None:
            return
        if self._console.is_terminal and time.monotonic() - self._updated_at > _SECONDS_BETWEEN_LOSSES:
            self._updated_at = time.monotonic()
            text = ", ".join([f"loss {float(loss):.2f}", *_data_wait(trainer)])
            self._bar.update(self._task, description=f"{self._title(trainer)}  {text}")
        # An epoch may be resumed in the middle, so the number of the batch counts, not that of the updates.
        self._bar.update(self._task, completed=batch_idx + 1)
        if self._log is not None:
            self._log.update(batch_idx + 1, lambda: f"loss {float(loss):.2f}")

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Remember that the epoch has a validation loss."""
        self._is_validated = True

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Print a line."""
        self._stop_bar()
        # A run may resume with the validation at the end of an epoch.
        parts = [f"mean loss {float(self._sum) / self._steps:.3f}"] if self._steps else []
        if self._is_validated and "val/loss" in trainer.callback_metrics:
            parts.append(f"validation loss {float(trainer.callback_metrics['val/loss']):.3f}")
        if self._is_validated and EFFECTIVE_RANK in trainer.callback_metrics:
            parts.append(f"effective rank {float(trainer.callback_metrics[EFFECTIVE_RANK]):.1f}")
        parts += [
            f"{count(self._steps, 'step')}{on_each_of(trainer.world_size)}",
            *_data_wait(trainer),
            *_read(trainer),
        ]
        if trainer.is_global_zero and not is_quiet():
            self._console.print(f"{self._title(trainer)}  {', '.join(parts)}")

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        """Remove the bar, so that the following text is legible."""
        self._stop_bar()

    def _stop_bar(self) -> None:
        if self._bar is not None:
            self._bar.stop()

    @staticmethod
    def _title(trainer: Trainer) -> str:
        last = f" of {trainer.max_epochs}" if trainer.max_epochs and trainer.max_epochs > 0 else ""
        return f"  epoch {trainer.current_epoch + 1}{last}"


class EvaluationProgress(Callback):
    """Show how far prediction or validation is: as a bar on a terminal, and elsewhere as lines of a log.

    Parameters
    ----------
    console : rich.console.Console
        Console to print to.
    """

    def __init__(self, console: Console) -> None:
        self._console = console
        self._bar: Progress | None = None
        self._log: ProgressLog | None = None
        self._task, self._done = TaskID(0), 0

    def on_predict_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Begin with the batches of prediction."""
        self._begin(trainer, "embedding", trainer.num_predict_batches)

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Begin with the batches of validation."""
        self._begin(trainer, "validating", trainer.num_val_batches)

    def on_predict_batch_end(self, trainer: Trainer, *_: Any, **__: Any) -> None:
        """Advance by one batch."""
        self._advance()

    def on_validation_batch_end(self, trainer: Trainer, *_: Any, **__: Any) -> None:
        """Advance by one batch."""
        self._advance()

    def on_predict_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Remove the bar."""
        self._end()

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Remove the bar."""
        self._end()

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        """Remove the bar, so that the following text is legible."""
        self._end()

    def _begin(self, trainer: Trainer, what: str, numbers: Any) -> None:
        finite = all(np.isfinite(number) for number in numbers)
        total = int(sum(numbers)) if finite else None
        self._done, self._log = 0, _log_of(trainer, f"  {what}", total, self._console)
        if self._log is None and trainer.is_global_zero and not is_quiet():
            columns = TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn()
            self._bar = Progress(*columns, console=self._console, transient=True)
            self._task = self._bar.add_task(f"  {what}", total=total)
            self._bar.start()

    def _advance(self) -> None:
        self._done += 1
        if self._log is not None:
            self._log.update(self._done)
        if self._bar is not None:
            self._bar.update(self._task, completed=self._done)

    def _end(self) -> None:
        if self._bar is not None:
            self._bar.stop()


def _log_of(
    trainer: Trainer, title: str, total: float | None, console: Console, *, done: int = 0
) -> ProgressLog | None:
    """Return the log of a loop over batches, or None on a terminal, which shows a bar, and on other ranks."""
    if console.is_interactive or not trainer.is_global_zero:
        return None
    return ProgressLog(title, int(total) if total and np.isfinite(total) else None, done=done, console=console)


def loss_of(outputs: Any, trainer: Trainer) -> Tensor:
    """Return the loss of a batch over all ranks; Lightning has divided it by the number of batches of a step."""
    return outputs["loss"].detach() * trainer.accumulate_grad_batches


def _data_wait(trainer: Trainer) -> list[str]:
    data_wait = data_wait_of(trainer)
    return [] if data_wait is None else [f"data wait {data_wait.share_of_epoch:.0%}"]


def _read(trainer: Trainer) -> list[str]:
    read = read_volume_of(trainer)
    return [] if read is None or read.sentence is None else [read.sentence]
