"""Missing chunks: those that crops need and the plate lacks, which zarr would silently read as the fill value."""

from __future__ import annotations

import os
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

# The offset that the index of a shard gives for a chunk it lacks, and the size of the checksum after the index.
_NO_CHUNK = np.iinfo(np.uint64).max
_CHECKSUM_BYTES = 4


def need_missing_chunks(
    image: Any,
    frames: NDArray[np.int64],
    channels: list[int],
    z: slice,
    top: NDArray[np.int64],
    left: NDArray[np.int64],
    side: int,
) -> NDArray[np.bool_]:
    """Return which crops need at least one chunk that is missing.

    Parameters
    ----------
    image : iohub.ngff.nodes.ImageArray
        An array on a file system, zarr 2 or 3, with or without shards. In other stores, no chunk counts as missing.
    frames, top, left : numpy.ndarray
        Frame, first row and first column of each crop, shape (n_crops,).
    channels : list of int
        Indices of the channels in a crop.
    z : slice
        Slices in a crop.
    side : int
        Side of a crop, in pixels.

    Returns
    -------
    numpy.ndarray
        True where a chunk is missing, shape (n_crops,). Writers usually skip a chunk whose pixels all have the fill
        value, so such a chunk is missing, too.
    """
    missing = np.zeros(len(frames), dtype=bool)
    array = image.native
    if getattr(array.store, "root", None) is None:
        return missing
    stored = _StoredChunks(array)
    size = array.chunks
    stacks = list(
        product(sorted({channel // size[1] for channel in channels}), range(z.start // size[2], -(-z.stop // size[2])))
    )
    last_row, last_column = (top + side - 1) // size[3], (left + side - 1) // size[4]
    # Along an axis, a crop overlaps at most (side - 2) // size + 2 chunks.
    for down, right in product(range((side - 2) // size[3] + 2), range((side - 2) // size[4] + 2)):
        row, column = top // size[3] + down, left // size[4] + right
        inside = np.flatnonzero((row <= last_row) & (column <= last_column))
        indices = np.stack([frames // size[0], row, column], axis=1)[inside]
        needed, crop_to_needed = np.unique(indices, axis=0, return_inverse=True)
        incomplete = [
            not all((frame, channel, slice_, row, column) in stored for channel, slice_ in stacks)
            for frame, row, column in needed.tolist()
        ]
        missing[inside] |= np.array(incomplete, dtype=bool)[crop_to_needed.ravel()]
    return missing


class _StoredChunks:
    """The chunks of an array that exist on the file system.

    Parameters
    ----------
    array : zarr.Array
        Array with five axes, in a `zarr.storage.LocalStore`.
    """

    def __init__(self, array: Any) -> None:
        self._directory = str(Path(array.store.root) / array.path)
        self._key = array.metadata.encode_chunk_key
        # Number of chunks in a shard, along each axis.
        shard_shape = tuple(n // m for n, m in zip(array.shards or array.chunks, array.chunks, strict=True))
        self._shard_shape = shard_shape if array.shards else None
        # A string in recent releases of zarr, an enum before.
        location = getattr(array.metadata.codecs[0], "index_location", "end") if self._shard_shape else "end"
        self._index_at_end = getattr(location, "value", location) == "end"
        self._indices: dict[tuple[int, ...], NDArray[np.bool_] | None] = {}

    def __contains__(self, chunk: tuple[int, ...]) -> bool:
        """Return whether a chunk exists, given its index along each axis."""
        if self._shard_shape is None:
            return os.path.exists(self._path(chunk))
        parts = (divmod(index, n) for index, n in zip(chunk, self._shard_shape, strict=True))
        shard, within = zip(*parts, strict=True)
        if shard not in self._indices:
            self._indices[shard] = self._read_index(self._path(shard), self._shard_shape)
        index = self._indices[shard]
        return index is not None and bool(index[within])

    def _path(self, chunk: tuple[int, ...]) -> str:
        return os.path.join(self._directory, self._key(chunk))

    def _read_index(self, path: str, shard_shape: tuple[int, ...]) -> NDArray[np.bool_] | None:
        """Return which chunks a shard contains, or None if the shard does not exist."""
        n = int(np.prod(shard_shape))
        length = 16 * n
        try:
            with open(path, "rb") as file:
                if self._index_at_end:
                    file.seek(max(0, os.fstat(file.fileno()).st_size - length - _CHECKSUM_BYTES))
                content = file.read(length)
        except FileNotFoundError:
            return None
        # A truncated shard fails when its pixels are read.
        if len(content) < length:
            return np.ones(shard_shape, dtype=bool)
        start = np.frombuffer(content, dtype="<u8").reshape(n, 2)[:, 0]
        return (start != _NO_CHUNK).reshape(shard_shape)
