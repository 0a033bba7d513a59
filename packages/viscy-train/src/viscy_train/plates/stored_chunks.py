"""Stored chunks: which chunks of an array exist in its store, and how many bytes they take."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from viscy_train.plates.access import files_of
from viscy_train.plates.zarr_codecs import zarr_codecs

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from viscy_train.plates.image_array import ImageArray
    from viscy_train.plates.stored_array import StoredArray

# What the index of a shard gives for a chunk it lacks.
_NO_CHUNK = np.iinfo(np.uint64).max
_CHECKSUM_BYTES = 4
_SHARDING = "sharding_indexed"


class StoredChunks:
    """The chunks of an array that exist.

    Parameters
    ----------
    image : ImageArray
        Array of zarr 2 or 3, with or without shards.
    """

    def __init__(self, image: ImageArray) -> None:
        array = image.stored
        self._of_stored = image.of_stored
        self._files = files_of(array.directory)
        self._key = array.chunk_key
        self._index = _ShardIndex.of(array)
        self._sizes: dict[tuple[int, ...], int] = {}
        self._shards: dict[tuple[int, ...], NDArray[np.uint64]] = {}
        codecs = array.codecs
        # Whether `size` knows about every chunk. If a shard contains shards, or its pixels are transposed, or its
        # index is encoded in another way than all known writers do, a chunk missing from it is not noticed.
        self.are_known = not _count_shardings(codecs) or (self._index is not None and _count_shardings(codecs) == 1)

    def size(self, chunk: tuple[int, ...]) -> int:
        """Return how many bytes a chunk takes, given its index along each axis; 0 if it is missing.

        Raises
        ------
        UserError
            If the chunk is not a regular file.
        """
        chunk = self._of_stored(chunk)
        if self._index is None:
            return self._file_size(chunk)
        shard, within = zip(*(divmod(i, n) for i, n in zip(chunk, self._index.shape, strict=True)), strict=True)
        if shard not in self._shards:
            self._shards[shard] = self._read_index(shard, self._index)
        return int(self._shards[shard][within])

    def __contains__(self, chunk: tuple[int, ...]) -> bool:
        """Return whether a chunk exists, given its index along each axis."""
        return self.size(chunk) > 0

    def _file_size(self, chunk: tuple[int, ...]) -> int:
        if chunk not in self._sizes:
            self._sizes[chunk] = self._files.size(self._key(chunk))
        return self._sizes[chunk]

    def _read_index(self, shard: tuple[int, ...], index: _ShardIndex) -> NDArray[np.uint64]:
        size = self._file_size(shard)
        if size == 0:
            return np.zeros(index.shape, dtype=np.uint64)
        return index.parse(self._files.read(self._key(shard), *index.place(size)))


@dataclass(frozen=True, kw_only=True)
class _ShardIndex:
    """The index of each shard of an array.

    Parameters
    ----------
    shape : tuple of int
        Number of chunks in a shard along each axis.
    at_end : bool
        Whether the index is at the end of a shard, or at its start.
    byte_order : {"<", ">"}
        Byte order of the index.
    has_checksum : bool
        Whether a checksum follows the index.
    """

    shape: tuple[int, ...]
    at_end: bool
    byte_order: str
    has_checksum: bool

    @classmethod
    def of(cls, array: StoredArray) -> _ShardIndex | None:
        """Return the index of an array whose outermost codec is sharding, or None for other arrays."""
        if array.shards is None:
            return None
        sharding = array.codecs[0]["configuration"]
        names = [codec["name"] for codec in sharding["index_codecs"]]
        if names not in (["bytes"], ["bytes", "crc32c"]):
            return None
        endian = sharding["index_codecs"][0].get("configuration", {}).get("endian", "little")
        return cls(
            shape=tuple(n // m for n, m in zip(array.shards, array.chunks, strict=True)),
            at_end=sharding.get("index_location", "end") == "end",
            byte_order=">" if endian == "big" else "<",
            has_checksum="crc32c" in names,
        )

    @property
    def _length(self) -> int:
        return 16 * int(np.prod(self.shape))

    def place(self, file_size: int) -> tuple[int, int]:
        """Return where the index begins in a shard, and how many bytes it takes."""
        at_end = max(0, file_size - self._length - _CHECKSUM_BYTES * self.has_checksum)
        return (at_end if self.at_end else 0), self._length

    def parse(self, content: bytes) -> NDArray[np.uint64]:
        """Return how many bytes each chunk of a shard takes, 0 for those it lacks."""
        # A truncated shard fails when its pixels are read.
        if len(content) < self._length:
            return np.full(self.shape, _NO_CHUNK)
        offset, size = np.frombuffer(content, dtype=f"{self.byte_order}u8").reshape(-1, 2).T
        return np.where(offset == _NO_CHUNK, 0, np.maximum(size, 1)).astype(np.uint64).reshape(self.shape)


def constant_chunk_size(array: StoredArray) -> int:
    """Return how many bytes a chunk takes that has the same value in all pixels.

    Parameters
    ----------
    array : StoredArray
        Gives the shape, data type and codecs of the chunk. A chunk in a shard is encoded as one without shards.

    Returns
    -------
    int
        Number of bytes after encoding, for one of many possible values. It is that of all pixels for arrays that are
        not compressed, and for those whose codecs cannot encode.
    """
    if not array.is_encoded:
        return array.chunk_bytes
    import zarr

    store: dict[str, Any] = {}
    opened = array.opened
    codecs: dict[str, Any] = {"serializer": opened.serializer} if array.version == 3 else {"order": opened.order}
    with zarr_codecs(), zarr.config.set({"array.write_empty_chunks": True}):
        try:
            chunk = zarr.create_array(
                store,
                shape=array.chunks,
                chunks=array.chunks,
                dtype=array.dtype,
                filters=opened.filters or None,
                compressors=opened.compressors or None,
                zarr_format=array.version,
                **codecs,
            )
            metadata = set(store)
            chunk[...] = 1
        except Exception:  # many types, depending on the codec
            return array.chunk_bytes
    return sum(len(content) for key, content in store.items() if key not in metadata)


def _count_shardings(codecs: Sequence[dict[str, Any]]) -> int:
    shardings = [codec["configuration"] for codec in codecs if codec.get("name") == _SHARDING]
    return len(shardings) + sum(_count_shardings(list(sharding["codecs"])) for sharding in shardings)
