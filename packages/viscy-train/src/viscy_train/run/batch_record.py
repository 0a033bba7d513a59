"""Batch record: the rows of the anchor table in each training batch, a CSV file per rank with a line per batch."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from lightning.pytorch import Callback

from viscy_train.errors import UserError
from viscy_train.run.step_csv import StepCsv
from viscy_train.wording import count

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

    from lightning.pytorch import LightningModule, Trainer
    from numpy.typing import NDArray


COLUMNS = ["step", "epoch", "batch", "rank", "rows"]
_NUMBER = r"\d{1,18}"
_LINE = re.compile(rf"(?:{_NUMBER},){{4}}(?:{_NUMBER} )*{_NUMBER}\r?\n")
SLOT_COLUMNS = ["step", "epoch", "batch", "rank", "row"]
NEVER = np.iinfo(np.int64).max
"""An epoch after all others."""


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
    """Return how many batches all ranks recorded; one that they shared counts once."""
    return len(pd.DataFrame(_keys(directory)).drop_duplicates())


def count_batches_of_epochs(directory: Path) -> list[int]:
    """Return how many batches all ranks recorded of each epoch, in order; an epoch that was repeated is several."""
    keys = pd.DataFrame(_keys(directory), columns=SLOT_COLUMNS[:3]).drop_duplicates()
    keys = keys.sort_values(["step", "epoch", "batch"])
    keys["pass"] = keys.groupby(["epoch", "batch"]).cumcount()
    return keys.groupby(["epoch", "pass"]).size().tolist()


def read_slots(directory: Path, most_batches: int | None = None) -> pd.DataFrame:
    """Read the records of all ranks.

    Parameters
    ----------
    directory : pathlib.Path
        Contains a file for each rank.
    most_batches : int, optional
        If more batches were recorded, only those of every nth step are read.

    Returns
    -------
    pandas.DataFrame
        Columns `SLOT_COLUMNS`, a row for each slot in the order of its batch, sorted by epoch and batch.
    """
    lines = list(_lines(directory)) if most_batches is None else _thin(directory, most_batches)
    return parse_slots(lines).sort_values(["epoch", "batch"], kind="stable", ignore_index=True)


def count_epochs_until_drawn(directory: Path, n_rows: int) -> NDArray[np.int64]:
    """Return the first epoch that drew each row of the anchor table.

    Parameters
    ----------
    directory : pathlib.Path
        Contains a file for each rank.
    n_rows : int
        Number of rows of the table.

    Returns
    -------
    numpy.ndarray
        Epochs, counted from 0, shape (n_rows,); `NEVER` for rows that were not drawn.

    Raises
    ------
    UserError
        If a line is damaged, or has a row that the table does not have.
    """
    first = np.full(n_rows, NEVER)
    for line in _lines(directory):
        (_, epoch, _, _), rows = _parse(line)
        if rows.max() >= n_rows:
            check_rows(rows, np.arange(n_rows), directory)
        first[rows] = np.minimum(first[rows], int(epoch))
    return first


def parse_slots(lines: list[str]) -> pd.DataFrame:
    """Return lines as slots, columns `SLOT_COLUMNS`.

    Raises
    ------
    UserError
        If a line is not four numbers and a list of rows.
    """
    parsed = [_parse(line) for line in lines]
    rows = [part for _, part in parsed]
    sizes = np.array([len(part) for part in rows], dtype=np.int64)
    heads = np.array([head for head, _ in parsed], dtype=np.int64).reshape(-1, 4)
    frame = pd.DataFrame(np.repeat(heads, sizes, axis=0), columns=SLOT_COLUMNS[:4])
    frame["row"] = np.concatenate([np.zeros(0, dtype=np.int64), *rows])
    return frame


def _parse(line: str) -> tuple[list[str], NDArray[np.int64]]:
    """Return step, epoch, batch and rank of a line, and its rows."""
    if not _LINE.fullmatch(line):
        raise UserError(f"the batch record has a damaged line, {line[:40]!r}; restore the file, or start a new run")
    *head, rows = line.rstrip("\r\n").split(",")
    return head, np.array(rows.split(), dtype=np.int64)


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
            f"({count(len(unknown), 'row')} affected); restore the files, or start a new run"
        )


def _thin(directory: Path, most_batches: int) -> list[str]:
    """Return the lines of every nth step, complete, so that there are at most so many batches."""
    keys = pd.DataFrame(_keys(directory)).drop_duplicates()
    steps = np.unique(keys[0].to_numpy())
    kept = set(steps[:: max(1, -(-len(keys) // most_batches))].tolist())
    return [line for line in _lines(directory) if int(line.partition(",")[0]) in kept]


def _keys(directory: Path) -> NDArray[np.int64]:
    """Return step, epoch and batch of each line, shape (n_lines, 3)."""
    try:
        numbers = (int(field) for line in _lines(directory) for field in line.split(",", 3)[:3])
        return np.fromiter(numbers, dtype=np.int64).reshape(-1, 3)
    except (ValueError, OverflowError):
        parse_slots(list(_lines(directory)))  # names the line
        raise


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
