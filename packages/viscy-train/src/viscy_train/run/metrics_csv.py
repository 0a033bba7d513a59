"""Metrics CSV: a Lightning logger that writes the metrics of a run to one CSV file, across all its attempts."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from lightning.pytorch.loggers import Logger
from lightning.pytorch.utilities import rank_zero_only

from viscy_train.run.step_csv import StepCsv

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from pathlib import Path

    import pandas as pd

LOSS = "train/loss"
LEARNING_RATE = "lr"
TEMPERATURE = "train/temperature"
DATA_WAIT = "time/data_wait"
DECODED_MB = "read/decoded_mb"
USED_MB = "read/used_mb"
CACHE_HITS = "read/cache_hits"
VALIDATION = "val/"
"""Prefix of the metrics of a validation."""
VALIDATION_LOSS = "val/loss"
RECALL = "val/recall_at_1"
EFFECTIVE_RANK = "val/effective_rank"
SMOOTHNESS = "val/temporal_smoothness"

# Names in runs of earlier versions.
_RENAMED = {
    "loss": LOSS,
    "learning rate": LEARNING_RATE,
    "time/waiting for data": DATA_WAIT,
    "batch/own experiment": "batch/own_experiment",
    "batch/hours mean": "batch/hours_mean",
    "batch/hours spread": "batch/hours_std",
    "batch/distinct lineages": "batch/distinct_lineages",
    "val/found again": "val/recall_at_1",
}
_SHARES = ("batch/experiment/", "batch/condition/")


class MetricsCsv(Logger):
    """Log metrics to a CSV file: a row for each call, a column ``step``, and a column for each name logged so far.

    Parameters
    ----------
    path : pathlib.Path
        The file, such as ``log/metrics.csv``. An existing file is appended to.

    Notes
    -----
    Lightning's own CSV logger deletes the file of an earlier attempt when it writes the first row of a new one. Here a
    row is on disk when the call returns, and `viscy_train.run.attempts.AttemptRecorder` calls `cut` when a run resumes.
    """

    def __init__(self, path: Path) -> None:
        super().__init__()
        self._csv = StepCsv(path, rename=_present_names)

    @property
    def name(self) -> str:
        """The name of the file."""
        return self._csv.path.name

    @property
    def version(self) -> str:
        """An empty string: a run has one file."""
        return ""

    @property
    def save_dir(self) -> str:
        """The directory of the file."""
        return str(self._csv.path.parent)

    @property
    def log_dir(self) -> str:
        """The directory of the file."""
        return str(self._csv.path.parent)

    @rank_zero_only
    def log_metrics(self, metrics: Mapping[str, Any], step: int | None = None) -> None:
        """Append a row.

        Parameters
        ----------
        metrics : mapping of str to float or torch.Tensor
            Numbers by name.
        step : int, optional
            0 by default.
        """
        self._csv.append({"step": step or 0} | {name: f"{float(value):.9g}" for name, value in metrics.items()})

    def log_hyperparams(self, params: Any, *args: Any, **kwargs: Any) -> None:
        """Do nothing: the run's directory holds the complete configuration."""

    @rank_zero_only
    def cut(self, step: int, *, repeats_validation: bool = False) -> None:
        """Remove the rows from a step on.

        Parameters
        ----------
        step : int
            The step at which the run resumes.
        repeats_validation : bool, default False
            Whether the run resumes with the validation after the step before, whose metrics are removed, too.
        """
        self._csv.cut(step, VALIDATION if repeats_validation else None)

    @rank_zero_only
    def finalize(self, status: str) -> None:
        """Close the file."""
        self._csv.close()


def is_logged(trainer: Any, step: int) -> bool:
    """Return whether a step is one of every ``log_every_n_steps``, counted as Lightning counts for its own logging."""
    every = trainer.log_every_n_steps
    return every > 0 and (step + 1) % every == 0


def share_names(prefix: str, labels: Iterable[Any]) -> list[str]:
    """Return a metric name for the share of each label of a batch.

    Parameters
    ----------
    prefix : str
        Such as ``batch/experiment/``.
    labels : iterable
        Names of experiments or conditions.

    Returns
    -------
    list of str
        Different names without spaces, and without slashes, which loggers take for levels.
    """
    names: list[str] = []
    for label in labels:
        name = unique = prefix + re.sub(r"[^\w.\-]", "_", str(label).strip())
        number = 1
        while unique in names:
            number += 1
            unique = f"{name}_{number}"
        names.append(unique)
    return names


def read_log(path: Path) -> pd.DataFrame:
    """Read the metrics of a run.

    Parameters
    ----------
    path : pathlib.Path
        The file that `MetricsCsv` wrote. It may be missing, as after ``trainer.fast_dev_run``.

    Returns
    -------
    pandas.DataFrame
        A row for each call: `step`, and a column for each metric, missing where the call did not log it. The column
        `LOSS` always exists. Metrics of runs of earlier versions have their present names.

    Raises
    ------
    UserError
        If the file is damaged.
    """
    log = StepCsv(path, rename=_present_names).read_numbers()
    return log if LOSS in log else log.assign(**{LOSS: float("nan")})


def steps_of(log: pd.DataFrame) -> pd.DataFrame:
    """Return the rows of a log that are training steps, including those whose loss is not a number."""
    return log[log[LEARNING_RATE].notna()] if LEARNING_RATE in log else log.dropna(subset=LOSS)


def _present_names(columns: list[str]) -> list[str]:
    """Map the columns of an earlier version to their present names."""
    names = [_RENAMED.get(name, name) for name in columns]
    for prefix in _SHARES:
        places = [number for number, name in enumerate(names) if name.startswith(prefix)]
        # Names that would have been equal ended in a number, such as " (2)"; `share_names` numbers them again.
        labels = [re.sub(r" \(\d+\)$", "", names[place].removeprefix(prefix)) for place in places]
        for place, name in zip(places, share_names(prefix, labels), strict=True):
            names[place] = name
    return names
