"""Attempts: when a run was started and resumed, at which step, and on how many processes."""

from __future__ import annotations

import time
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from lightning.pytorch import Callback

from viscy_train.run.batch_record import find_records
from viscy_train.run.loops import validation_is_pending
from viscy_train.run.step_csv import StepCsv, format_line

if TYPE_CHECKING:
    import pandas as pd
    from lightning.pytorch import LightningModule, Trainer

    from viscy_train.run.directory import RunDirectory

COLUMNS = ["step", "epoch", "processes", "started", "reached", "seconds"]


class AttemptRecorder(Callback):
    """Record each attempt of a run, and cut the loggers' files at the step where the attempt begins.

    Parameters
    ----------
    run_directory : RunDirectory
        Receives a line in ``attempts.csv``: the step and epoch at which training begins, the number of processes, the
        time of the start (ISO 8601, UTC), the number of steps in the batch record when the attempt began (empty if it
        had none), and the seconds of training, updated at the end of each epoch and of the attempt.

    Notes
    -----
    Loggers with a method `cut`, such as `viscy_train.run.metrics_csv.MetricsCsv`, are called with the step, and with
    whether the validation after the step before it is repeated. Others, such as those of TensorBoard and Weights &
    Biases, show steps that were trained again twice.
    """

    def __init__(self, run_directory: RunDirectory) -> None:
        self._run_directory = run_directory
        self._reached: int | None = None
        self._csv: StepCsv | None = None
        self._earlier: list[str] = []
        self._attempt: list[Any] = []
        self._started_at = 0.0

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Look up how far the last attempt came, before the batch record is cut."""
        steps = [record.last_step() for record in find_records(self._run_directory.batches).values()]
        self._reached = max((step + 1 for step in steps if step is not None), default=None)

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Cut the files of the loggers, and add a line."""
        if not trainer.is_global_zero:
            return
        for logger in trainer.loggers:
            cut: Any = getattr(logger, "cut", None)
            if callable(cut):
                cut(trainer.global_step, repeats_validation=validation_is_pending(trainer))
        self._csv = StepCsv(self._run_directory.rename_attempts(), COLUMNS)
        self._earlier = list(self._csv.lines())
        started = datetime.now(UTC).isoformat(timespec="seconds")
        reached = "" if self._reached is None else self._reached
        self._attempt = [trainer.global_step, trainer.current_epoch, trainer.world_size, started, reached]
        self._started_at = time.monotonic()
        self._update()

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Update the duration."""
        self._update()

    def teardown(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Update the duration, also after an error or a stop."""
        self._update()
        self._csv = None

    def _update(self) -> None:
        if self._csv is not None:
            seconds = f"{time.monotonic() - self._started_at:.1f}"
            self._csv.rewrite([*self._earlier, format_line([*self._attempt, seconds])])


def read_attempts(run_directory: RunDirectory) -> pd.DataFrame:
    """Read the attempts of a run.

    Parameters
    ----------
    run_directory : RunDirectory
        The run.

    Returns
    -------
    pandas.DataFrame
        A row for each attempt: `step`, `epoch`, `processes` (int), `started` (text), `reached` (float, missing if the
        run had no batch record yet), `seconds` (float). Empty if no attempt was recorded.

    Raises
    ------
    UserError
        If the file is damaged.
    """
    file = StepCsv(run_directory.attempts, COLUMNS)
    attempts = file.read_numbers(text=["started"])
    types = dict.fromkeys(("step", "epoch", "processes"), "int64") | dict.fromkeys(("reached", "seconds"), "float64")
    try:
        attempts = attempts.astype(types)
    except (KeyError, ValueError) as error:
        raise file.damaged(f"it must have the columns {', '.join(COLUMNS)} without missing values ({error})") from error
    if (attempts["processes"] < 1).any():
        raise file.damaged(f"column 'processes' must be at least 1, got {attempts['processes'].min()}")
    return attempts
