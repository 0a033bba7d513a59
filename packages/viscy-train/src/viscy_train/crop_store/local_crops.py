"""Local crops: crops of an array on a local file system, each decoded from its shard into the place where it is needed.

tensorstore, which reads stores at URLs, takes twice the CPU time: it looks up each crop of a shard on its own, and
decodes it into memory of its own first.
"""

from __future__ import annotations

import os
import threading
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np

from viscy_train.crop_store.crop_array import CHECKSUM_BYTES, INDEX_BYTES_PER_CROP, NO_CROP

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

    from viscy_train.crop_store.header import CropArray

# A named pipe in place of a shard would block.
_FLAGS = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_CLOEXEC", 0)
# Memory for the indices of shards.
_INDEX_BYTES = 16 * 2**20
# The header of Blosc's format says how many bytes are decoded, in bytes 4 to 8.
_HEADER_BYTES, _SIZE = 16, slice(4, 8)


class LocalCrops:
    """The crops of an array.

    Parameters
    ----------
    directory : pathlib.Path
        Directory of the array, whose metadata are those of `crop_array.metadata_of`.
    array : CropArray
        Its type, shape and shards.

    Notes
    -----
    Threads may read at the same time: files are read and crops decoded without Python's lock. Files are only open
    while they are read.
    """

    def __init__(self, directory: Path, array: CropArray) -> None:
        # Importing all codecs takes a tenth of a second, which commands that read no crop save.
        import google_crc32c
        from numcodecs import blosc

        self._directory, self._array = str(directory), array
        self._stored_type = np.dtype(array.data_type).newbyteorder("<")
        self._checksum, self._decode = google_crc32c.value, blosc.decompress
        index_bytes = INDEX_BYTES_PER_CROP * array.crops_per_shard
        self._index_of = lru_cache(max(1, _INDEX_BYTES // index_bytes))(self._read_index)
        self._thread = threading.local()

    def __getitem__(self, indices: NDArray[np.int64]) -> NDArray[Any]:
        """Return crops, shape (n, n_channels, n_slices, n_rows, n_columns).

        Raises
        ------
        OSError
            If a file cannot be read.
        ValueError
            If a file is cut, or a crop is missing or differs from its checksum.
        """
        crops = np.empty((len(indices), *self._array.shape[1:]), dtype=self._stored_type)
        targets = crops.view(np.uint8).reshape(len(indices), self._array.crop_bytes)
        shard, within = np.divmod(indices, self._array.crops_per_shard)
        order = np.lexsort((within, shard))
        starts = np.flatnonzero(np.diff(shard[order], prepend=-1))
        for part in np.split(order, starts[1:]) if len(order) else []:
            self._read_crops(int(shard[part[0]]), within[part], targets, part)
        return crops.astype(self._array.data_type, copy=False)

    def _read_crops(
        self, shard: int, within: NDArray[np.int64], targets: NDArray[np.uint8], slots: NDArray[np.int64]
    ) -> None:
        """Read crops of one shard, given their numbers in it, into some rows of an array of bytes."""
        places = self._index_of(shard)[within].tolist()
        descriptor = self._open(shard)
        try:
            for (begin, length), slot in zip(places, slots.tolist(), strict=True):
                if begin == NO_CROP:
                    raise ValueError("a crop is missing")
                self._decode_into(targets[slot], self._verified(descriptor, begin, length))
        finally:
            os.close(descriptor)

    def _decode_into(self, target: NDArray[np.uint8], encoded: NDArray[np.uint8]) -> None:
        size = int.from_bytes(encoded[_SIZE].tobytes(), "little")
        if len(encoded) < _HEADER_BYTES or size != len(target):
            raise ValueError(f"a crop must have {len(target)} bytes, got {size}")
        self._decode(encoded, target)

    def _verified(self, descriptor: int, begin: int, length: int) -> NDArray[np.uint8]:
        """Return a part of a file without the checksum at its end, in memory that this thread uses again."""
        content = self._scratch(length)
        if length < CHECKSUM_BYTES or os.preadv(descriptor, [content.data], begin) < length:
            raise ValueError("the file is cut")
        body, checksum = content[:-CHECKSUM_BYTES], content[-CHECKSUM_BYTES:]
        if self._checksum(body) != int.from_bytes(checksum.tobytes(), "little"):
            raise ValueError("a checksum is wrong")
        return body

    def _read_index(self, shard: int) -> NDArray[np.uint64]:
        """Return begin and length of each crop of a shard, shape (crops_per_shard, 2)."""
        length = INDEX_BYTES_PER_CROP * self._array.crops_per_shard + CHECKSUM_BYTES
        descriptor = self._open(shard)
        try:
            index = self._verified(descriptor, max(0, os.fstat(descriptor).st_size - length), length)
        finally:
            os.close(descriptor)
        return index.copy().view("<u8").reshape(-1, 2)

    def _open(self, shard: int) -> int:
        return os.open(os.path.join(self._directory, self._array.shard_name(shard)), _FLAGS)

    def _scratch(self, length: int) -> NDArray[np.uint8]:
        if getattr(self._thread, "content", np.empty(0)).size < length:
            self._thread.content = np.empty(length, np.uint8)
        return self._thread.content[:length]
