"""Lives: when a run began and went on, at which step and on how many processes."""

from __future__ import annotations

import time
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import pandas as pd
from lightning.pytorch import Callback

from viscy_train.run.batch_record import files_of_ranks
from viscy_train.run.step_csv import last_step, rewrite, whole_lines

if TYPE_CHECKING:
    from lightning.pytorch import LightningModule, Trainer

    from viscy_train.run.directory import RunDirectory

HEADER = "step,epoch,processes,started,reached,seconds\n"


class AttemptRecorder(Callback):
    """Note each start of a run in its folder, and let the log go on at the step at which the run goes on.

    Parameters
    ----------
    folder : RunDirectory
        Receives a line in ``lives.csv``: step and epoch at which training begins, number of processes, time of the
        start (ISO 8601, UTC), how many steps the batch record had when this life began, empty where it had none, and
        seconds that were trained since, noted at the end of each epoch and of the life.

    Notes
    -----
    Loggers that have a method `cut`, as `viscy_train.run.metrics_csv.MetricsCsv` has, are called with the step. Others, such as
    TensorBoard's and that of Weights & Biases, show what is logged for a step a second time beside what was first.
    """

    def __init__(self, folder: RunDirectory) -> None:
        self._folder = folder
        self._reached: int | None = None
        self._earlier: list[str] = []
        self._line = ""
        self._began = 0.0

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Look how far the last life came, before its lost steps are cut from the record."""
        steps = [last_step(path) for path in files_of_ranks(self._folder.batches).values()]
        self._reached = max((step + 1 for step in steps if step is not None), default=None)

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Cut the logs, and add a line."""
        if not trainer.is_global_zero:
            return
        for logger in trainer.loggers:
            forget: Any = getattr(logger, "cut", None)
            if callable(forget):
                forget(trainer.global_step)
        started = datetime.now(UTC).isoformat(timespec="seconds")
        reached = "" if self._reached is None else self._reached
        self._earlier = list(whole_lines(self._folder.lives))
        self._line = f"{trainer.global_step},{trainer.current_epoch},{trainer.world_size},{started},{reached}"
        self._began = time.monotonic()
        self._note()

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Note how long it took so far."""
        self._note()

    def teardown(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Note how long it took, also where the run was stopped."""
        self._note()
        self._line = ""

    def _note(self) -> None:
        if self._line:
            line = f"{self._line},{time.monotonic() - self._began:.1f}\n"
            rewrite(self._folder.lives, HEADER, iter([*self._earlier, line]))


def read_attempts(folder: RunDirectory) -> pd.DataFrame:
    """Read when a run began and went on.

    Parameters
    ----------
    folder : RunDirectory
        Of the run.

    Returns
    -------
    pandas.DataFrame
        A row for each start: `step`, `epoch`, `processes`, `started` (text), `reached` (float, missing where there was
        no life before), `seconds` (float). Empty where nothing was noted.
    """
    rows = [line.rstrip("\n").split(",") for line in whole_lines(folder.lives)]
    lives = pd.DataFrame(rows, columns=HEADER.strip().split(","))
    numbers = dict.fromkeys(["step", "epoch", "processes"], "int64")
    return lives.assign(
        **{name: pd.to_numeric(lives[name], errors="coerce").astype("float64") for name in ("reached", "seconds")}
    ).astype(numbers)
