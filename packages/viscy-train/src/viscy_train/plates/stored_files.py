"""Stored files: what the files of an array are recognized by without reading them."""

from __future__ import annotations

import hashlib
import os
from typing import TYPE_CHECKING

from viscy_train.remote.object_store import list_below
from viscy_train.remote.path import RemotePath

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from viscy_train.plates.stored_array import StoredArray


def checksum_of_files(array: StoredArray) -> str | None:
    """Return a checksum of the names, sizes and times of all files of an array, metadata and chunks.

    Parameters
    ----------
    array : StoredArray
        The array, on a local file system or at a URL.

    Returns
    -------
    str, optional
        Another one if a file was written, added or deleted; None if the files cannot be listed, as on a web server.
    """
    directory = array.directory
    if isinstance(directory, RemotePath):
        if not directory.url.can_list:
            return None
        files = ((name, one.size, one.version) for name, one in list_below(directory.url).items())
    else:
        files = _local_files(directory)
    digest = hashlib.sha256(str(directory).encode(), usedforsecurity=False)
    for file in sorted(files):
        digest.update(repr(file).encode())
    return digest.hexdigest()


def _local_files(directory: Path) -> Iterator[tuple[str, int, int]]:
    folders = [(str(directory), "")]
    while folders:
        folder, below = folders.pop()
        with os.scandir(folder) as entries:
            for entry in entries:
                name = f"{below}{entry.name}"
                if entry.is_dir():
                    folders.append((entry.path, f"{name}/"))
                else:
                    status = entry.stat()
                    yield name, status.st_size, status.st_mtime_ns
