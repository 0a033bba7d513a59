"""Batch record: the rows of the anchor table in each training batch, a CSV file per rank with a line per batch."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from lightning.pytorch import Callback

from viscy_train.errors import UserError
from viscy_train.run.step_csv import StepCsv

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

    from lightning.pytorch import LightningModule, Trainer
    from numpy.typing import NDArray


COLUMNS = ["step", "epoch", "batch", "rank", "rows"]
_NUMBER = r"\d{1,18}"
_LINE = re.compile(rf"(?:{_NUMBER},){{4}}(?:{_NUMBER} )*{_NUMBER}\r?\n")
SLOT_COLUMNS = ["step", "epoch", "batch", "rank", "row"]


def record_of_rank(directory: Path, rank: int) -> StepCsv:
    """Return the file in which a rank records its batches."""
    return StepCsv(directory / f"rank{rank}.csv", COLUMNS)


def find_records(directory: Path) -> dict[int, StepCsv]:
    """Return the existing files in a directory, by rank."""
    matches = [re.fullmatch(r"rank(\d+)\.csv", path.name) for path in directory.glob("rank*.csv")]
    return {rank: record_of_rank(directory, rank) for rank in sorted(int(match[1]) for match in matches if match)}


def batch_fields(step: int, epoch: int, batch: int, rank: int, rows: Iterable[int]) -> dict[str, Any]:
    """Return a batch as the fields of its line; the rows are one field, separated by spaces."""
    return dict(zip(COLUMNS, (step, epoch, batch, rank, " ".join(map(str, rows))), strict=True))


def count_batches(directory: Path) -> int:
    """Return how many batches all ranks recorded."""
    return sum(1 for _ in _lines(directory))


def read_slots(directory: Path, most_batches: int | None = None) -> pd.DataFrame:
    """Read the records of all ranks.

    Parameters
    ----------
    directory : pathlib.Path
        Contains a file for each rank.
    most_batches : int, optional
        If more batches were recorded, only every nth is read.

    Returns
    -------
    pandas.DataFrame
        Columns `SLOT_COLUMNS`, a row for each slot in the order of its batch, sorted by epoch and batch.
    """
    every = 1 if most_batches is None else max(1, -(-count_batches(directory) // most_batches))
    # The lines of one rank follow those of another, so taking every nth leaves out no rank of a step systematically.
    kept = [line for number, line in enumerate(_lines(directory)) if number % every == 0]
    return parse_slots(kept).sort_values(["epoch", "batch"], kind="stable", ignore_index=True)


def parse_slots(lines: list[str]) -> pd.DataFrame:
    """Return lines as slots, columns `SLOT_COLUMNS`.

    Raises
    ------
    UserError
        If a line is not four numbers and a list of rows.
    """
    for line in lines:
        if not _LINE.fullmatch(line):
            raise UserError(f"the batch record has a damaged line, {line[:40]!r}; restore the file, or start a new run")
    fields = [line.rstrip("\r\n").split(",") for line in lines]
    rows = [np.array(field[4].split(), dtype=np.int64) for field in fields]
    sizes = np.array([len(part) for part in rows], dtype=np.int64)
    heads = np.array([field[:4] for field in fields], dtype=np.int64).reshape(-1, 4)
    frame = pd.DataFrame(np.repeat(heads, sizes, axis=0), columns=SLOT_COLUMNS[:4])
    frame["row"] = np.concatenate([np.zeros(0, dtype=np.int64), *rows])
    return frame


def check_rows(rows: NDArray[np.int64], trained_on: NDArray[np.int64], directory: Path) -> None:
    """Refuse rows of a record that the run cannot have trained on.

    Parameters
    ----------
    rows : numpy.ndarray
        Rows of the anchor table, from the record.
    trained_on : numpy.ndarray
        Rows that are used for training, ascending.
    directory : pathlib.Path
        Contains the record, for the error message.

    Raises
    ------
    UserError
        If a row is not used for training.
    """
    unknown = rows[~np.isin(rows, trained_on)]
    if len(unknown):
        raise UserError(
            f"the batch record in {directory} must contain rows that are used for training, got {unknown[0]} "
            f"({len(unknown)} rows affected); restore the files, or start a new run"
        )


def _lines(directory: Path) -> Iterator[str]:
    for record in find_records(directory).values():
        if (columns := record.columns()) not in (None, COLUMNS):
            raise record.damaged(f"its columns must be {', '.join(COLUMNS)}, got {', '.join(columns or [])}")
        yield from record.lines()


class BatchRecorder(Callback):
    """Record the rows of the anchor table in each batch of this rank.

    Parameters
    ----------
    directory : pathlib.Path
        Receives ``rank<rank>.csv`` with a line for each batch: its step, its epoch, its index in the epoch's global
        sequence, the rank, and its rows. When a run resumes, the lines from that step on are removed from the files of
        all ranks, including ranks that no longer exist.
    """

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._record: StepCsv | None = None

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Remove the lines of steps that will be trained again."""
        self._record = record_of_rank(self._directory, trainer.global_rank)
        self._record.cut(trainer.global_step)
        if trainer.is_global_zero:
            for rank, record in find_records(self._directory).items():
                if rank >= trainer.world_size:
                    record.cut(trainer.global_step)

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        """Record a batch before the step, so that it is known even if the step fails."""
        if self._record is not None:
            epoch, number, rows = int(batch["epoch"]), int(batch["batch"]), batch["row"].tolist()
            self._record.append(batch_fields(trainer.global_step, epoch, number, trainer.global_rank, rows))

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        """Close the file."""
        self.teardown(trainer, pl_module, "fit")

    def teardown(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Close the file."""
        if self._record is not None:
            self._record.close()
