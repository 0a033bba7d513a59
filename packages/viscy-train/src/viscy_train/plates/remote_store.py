"""Remote store: the objects below a URL as a store of zarr-python."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, override

from zarr.storage import ObjectStore

from viscy_train.plates.metadata_files import METADATA_FILES
from viscy_train.remote.failures import AccessDeniedError
from viscy_train.remote.object_store import client, list_directory, repeat_async

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    from zarr.abc.store import ByteRequest
    from zarr.core.buffer import Buffer, BufferPrototype

    from viscy_train.remote.path import RemotePath
    from viscy_train.remote.url import Url


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
