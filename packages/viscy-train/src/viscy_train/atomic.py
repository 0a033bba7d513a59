"""Atomic writes: after a crash a file has its old or its new content, and a full disk is a user error."""

from __future__ import annotations

import errno
import os
import re
import shutil
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

from viscy_train.errors import UserError
from viscy_train.output import LOCK, follow_links

if TYPE_CHECKING:
    from collections.abc import Generator
    from pathlib import Path

# A limit on the size of files (EFBIG) ends a write in the same way as a full disk or quota.
_DISK_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
_DISK_FULL_TEXT = re.compile("|".join(re.escape(os.strerror(number)) for number in _DISK_FULL))
_REMEDY = "free some space, or choose another location"


@contextmanager
def atomic_write(path: Path, *, by: str = "") -> Generator[Path]:
    """Replace a file in one step.

    Parameters
    ----------
    path : pathlib.Path
        File to create or to replace. Its directory is created if necessary. A symbolic link stays, and its target is
        replaced.
    by : str, optional
        Name of the process, if several may write the file at the same time.

    Yields
    ------
    pathlib.Path
        Temporary file in the same directory to write to. It is renamed to `path` after the block, or deleted after an
        error. If the process is killed, it remains and the next write replaces it.

    Raises
    ------
    UserError
        If the file cannot be written, for example because the disk is full.
    """
    path = follow_links(path)
    unfinished = path.with_name(f".{path.name}{by and '.'}{by}.unfinished")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield unfinished
        with unfinished.open("rb+") as file:
            os.fsync(file.fileno())
        os.replace(unfinished, path)
    except BaseException as error:
        with suppress(OSError):  # such as of a disk that is read-only, where there is none
            unfinished.unlink()
        if isinstance(error, OSError) or is_disk_full(error):
            raise UserError(f"cannot write {path}: {_reason(error)}; {_REMEDY}") from error
        raise


@contextmanager
def atomic_write_directory(path: Path) -> Generator[Path]:
    """Replace a directory as a whole, in two renames.

    Parameters
    ----------
    path : pathlib.Path
        Directory to create or to replace. Its parent is created if necessary. A symbolic link stays, and its target is
        replaced.

    Yields
    ------
    pathlib.Path
        Empty temporary directory next to it to write to. It is renamed to `path` after the block, or deleted after an
        error. If the process is killed, it remains and the next write replaces it.

    Raises
    ------
    UserError
        If the directory cannot be written, for example because the disk is full.
    """
    path = follow_links(path)
    unfinished, replaced = (path.with_name(f".{path.name}.{state}") for state in ("unfinished", "replaced"))
    try:
        for left in (unfinished, replaced):
            shutil.rmtree(left, ignore_errors=True)
        unfinished.mkdir(parents=True)
        yield unfinished
        if path.exists():
            os.replace(path, replaced)
        os.replace(unfinished, path)
        shutil.rmtree(replaced, ignore_errors=True)
    except BaseException as error:
        shutil.rmtree(unfinished, ignore_errors=True)
        if isinstance(error, OSError) or is_disk_full(error):
            raise UserError(f"cannot write {path}: {_reason(error)}; {_REMEDY}") from error
        raise


@contextmanager
def atomic_directory(path: Path) -> Generator[None]:
    """Fill an empty directory completely, or leave it empty after an error.

    Parameters
    ----------
    path : pathlib.Path
        An empty directory, to be filled in the block.

    Raises
    ------
    UserError
        If the directory cannot be written to, for example because the disk is full.
    """
    try:
        yield
    except BaseException as error:
        for entry in path.iterdir():
            if entry.name == LOCK:
                continue
            shutil.rmtree(entry) if entry.is_dir() else entry.unlink()
        if isinstance(error, OSError) or is_disk_full(error):
            raise UserError(f"cannot write to {path}: {_reason(error)}; {_REMEDY}") from error
        raise


def is_disk_full(error: BaseException) -> bool:
    """Return whether an error means that the disk is full, also if a library wraps it in an error of its own."""
    if isinstance(error, OSError):
        return error.errno in _DISK_FULL
    return isinstance(error, RuntimeError) and _DISK_FULL_TEXT.search(str(error)) is not None


def _reason(error: BaseException) -> str:
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    match = _DISK_FULL_TEXT.search(str(error))
    return match[0] if match else str(error)
