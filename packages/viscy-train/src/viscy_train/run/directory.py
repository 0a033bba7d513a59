"""Run folder: the names of what a run reads and leaves behind."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from viscy_train.atomic import atomic_write
from viscy_train.errors import UserError
from viscy_train.run.batch_record import read_slots

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True)
class RunDirectory:
    """The results of one run.

    Parameters
    ----------
    path : pathlib.Path
        The folder.
    """

    path: Path

    @property
    def config(self) -> Path:
        """The configuration as it was run, with absolute paths."""
        return self.path / "config.yaml"

    @property
    def batches(self) -> Path:
        """Folder with a CSV for each rank: what its batches held."""
        return self.path / "batches"

    @property
    def checkpoints(self) -> Path:
        """Folder with the checkpoints."""
        return self.path / "checkpoints"

    @property
    def last_checkpoint(self) -> Path:
        """The state of the run to go on from."""
        return self.checkpoints / "last.ckpt"

    @property
    def log(self) -> Path:
        """Folder with what the loggers wrote."""
        return self.path / "log"

    @property
    def metrics(self) -> Path:
        """The log: the loss of each step."""
        return self.log / "metrics.csv"

    @property
    def embeddings(self) -> Path:
        """The embeddings of all cells, AnnData."""
        return self.path / "embeddings.h5ad"

    @property
    def report(self) -> Path:
        """The report."""
        return self.path / "report.html"

    def write_config(self, text: str) -> None:
        """Write the configuration."""
        with atomic_write(self.config) as unfinished:
            unfinished.write_text(text, encoding="utf-8")

    @property
    def lives(self) -> Path:
        """When the run began and went on."""
        return self.path / "lives.csv"

    def read_batches(self, most_batches: int | None = None) -> pd.DataFrame:
        """Read the batches of all ranks.

        Parameters
        ----------
        most_batches : int, optional
            Where more were recorded, every nth is read.

        Returns
        -------
        pandas.DataFrame
            A row for each slot: `step`, `epoch`, `batch`, `rank`, `row`, sorted by epoch and batch. What a process that
            was killed has half written is left out.
        """
        return read_slots(self.batches, most_batches)


def require_new(path: Path, remedy: str) -> None:
    """Make a folder, or refuse one with something in it.

    Parameters
    ----------
    path : pathlib.Path
        Folder to be written to; made with its parents where it is missing.
    remedy : str
        What to do instead.

    Raises
    ------
    UserError
        If it is there and not empty, is a file, or cannot be made.
    """
    try:
        if path.is_file():
            raise UserError(f"{path} is a file; {remedy}")
        path.mkdir(parents=True, exist_ok=True)
        filled = any(path.iterdir())
    except UserError:
        raise
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise UserError(f"cannot make the folder {str(path)!r}: {reason}; {remedy}") from error
    if filled:
        raise UserError(f"{path} is not empty, and runs are not mixed; {remedy}")
