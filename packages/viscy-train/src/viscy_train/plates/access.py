"""Access: how the files of an array are reached, on a local file system or at a URL."""

from __future__ import annotations

import os
import stat
from typing import TYPE_CHECKING, Any, Protocol

from viscy_train.errors import require_regular_file
from viscy_train.remote.object_store import (
    N_RETRIES,
    endpoint,
    facts,
    is_anonymous,
    list_below,
    read,
    seconds,
)
from viscy_train.remote.path import RemotePath

if TYPE_CHECKING:
    from pathlib import Path

    from zarr.abc.store import Store

    from viscy_train.remote.url import Url

# Limits of tensorstore's transfers, which it reads from the environment when it first connects.
_SLOWEST = "TENSORSTORE_CURL_LOW_SPEED_LIMIT_BYTES"
_PATIENCE = "TENSORSTORE_CURL_LOW_SPEED_TIME_SECONDS"
_RETRIES = {"max_retries": N_RETRIES, "initial_delay": "200ms", "max_delay": "2s"}


def zarr_store(path: Path) -> Store:
    """Return a directory as a store of zarr, for reading."""
    # zarr-python takes a fifth of a second to import, which most commands save.
    from zarr.storage import LocalStore

    from viscy_train.plates.remote_store import RemoteStore

    return RemoteStore(path) if isinstance(path, RemotePath) else LocalStore(path, read_only=True)


def kvstore_at(directory: Path) -> dict[str, Any] | None:
    """Return how tensorstore reaches the files of a directory.

    Returns
    -------
    dict, optional
        A specification of a key-value store, with the limits of its requests; None if tensorstore cannot be given the
        credentials or the address that the environment states for obstore, so that zarr-python has to read.
    """
    if not isinstance(directory, RemotePath):
        # tensorstore refuses paths with `..`.
        return {"driver": "file", "path": os.path.realpath(directory)}
    os.environ.setdefault(_SLOWEST, "1")
    os.environ.setdefault(_PATIENCE, str(max(1, round(seconds()))))
    url = directory.url
    if url.scheme == "s3":
        # Where the environment has no keys, AWS's library searches for files with them, and prints what it lacks.
        has_keys = all(os.environ.get(name) for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"))
        credentials = "anonymous" if is_anonymous() else "environment" if has_keys else "default"
        address = {"endpoint": endpoint().rstrip("/")} if endpoint() else {}
        stated = os.environ.get("AWS_REGION") or os.environ.get("AWS_DEFAULT_REGION")
        region = stated or ("us-east-1" if address else "")
        return {
            "driver": "s3",
            "bucket": url.host,
            "path": f"{url.key}/",
            "aws_credentials": {"type": credentials},
            "s3_request_retries": _RETRIES,
            **({"aws_region": region} if region else {}),
            **address,
        }
    if url.scheme in ("http", "https"):
        return {"driver": "http", "base_url": url.root, "path": f"/{url.key}/", "http_request_retries": _RETRIES}
    return None


class Files(Protocol):
    """The files below a directory, by the path relative to it."""

    def size(self, name: str) -> int:
        """Return the size of a file in bytes, at least 1; 0 if it does not exist.

        Raises
        ------
        UserError
            If it is not a regular file.
        """

    def read(self, name: str, start: int, length: int) -> bytes:
        """Return some bytes of a file that exists; fewer at its end."""


class LocalFiles:
    """The files below a directory of a local file system."""

    def __init__(self, directory: Path) -> None:
        self._directory = str(directory)

    def size(self, name: str) -> int:
        """Return the size, see `Files`."""
        path = os.path.join(self._directory, name)
        try:
            status = os.stat(path)
        except OSError:
            return 0
        if not stat.S_ISREG(status.st_mode):
            require_regular_file(path, "a chunk of a plate")
        return max(status.st_size, 1)  # a truncated chunk is not missing

    def read(self, name: str, start: int, length: int) -> bytes:
        """Return some bytes, see `Files`."""
        with open(os.path.join(self._directory, name), "rb") as file:
            file.seek(start)
            return file.read(length)


class RemoteFiles:
    """The objects below a URL. They are listed once; where that is impossible, there is a request for each."""

    def __init__(self, directory: RemotePath) -> None:
        self._url = directory.url
        self._sizes: dict[str, int] | None = None

    def size(self, name: str) -> int:
        """Return the size, see `Files`."""
        if not self._url.can_list:
            return self._ask(name)
        if self._sizes is None:
            self._sizes = {key: one.size for key, one in list_below(self._url).items()}
        return max(self._sizes[name], 1) if name in self._sizes else 0

    def read(self, name: str, start: int, length: int) -> bytes:
        """Return some bytes, see `Files`."""
        return read(self._below(name), start, min(length, self.size(name) - start))

    def _ask(self, name: str) -> int:
        try:
            return max(facts(self._below(name)).size, 1)
        except FileNotFoundError:
            return 0

    def _below(self, name: str) -> Url:
        return self._url._replace(key=f"{self._url.key}/{name}".strip("/"), is_marked=False)


def files_of(directory: Path) -> Files:
    """Return the files below a directory."""
    return RemoteFiles(directory) if isinstance(directory, RemotePath) else LocalFiles(directory)
