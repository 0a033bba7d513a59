"""Access: how the files of an array are reached, on a local file system or at a URL."""

from __future__ import annotations

import asyncio
import os
import stat
from typing import TYPE_CHECKING, Any, Protocol, override

from zarr.storage import LocalStore, ObjectStore

from viscy_train.errors import require_regular_file
from viscy_train.remote.failures import AccessDeniedError
from viscy_train.remote.object_store import (
    N_RETRIES,
    client,
    endpoint,
    facts,
    is_anonymous,
    list_below,
    list_directory,
    read,
    repeat_async,
    seconds,
)
from viscy_train.remote.path import RemotePath
from viscy_train.remote.url import Url

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator
    from pathlib import Path

    import zarr
    from zarr.abc.store import ByteRequest, Store
    from zarr.core.buffer import Buffer, BufferPrototype

METADATA_FILES = ("zarr.json", ".zgroup", ".zarray", ".zattrs")
"""Names of the files with the metadata of zarr 2 and 3."""
# Limits of tensorstore's transfers, which it reads from the environment when it first connects.
_SLOWEST = "TENSORSTORE_CURL_LOW_SPEED_LIMIT_BYTES"
_PATIENCE = "TENSORSTORE_CURL_LOW_SPEED_TIME_SECONDS"
_RETRIES = {"max_retries": N_RETRIES, "initial_delay": "200ms", "max_delay": "2s"}


class RemoteStore(ObjectStore[Any]):
    """A store of zarr at a URL, for reading.

    Parameters
    ----------
    root : RemotePath
        The directory.
    """

    def __init__(self, root: RemotePath) -> None:
        super().__init__(client(root.url), read_only=True)
        self.root = root

    @override
    def with_read_only(self, read_only: bool = False) -> RemoteStore:
        return self

    @override
    def __getstate__(self) -> dict[str, Any]:
        return {"root": self.root}

    @override
    def __setstate__(self, state: dict[str, Any]) -> None:
        RemoteStore.__init__(self, state["root"])

    @override
    def __eq__(self, value: object) -> bool:
        return isinstance(value, RemoteStore) and self.root == value.root

    __hash__ = None

    @override
    def __str__(self) -> str:
        return str(self.root)

    @override
    async def get(self, key: str, prototype: BufferPrototype, byte_range: ByteRequest | None = None) -> Buffer | None:
        read_once = super().get
        try:
            return await repeat_async(lambda: read_once(self._key(key), prototype, byte_range), self._url(key))
        except AccessDeniedError:
            # Those of the other version of zarr do not exist, which a web server may not say.
            if self.root.url.can_list or not key.endswith((*METADATA_FILES, ".zmetadata")):
                raise
            return None

    @override
    async def exists(self, key: str) -> bool:
        exists_once = super().exists
        return await repeat_async(lambda: exists_once(self._key(key)), self._url(key))

    @override
    async def list_dir(self, prefix: str) -> AsyncGenerator[str, None]:
        listing = await asyncio.to_thread(list_directory, self._url(prefix))
        for name in (*listing.directories, *listing.objects):
            yield name

    def _key(self, key: str) -> str:
        return self._url(key).key

    def _url(self, key: str) -> Url:
        url = self.root.url
        return url._replace(key=f"{url.key}/{key}".strip("/"), is_marked=False)


def zarr_store(path: Path) -> Store:
    """Return a directory as a store of zarr, for reading."""
    return RemoteStore(path) if isinstance(path, RemotePath) else LocalStore(path, read_only=True)


def root_of(array: zarr.Array) -> Path:
    """Return the directory of the store of an array."""
    store: Any = array.store
    return store.root


def directory_of(array: zarr.Array) -> Path:
    """Return the directory of an array."""
    return root_of(array) / array.path


def is_local(array: zarr.Array) -> bool:
    """Return whether the files of an array are on a local file system."""
    return not isinstance(array.store, RemoteStore)


def kvstore_of(array: zarr.Array) -> dict[str, Any] | None:
    """Return how tensorstore reaches the files of an array, as `kvstore_at` does."""
    return kvstore_at(directory_of(array))


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


def files_of(array: zarr.Array) -> Files:
    """Return the files of an array."""
    directory = directory_of(array)
    return RemoteFiles(directory) if isinstance(directory, RemotePath) else LocalFiles(directory)
