"""New files: the files of a project, written only where there are none."""

from __future__ import annotations

from typing import TYPE_CHECKING

from viscy_train.atomic import atomic_write
from viscy_train.errors import UserError

if TYPE_CHECKING:
    from pathlib import Path

EXPERIMENTS, CONFIG = "experiments.yaml", "config.yaml"


def check_new(directory: Path) -> None:
    """Refuse a directory in which one of the files exists.

    Parameters
    ----------
    directory : pathlib.Path
        Directory to write to; it may not exist.

    Raises
    ------
    UserError
        If a file exists, or the directory is a file.
    """
    if directory.exists() and not directory.is_dir():
        raise UserError(f"--out must be a directory, got the file {directory}")
    for name in (EXPERIMENTS, CONFIG):
        path = directory / name
        if path.exists() or path.is_symlink():
            raise UserError(f"{path} exists and is not replaced; choose another directory with --out, or move the file")


def write_files(directory: Path, experiments: str, config: str) -> None:
    """Write both files.

    Parameters
    ----------
    directory : pathlib.Path
        Directory to write to; it is created if necessary.
    experiments, config : str
        Their texts.

    Raises
    ------
    UserError
        If a file exists by now, or cannot be written.
    """
    check_new(directory)
    for name, text in ((EXPERIMENTS, experiments), (CONFIG, config)):
        with atomic_write(directory / name) as unfinished:
            unfinished.write_text(text, encoding="utf-8")
