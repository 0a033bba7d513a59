"""Run directory: the names of the files that a run writes."""

from __future__ import annotations

import json
import os
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from viscy_train.atomic import atomic_write
from viscy_train.errors import UserError
from viscy_train.output import LOCK

if TYPE_CHECKING:
    import pandas as pd

_SIGN = "# The configuration of the run in this directory, written by `viscy-train fit`."


@dataclass(frozen=True)
class RunDirectory:
    """The directory with the results of one run.

    Parameters
    ----------
    path : pathlib.Path
        The directory.
    """

    path: Path

    @property
    def config(self) -> Path:
        """The configuration of the run, with absolute paths."""
        return self.path / "config.yaml"

    @property
    def configs(self) -> Path:
        """Directory of the configurations of all attempts, ``attempt-1.yaml`` and so on."""
        return self.path / "configs"

    @property
    def batches(self) -> Path:
        """Directory of the batch record, a CSV file for each rank."""
        return self.path / "batches"

    @property
    def attempts(self) -> Path:
        """When the run was started and resumed; runs of earlier versions have a ``lives.csv`` instead."""
        path, earlier = self.path / "attempts.csv", self.path / "lives.csv"
        return earlier if earlier.exists() and not path.exists() else path

    @property
    def checkpoints(self) -> Path:
        """Directory of the checkpoints."""
        return self.path / "checkpoints"

    @property
    def last_checkpoint(self) -> Path:
        """The state from which the run resumes."""
        return self.checkpoints / "last.ckpt"

    @property
    def log(self) -> Path:
        """Directory of the loggers' files."""
        return self.path / "log"

    @property
    def metrics(self) -> Path:
        """The metrics of each step, such as the loss."""
        return self.log / "metrics.csv"

    @property
    def embeddings(self) -> Path:
        """The embeddings of all observations, an AnnData file."""
        return self.path / "embeddings.h5ad"

    @property
    def report(self) -> Path:
        """The report."""
        return self.path / "report.html"

    @property
    def provenance(self) -> Path:
        """By which command, on which host and with which versions each attempt was made."""
        return self.path / "provenance.json"

    @property
    def table_fingerprint(self) -> Path:
        """The fingerprint of the anchor table that the run was trained on."""
        return self.path / "anchors.json"

    def write_table_fingerprint(self, fingerprint: dict[str, str]) -> None:
        """Write the fingerprint of the anchor table."""
        with atomic_write(self.table_fingerprint) as unfinished:
            unfinished.write_text(json.dumps(fingerprint, indent=1), encoding="utf-8")

    def read_table_fingerprint(self) -> Any:
        """Return the fingerprint of the anchor table, or None for a run of an earlier version.

        Raises
        ------
        UserError
            If the file is damaged.
        """
        if not self.table_fingerprint.is_file():
            return None
        try:
            return json.loads(self.table_fingerprint.read_bytes())
        except (OSError, ValueError, RecursionError) as error:
            raise UserError(f"{self.table_fingerprint} is damaged; restore it, or delete it") from error

    @property
    def has_run(self) -> bool:
        """Whether the directory is that of a run, and not one that contains another configuration."""
        try:
            text = self.config.read_bytes() if self.config.is_file() else b""
        except OSError as error:
            raise UserError(f"cannot read {self.config}: {error.strerror or error}") from error
        # Earlier versions did not sign the file.
        return text.startswith(_SIGN.encode()) or (bool(text) and self.attempts.exists())

    def write_config(self, text: str, attempt: int = 1) -> None:
        """Write the configuration of an attempt, which is then that of the run; those of earlier attempts are kept."""
        before = self.configs / f"attempt-{attempt - 1}.yaml"
        if attempt > 1 and self.config.is_file() and not before.exists():  # earlier versions kept only the last one
            with atomic_write(before) as unfinished:
                unfinished.write_bytes(self.config.read_bytes())
        for path in (self.config, self.configs / f"attempt-{attempt}.yaml"):
            with atomic_write(path) as unfinished:
                unfinished.write_text(f"{_SIGN}\n{text}", encoding="utf-8")

    def remove_unsaved(self) -> bool:
        """Remove what a run has written that ended before it saved a checkpoint, so that another can take its place.

        Returns
        -------
        bool
            Whether there was such a run. A directory with a checkpoint, or with anything else, is left as it is.
        """
        if not self.path.is_dir():
            return False
        entries = [entry for entry in self.path.iterdir() if entry.name != LOCK]
        config = self.config.name
        is_only_begun = {entry.name for entry in entries} == {f".{config}.unfinished"}
        if not (is_only_begun or (self.has_run and all(entry.name in self._own_names for entry in entries))):
            return False
        if any(self.checkpoints.glob("*.ckpt")):
            return False
        # The configuration goes last: without it, the rest would not be known as a run's.
        for entry in sorted(entries, key=lambda entry: entry.name == config):
            shutil.rmtree(entry) if entry.is_dir() and not entry.is_symlink() else entry.unlink()
        return True

    @property
    def _own_names(self) -> set[str]:
        files = [self.config, self.attempts, self.provenance, self.table_fingerprint]
        directories = [self.configs, self.batches, self.checkpoints, self.log]
        return {path.name for path in files + directories} | {f".{path.name}.unfinished" for path in files}

    def rename_attempts(self) -> Path:
        """Give the attempts of a run of an earlier version their present file name, and return the path."""
        path = self.path / "attempts.csv"
        if self.attempts != path:
            os.replace(self.attempts, path)
        return path

    def read_batches(self, most_batches: int | None = None) -> pd.DataFrame:
        """Read the batches of all ranks.

        Parameters
        ----------
        most_batches : int, optional
            If more batches were recorded, only every nth is read.

        Returns
        -------
        pandas.DataFrame
            A row for each slot: `step`, `epoch`, `batch`, `rank`, `row`, sorted by epoch and batch. Incomplete lines,
            which killed processes leave, are skipped.
        """
        from viscy_train.run.batch_record import read_slots  # loads Lightning, which takes seconds

        return read_slots(self.batches, most_batches)


def require_new(path: Path, remedy: str) -> None:
    """Create a directory; refuse one that is not empty.

    Parameters
    ----------
    path : pathlib.Path
        Directory to create, with its parents.
    remedy : str
        Advice at the end of the error message.

    Raises
    ------
    UserError
        If the directory is not empty, is a file, or cannot be created.
    """
    try:
        if path.is_file():
            raise UserError(f"{path} is a file; {remedy}")
        path.mkdir(parents=True, exist_ok=True)
        is_filled = any(entry.name != LOCK for entry in path.iterdir())
    except UserError:
        raise
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise UserError(f"cannot create the directory {str(path)!r}: {reason}; {remedy}") from error
    if is_filled:
        raise UserError(f"{path} is not empty, but every run needs its own directory; {remedy}")
