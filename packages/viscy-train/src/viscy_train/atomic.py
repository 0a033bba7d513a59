"""Whole files: a file is there as it was or as it is to be, whatever ends the process, and a full disk is told."""

from __future__ import annotations

import errno
import os
import re
import shutil
from contextlib import contextmanager
from typing import TYPE_CHECKING

from viscy_train.errors import UserError

if TYPE_CHECKING:
    from collections.abc import Generator
    from pathlib import Path

# A limit on the size of files ends a write in the same way as a disk that has no room.
_NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
_NO_ROOM_IN_WORDS = re.compile("|".join(re.escape(os.strerror(number)) for number in _NO_ROOM))


@contextmanager
def atomic_write(path: Path) -> Generator[Path]:
    """Write a file beside its place, and put it there in one step.

    Parameters
    ----------
    path : pathlib.Path
        File to write or to replace; its folder is made.

    Yields
    ------
    pathlib.Path
        Where to write it. Nothing is left of it after an error; what a kill leaves is replaced by the next writer.

    Raises
    ------
    UserError
        If it cannot be written, as where the disk is full.
    """
    unfinished = path.with_name(f".{path.name}.unfinished")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield unfinished
        with unfinished.open("rb+") as file:
            os.fsync(file.fileno())
        os.replace(unfinished, path)
    except BaseException as error:
        if path.parent.is_dir():
            unfinished.unlink(missing_ok=True)
        if isinstance(error, OSError) or is_disk_full(error):
            raise UserError(f"cannot write {path}: {_reason(error)}; make room, or name another place") from error
        raise


@contextmanager
def atomic_folder(path: Path) -> Generator[None]:
    """Empty a folder again where not all could be written into it.

    Parameters
    ----------
    path : pathlib.Path
        An empty folder.

    Raises
    ------
    UserError
        If it cannot be written into, as where the disk is full.
    """
    try:
        yield
    except BaseException as error:
        for entry in path.iterdir():
            shutil.rmtree(entry) if entry.is_dir() else entry.unlink()
        if isinstance(error, OSError) or is_disk_full(error):
            raise UserError(f"cannot write into {path}: {_reason(error)}; make room, or name another place") from error
        raise


def is_disk_full(error: BaseException) -> bool:
    """Whether an error is that of a disk without room; libraries say so in errors of their own."""
    if isinstance(error, OSError):
        return error.errno in _NO_ROOM
    return isinstance(error, RuntimeError) and _NO_ROOM_IN_WORDS.search(str(error)) is not None


def _reason(error: BaseException) -> str:
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    found = _NO_ROOM_IN_WORDS.search(str(error))
    return found[0] if found else str(error)
