"""Chunks: which of those that crops need are missing from a plate; zarr would read a fill value without a word."""

from __future__ import annotations

import os
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

# What the index of a shard says of a chunk that is not in it, and the length of the checksum after the index.
_NOT_THERE = np.iinfo(np.uint64).max
_CHECKSUM = 4


def lie_in_missing_chunks(
    image: Any,
    frames: NDArray[np.int64],
    channels: list[int],
    z: slice,
    top: NDArray[np.int64],
    left: NDArray[np.int64],
    side: int,
) -> NDArray[np.bool_]:
    """Tell which crops need a chunk that is not there.

    Parameters
    ----------
    image : iohub.ngff.nodes.ImageArray
        Of a plate on a file system, of zarr 2 or 3, sharded or not; elsewhere no chunk is taken to be missing.
    frames, top, left : numpy.ndarray
        Frame, first row and first column of each crop, shape (n_crops,).
    channels : list of int
        Those that crops have.
    z : slice
        Slices that crops have.
    side : int
        Of a crop, in pixels.

    Returns
    -------
    numpy.ndarray
        Shape (n_crops,). A chunk in which every pixel is the fill value is as a rule not stored, so it is missing, too.
    """
    missing = np.zeros(len(frames), dtype=bool)
    array = image.native
    if getattr(array.store, "root", None) is None:
        return missing
    stored = _Stored(array)
    size = array.chunks
    stacks = list(
        product(sorted({channel // size[1] for channel in channels}), range(z.start // size[2], -(-z.stop // size[2])))
    )
    last_row, last_column = (top + side - 1) // size[3], (left + side - 1) // size[4]
    # A crop lies in at most so many chunks along each axis.
    for down, right in product(range((side - 2) // size[3] + 2), range((side - 2) // size[4] + 2)):
        row, column = top // size[3] + down, left // size[4] + right
        inside = np.flatnonzero((row <= last_row) & (column <= last_column))
        places = np.stack([frames // size[0], row, column], axis=1)[inside]
        wanted, which = np.unique(places, axis=0, return_inverse=True)
        lacking = [
            not all(stored.has((frame, channel, slice_, row, column)) for channel, slice_ in stacks)
            for frame, row, column in wanted.tolist()
        ]
        missing[inside] |= np.array(lacking, dtype=bool)[which.ravel()]
    return missing


class _Stored:
    """Chunks of an array that are on the file system.

    Parameters
    ----------
    array : zarr.Array
        Of five axes, in a `zarr.storage.LocalStore`.
    """

    def __init__(self, array: Any) -> None:
        self._folder = str(Path(array.store.root) / array.path)
        self._key = array.metadata.encode_chunk_key
        # Chunks in a shard, along each axis.
        self._ratio = tuple(n // m for n, m in zip(array.shards, array.chunks, strict=True)) if array.shards else None
        # A string in newer releases of zarr, an enum in older ones.
        location = getattr(array.metadata.codecs[0], "index_location", "end") if self._ratio else "end"
        self._at_end = getattr(location, "value", location) == "end"
        self._indices: dict[tuple[int, ...], NDArray[np.bool_] | None] = {}

    def has(self, place: tuple[int, ...]) -> bool:
        """Tell whether a chunk is there, given its place among the chunks along each axis."""
        if self._ratio is None:
            return os.path.exists(self._path(place))
        shard, within = zip(*(divmod(p, n) for p, n in zip(place, self._ratio, strict=True)), strict=True)
        if shard not in self._indices:
            self._indices[shard] = self._read_index(self._path(shard))
        index = self._indices[shard]
        return index is not None and bool(index[within])

    def _path(self, place: tuple[int, ...]) -> str:
        return os.path.join(self._folder, self._key(place))

    def _read_index(self, path: str) -> NDArray[np.bool_] | None:
        """Return which chunks a shard holds; None where there is no shard."""
        assert self._ratio is not None
        n = int(np.prod(self._ratio))
        length = 16 * n
        try:
            with open(path, "rb") as file:
                if self._at_end:
                    file.seek(max(0, os.fstat(file.fileno()).st_size - length - _CHECKSUM))
                content = file.read(length)
        except FileNotFoundError:
            return None
        # Of a shard that was cut off, reading its pixels tells.
        if len(content) < length:
            return np.ones(self._ratio, dtype=bool)
        start = np.frombuffer(content, dtype="<u8").reshape(n, 2)[:, 0]
        return (start != _NOT_THERE).reshape(self._ratio)
