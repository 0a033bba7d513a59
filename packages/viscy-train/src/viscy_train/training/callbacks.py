"""Callbacks: what a rank notes and shows while it trains."""

from __future__ import annotations

import re
import time
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from lightning.pytorch import Callback
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from viscy_train.composition.targets import encode
from viscy_train.console import on_each_of
from viscy_train.run.metrics_csv import is_logged
from viscy_train.training.checkpointing import step_is_complete
from viscy_train.training.data_wait import data_wait_of

if TYPE_CHECKING:
    import pandas as pd
    from lightning.pytorch import LightningModule, Trainer
    from numpy.typing import NDArray
    from torch import Tensor

# A bar that moves more often is not read more often, and asking a GPU for its loss makes the process wait for it.
_SECONDS_BETWEEN_LOSSES = 0.5


class CompositionLogger(Callback):
    """Log what batches hold, for every logger of the trainer.

    Parameters
    ----------
    cells : pandas.DataFrame
        The table whose row numbers a batch has as ``row``: experiment, condition, hours_post_infection, lineage_id.

    Notes
    -----
    A step is logged as often as the trainer logs, and by the first of its batches where gradients are accumulated. The
    names are ``batch/experiment/<name>`` and ``batch/condition/<name>``, shares; ``batch/own experiment``, the
    share of the experiment that the batch has most of; ``batch/hours mean`` and ``batch/hours spread``, mean and
    standard deviation; ``batch/distinct lineages``, a number. They are those of rank 0's batch, one of the batches of
    the step and drawn like all others: to ask the other ranks would make them wait for one another. The batch record
    has all of them.
    """

    def __init__(self, cells: pd.DataFrame) -> None:
        self._logged = -1
        self._experiment, experiments = encode(cells["experiment"])
        self._condition, conditions = encode(cells["condition"])
        self._experiments = _tags("batch/experiment/", experiments)
        self._conditions = _tags("batch/condition/", conditions)
        self._hours = cells["hours_post_infection"].to_numpy(dtype=float)
        self._lineage = cells["lineage_id"].to_numpy()

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        """Log a batch, if it is its turn."""
        step = trainer.global_step
        if trainer.is_global_zero and trainer.loggers and step != self._logged and is_logged(trainer, step):
            self._logged = step
            metrics = self.shares(np.asarray(batch["row"]))
            for logger in trainer.loggers:
                logger.log_metrics(metrics, step=step)

    def shares(self, rows: NDArray[np.int64]) -> dict[str, float]:
        """Return what a batch holds.

        Parameters
        ----------
        rows : numpy.ndarray
            Rows of the table, shape (n_slots,).

        Returns
        -------
        dict of str to float
            By the name under which it is logged.
        """
        experiments = np.bincount(self._experiment[rows], minlength=len(self._experiments)) / len(rows)
        conditions = np.bincount(self._condition[rows], minlength=len(self._conditions)) / len(rows)
        hours = self._hours[rows]
        return {
            **dict(zip(self._experiments, experiments.tolist(), strict=True)),
            **dict(zip(self._conditions, conditions.tolist(), strict=True)),
            "batch/own experiment": float(experiments.max()),
            "batch/hours mean": float(hours.mean()),
            "batch/hours spread": float(hours.std()),
            "batch/distinct lineages": float(len(np.unique(self._lineage[rows]))),
        }


class LossLogger(Callback):
    """Log the loss and the learning rate of steps, before the state after them is saved.

    Notes
    -----
    A step is logged as often as the trainer logs, and at the end of an epoch. The loss of a step is the mean over the
    batches whose gradients are accumulated. Lightning writes what a module logs after its callbacks have ended the
    step. A run that is killed between a checkpoint and that would go on without the line of its last step.
    """

    def __init__(self) -> None:
        self._step = -1
        self._losses: list[Tensor] = []

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        """Remember the step, which its end has counted on, and its learning rate."""
        if trainer.global_step != self._step:
            self._losses = []
        self._step = trainer.global_step
        self._rate = trainer.optimizers[0].param_groups[0]["lr"]

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Log the step, if it is whole and its turn."""
        self._losses.append(loss_of(outputs, trainer))
        is_due = is_logged(trainer, self._step) or trainer.is_last_batch
        if trainer.is_global_zero and step_is_complete(trainer, batch_idx) and is_due:
            loss = float(torch.stack(self._losses).mean())
            metrics = {"loss": loss, "learning rate": self._rate, "epoch": trainer.current_epoch}
            for logger in trainer.loggers:
                logger.log_metrics(metrics, step=self._step)


class LossProgress(Callback):
    """Show the epochs with their loss: as bars on a terminal, elsewhere a line at the end of each.

    Parameters
    ----------
    console : rich.console.Console
        Where to.

    Notes
    -----
    With a `viscy_train.training.data_wait.DataWait` among the trainer's callbacks, the share of the time that was spent waiting
    for data is shown, too; with a validation, the ``val/loss`` that it logged.
    """

    def __init__(self, console: Console) -> None:
        self._console = console

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Begin a bar: where a run goes on in the middle of an epoch, Lightning starts no epoch."""
        self.on_train_epoch_start(trainer, pl_module)

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Begin a bar."""
        self._stop_bar()
        self._sum, self._steps, self._told, self._validated = 0.0, 0, 0.0, False
        columns = TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn()
        shown = self._console.is_terminal and trainer.is_global_zero
        self._bar = Progress(*columns, console=self._console, transient=True, disable=not shown)
        total = trainer.num_training_batches
        self._task = self._bar.add_task(self._title(trainer), total=int(total) if np.isfinite(total) else None)
        self._bar.start()

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Move the bar on."""
        loss = loss_of(outputs, trainer)
        self._sum, self._steps = self._sum + loss, self._steps + 1
        if self._console.is_terminal and time.monotonic() - self._told > _SECONDS_BETWEEN_LOSSES:
            self._told = time.monotonic()
            waiting = data_wait_of(trainer)
            waits = "" if waiting is None else f"  waiting {waiting.share_of_epoch:.0%}"
            self._bar.update(self._task, description=f"{self._title(trainer)}  loss {float(loss):.2f}{waits}")
        # From the number of the batch: an epoch may go on in its middle.
        self._bar.update(self._task, completed=batch_idx + 1)

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Remember that there is a new validation loss."""
        self._validated = True

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Leave a line."""
        self._bar.stop()
        parts = [f"mean loss {float(self._sum) / max(self._steps, 1):.3f}"]
        if self._validated and "val/loss" in trainer.callback_metrics:
            parts.append(f"validation loss {float(trainer.callback_metrics['val/loss']):.3f}")
        parts.append(f"{self._steps} steps{on_each_of(trainer.world_size)}")
        if (waiting := data_wait_of(trainer)) is not None:
            parts.append(f"waiting {waiting.share_of_epoch:.0%}")
        if trainer.is_global_zero:
            text = f"{self._title(trainer)}  {', '.join(parts)}"
            self._console.print(text, highlight=False, soft_wrap=True)

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        """Take the bar away, so that what follows is legible."""
        self._stop_bar()

    def _stop_bar(self) -> None:
        if hasattr(self, "_bar"):
            self._bar.stop()

    @staticmethod
    def _title(trainer: Trainer) -> str:
        last = f" of {trainer.max_epochs}" if trainer.max_epochs and trainer.max_epochs > 0 else ""
        return f"  epoch {trainer.current_epoch + 1}{last}"


def loss_of(outputs: Any, trainer: Trainer) -> Tensor:
    """Return the loss of a batch, of all ranks, which Lightning has divided by the batches of a step."""
    return outputs["loss"].detach() * trainer.accumulate_grad_batches


def _tags(prefix: str, names: list[Any]) -> list[str]:
    """Return names under which loggers take a value: without slashes, which would be levels, and all different."""
    tags: list[str] = []
    for name in names:
        tag = prefix + re.sub(r"[^\w.\- ]", "_", str(name)).strip()
        same = sum(re.fullmatch(re.escape(tag) + r"( \(\d+\))?", other) is not None for other in tags)
        tags.append(f"{tag} ({same + 1})" if same else tag)
    return tags
