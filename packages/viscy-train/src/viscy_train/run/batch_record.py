"""Batch record: which rows of the anchor table each batch held, a file for each rank and a line for each batch."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from lightning.pytorch import Callback

from viscy_train.run.step_csv import cut, header_of, rewrite, whole_lines

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

    from lightning.pytorch import LightningModule, Trainer


HEADER = "step,epoch,batch,rank,rows\n"
SLOT_COLUMNS = ["step", "epoch", "batch", "rank", "row"]


def line_of_batch(step: int, epoch: int, batch: int, rank: int, rows: Iterable[int]) -> str:
    """Return a batch as a line: its rows are one field, with blanks between."""
    return f"{step},{epoch},{batch},{rank},{' '.join(map(str, rows))}\n"


def files_of_ranks(folder: Path) -> dict[int, Path]:
    """Return the file of each rank that has one, by rank."""
    found = {path: re.fullmatch(r"rank(\d+)\.csv", path.name) for path in folder.glob("rank*.csv")}
    return dict(sorted((int(match[1]), path) for path, match in found.items() if match))


def file_of_rank(folder: Path, rank: int) -> Path:
    """Return where a rank writes its batches."""
    return folder / f"rank{rank}.csv"


def count_batches(folder: Path) -> int:
    """Return how many batches all ranks recorded."""
    return sum(1 for _ in _lines(folder))


def read_slots(folder: Path, most_batches: int | None = None) -> pd.DataFrame:
    """Read what all ranks recorded.

    Parameters
    ----------
    folder : pathlib.Path
        With a file for each rank.
    most_batches : int, optional
        Where there are more, every nth is read.

    Returns
    -------
    pandas.DataFrame
        Columns `SLOT_COLUMNS`, a row for each slot in its order, sorted by epoch and batch.
    """
    every = 1 if most_batches is None else max(1, -(-count_batches(folder) // most_batches))
    # A line of one rank after the other: neither the first nor the last rank of a step is always left out.
    kept = [line for number, line in enumerate(_lines(folder)) if number % every == 0]
    return slots_of(kept).sort_values(["epoch", "batch"], kind="stable", ignore_index=True)


def slots_of(lines: list[str]) -> pd.DataFrame:
    """Return lines as slots, columns `SLOT_COLUMNS`."""
    fields = [line.rstrip("\r\n").split(",") for line in lines]
    rows = [np.array(field[4].split(), dtype=np.int64) for field in fields]
    slots = np.array([len(part) for part in rows], dtype=np.int64)
    heads = np.array([field[:4] for field in fields], dtype=np.int64).reshape(-1, 4)
    frame = pd.DataFrame(np.repeat(heads, slots, axis=0), columns=SLOT_COLUMNS[:4])
    frame["row"] = np.concatenate([np.zeros(0, dtype=np.int64), *rows])
    return frame


def _lines(folder: Path) -> Iterator[str]:
    for path in files_of_ranks(folder).values():
        yield from whole_lines(path)


class BatchRecorder(Callback):
    """Write down which rows of the anchor table each batch of this rank held.

    Parameters
    ----------
    folder : pathlib.Path
        Where to write ``rank<rank>.csv``: a line for each batch, with its step, its epoch, its number in the sequence
        of all ranks, the rank, and its rows. Where a run goes on at a step, what was recorded from there on is
        forgotten, in the files of all ranks, also of those that are no longer.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Cut what is there, and open the file."""
        self._folder.mkdir(parents=True, exist_ok=True)
        path = file_of_rank(self._folder, trainer.global_rank)
        cut(path, trainer.global_step)
        if header_of(path) is None:
            rewrite(path, HEADER, iter([]))
        if trainer.is_global_zero:
            for rank, other in files_of_ranks(self._folder).items():
                if rank >= trainer.world_size:
                    cut(other, trainer.global_step)
        self._file = path.open("a", newline="", encoding="utf-8")

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        """Note a batch, before it is trained on: should that fail, the batch is known."""
        rows = batch["row"].tolist()
        self._file.write(line_of_batch(trainer.global_step, batch["epoch"], batch["batch"], trainer.global_rank, rows))
        self._file.flush()

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        """Close the file."""
        self.teardown(trainer, pl_module, "fit")

    def teardown(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Close the file."""
        if hasattr(self, "_file"):
            self._file.close()
