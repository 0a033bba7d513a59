"""Run log: what Lightning's loggers are told, as one CSV file that a run which goes on goes on with."""

from __future__ import annotations

import csv
import io
from typing import TYPE_CHECKING, Any

import pandas as pd
from lightning.pytorch.loggers import Logger
from lightning.pytorch.utilities import rank_zero_only

from viscy_train.run.step_csv import cut, header_of, rewrite, whole_lines

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path


# Larger than any step: cuts a last line that is not whole, and nothing else.
_NO_STEP = 2**63


class MetricsCsv(Logger):
    """Write metrics to a CSV file: a line for each call, the step first, a column for each name that ever came.

    Parameters
    ----------
    path : pathlib.Path
        The file, such as ``log/metrics.csv``; one that is there is gone on with.

    Notes
    -----
    Lightning's own CSV logger deletes the file of an earlier start when it writes the first line of a new one. Here a
    line is on disk when the call returns, and `viscy_train.run.attempts.AttemptRecorder` calls `cut` where a run goes on.
    """

    def __init__(self, path: Path) -> None:
        super().__init__()
        self._path = path
        self._columns: list[str] | None = None

    @property
    def name(self) -> str:
        """The name of the file."""
        return self._path.name

    @property
    def version(self) -> str:
        """None that would tell files apart: there is one."""
        return ""

    @property
    def save_dir(self) -> str:
        """The file's folder."""
        return str(self._path.parent)

    @property
    def log_dir(self) -> str:
        """The file's folder."""
        return str(self._path.parent)

    @rank_zero_only
    def log_metrics(self, metrics: Mapping[str, Any], step: int | None = None) -> None:
        """Append a line.

        Parameters
        ----------
        metrics : mapping of str to float or torch.Tensor
            Numbers by name.
        step : int, optional
            0 by default.
        """
        columns = self._columns_with(list(metrics))
        values = {"step": str(step or 0)} | {name: f"{float(value):.9g}" for name, value in metrics.items()}
        with self._path.open("a", newline="", encoding="utf-8") as file:
            file.write(",".join(values.get(name, "") for name in columns) + "\n")

    def log_hyperparams(self, params: Any, *args: Any, **kwargs: Any) -> None:
        """Do nothing: the run folder holds the whole configuration."""

    @rank_zero_only
    def cut(self, step: int) -> None:
        """Forget what was logged from a step on.

        Parameters
        ----------
        step : int
            The step with which the run goes on.
        """
        cut(self._path, step)
        self._columns = None

    def _columns_with(self, names: list[str]) -> list[str]:
        """Return the columns of the file, after those that it lacks were added to it."""
        if self._columns is None:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            cut(self._path, _NO_STEP)
            header = header_of(self._path)
            self._columns = next(csv.reader([header])) if header else []
        known = self._columns or ["step"]
        new = [name for name in names if name not in known]
        if new or not self._columns:
            lines = (line.rstrip("\r\n") + "," * len(new) + "\n" for line in whole_lines(self._path))
            self._columns = [*known, *new]
            rewrite(self._path, _csv_line(self._columns), lines)
        return self._columns


def is_logged(trainer: Any, step: int) -> bool:
    """Return whether a step is one of every nth, counted as Lightning counts for its own logging."""
    every = trainer.log_every_n_steps
    return every > 0 and (step + 1) % every == 0


def read_log(path: Path) -> pd.DataFrame:
    """Read what a run logged.

    Parameters
    ----------
    path : pathlib.Path
        As of `MetricsCsv`; may be missing, as after ``trainer.fast_dev_run``.

    Returns
    -------
    pandas.DataFrame
        A row for each call: `step`, and a column for each name, missing where it was not told. There is always a column
        `loss`.
    """
    if not path.is_file():
        return pd.DataFrame({"step": pd.Series(dtype="int64"), "loss": pd.Series(dtype="float64")})
    log = pd.read_csv(path)
    return log if "loss" in log else log.assign(loss=float("nan"))


def steps_of(log: pd.DataFrame) -> pd.DataFrame:
    """Return the rows of a log that are steps, also those whose loss is no number."""
    return log[log["learning rate"].notna()] if "learning rate" in log else log.dropna(subset="loss")


def _csv_line(fields: list[str]) -> str:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerow([" ".join(field.split()) for field in fields])
    return text.getvalue()


METRIC = "time/waiting for data"
