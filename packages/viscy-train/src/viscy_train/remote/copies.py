"""Copies: objects in files of this machine, for libraries that read files, until this process ends."""

from __future__ import annotations

import hashlib
import os
import shutil
import tempfile
import threading
from contextlib import suppress
from multiprocessing.util import Finalize
from typing import TYPE_CHECKING

from viscy_train.errors import UserError
from viscy_train.remote.object_store import ObjectFacts, list_below, save

if TYPE_CHECKING:
    from viscy_train.remote.url import Url

_lock = threading.Lock()
_directories: dict[int, str] = {}


def copy_object(url: Url, facts: ObjectFacts) -> str:
    """Return the name of a local file with the content of an object, which is transferred once in each version.

    Parameters
    ----------
    url : Url
        The object.
    facts : ObjectFacts
        Size and version of the object.

    Raises
    ------
    FileNotFoundError
        If the object does not exist anymore.
    UserError
        If it cannot be read, or there is no space for the copy.
    """
    path = os.path.join(_place(url, facts.version), url.key.rpartition("/")[2] or "index")
    if not os.path.isfile(path):
        _save(url, path)
    return path


def copy_directory(url: Url) -> str:
    """Return the name of a local directory with all objects below a path; raises like `copy_object`."""
    objects = list_below(url)
    place = os.path.join(_place(url, repr(sorted(objects.items()))), url.key.rpartition("/")[2] or "root")
    os.makedirs(place, exist_ok=True)
    for name in objects:
        path = os.path.join(place, *name.split("/"))
        if not os.path.isfile(path):
            _save(url._replace(key=f"{url.key}/{name}".strip("/")), path)
    return place


def _save(url: Url, path: str) -> None:
    unfinished = f"{path}.{threading.get_ident()}.unfinished"
    try:
        os.makedirs(os.path.dirname(path), exist_ok=True)
        save(url, unfinished)
        os.replace(unfinished, path)
    except FileNotFoundError:
        raise
    except OSError as error:
        raise UserError(
            f"cannot copy {url} to {path}: {error.strerror}; set TMPDIR to a directory with more space"
        ) from error
    finally:
        with suppress(OSError):
            os.unlink(unfinished)


def _place(url: Url, version: str) -> str:
    digest = hashlib.sha256(f"{url}\n{version}".encode(), usedforsecurity=False).hexdigest()
    return os.path.join(_directory(), digest[:24])


def _directory() -> str:
    """Return the directory of copies of this process."""
    pid = os.getpid()
    with _lock:
        if pid not in _directories:
            _directories[pid] = _make_directory()
        return _directories[pid]


def _make_directory() -> str:
    try:
        directory = tempfile.mkdtemp(prefix="viscy-train-")
    except OSError as error:
        raise UserError(
            f"cannot make a directory for copies of remote files: {error.strerror}; set TMPDIR to one with space"
        ) from error
    # Functions of atexit are not called when a worker process ends.
    Finalize(None, shutil.rmtree, (directory,), {"ignore_errors": True}, exitpriority=0)
    return directory
