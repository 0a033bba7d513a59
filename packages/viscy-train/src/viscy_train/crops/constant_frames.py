"""Constant frames: those with a channel that has one value in all pixels, such as dropped and saturated frames.

A plane is one slice of one channel in one frame. It is constant if all its stored pixels have the same value, whatever
the value; missing and damaged chunks do not count. Only as many chunks are read as are needed to find two different
values: one chunk of most planes, and none where the size of a chunk shows that its pixels differ.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from itertools import product
from typing import TYPE_CHECKING, Any

import numpy as np

from viscy_train.plates.stored_chunks import constant_chunk_size

if TYPE_CHECKING:
    from collections.abc import Generator, Iterable

    from numpy.typing import NDArray

    from viscy_train.plates.image_array import ImageArray, Region
    from viscy_train.plates.pixels import Pending, Pixels
    from viscy_train.plates.stored_chunks import StoredChunks

    # Constant frames, and damaged ones.
    type _Frames = tuple[NDArray[np.int64], NDArray[np.int64]]
    # Receives the pixels of each region that it yields, or an error.
    type _Search = Generator[Region, Any, _Frames]

# A chunk that takes more than this many times the bytes of a constant one is not constant. The sizes of constant chunks
# differ between values and between versions of a codec, but far less; images rarely compress to a fiftieth.
_MARGIN = 4
# Chunks of several slices are read up to this size.
_MAX_BYTES = 32 * 2**20
_MAX_BYTES_IN_FLIGHT = 256 * 2**20
_MAX_READS_IN_FLIGHT = 16


@dataclass(frozen=True, kw_only=True)
class ScreenedArray:
    """An array in which constant frames are searched, and how the sizes of its chunks are used.

    Parameters
    ----------
    pixels : Pixels
        Pixels of the array.
    stored : StoredChunks
        Its chunks.
    shape : tuple of int
        Its shape, (n_frames, n_channels, n_slices, height, width).
    chunk : tuple of int
        Size of a chunk along each axis.
    largest_constant : int, optional
        A larger chunk has pixels of different values in all planes that matter. None if size says nothing.
    max_in_flight : int
        Number of chunks that may be read at the same time.
    """

    pixels: Pixels
    stored: StoredChunks
    shape: tuple[int, ...]
    chunk: tuple[int, ...]
    largest_constant: int | None
    max_in_flight: int


def screened_array(array: ImageArray, pixels: Pixels, stored: StoredChunks, *, thorough: bool) -> ScreenedArray:
    """Return an array to search for constant frames.

    Parameters
    ----------
    array : ImageArray
        The array.
    pixels : Pixels
        Its pixels.
    stored : StoredChunks
        Its chunks.
    thorough : bool
        Whether to find a slice that is constant in a chunk of several slices of which others are not, even if
        chunks take more than 32 MiB in memory. Then every chunk must be read.

    Returns
    -------
    ScreenedArray
        The array. The sizes of chunks are only used if each contains a single frame and channel, and is not larger
        than the image.
    """
    n_bytes = array.stored.chunk_bytes
    frames, channels, slices, *_ = array.chunks
    one_plane = frames == channels == 1 and (slices == 1 or (n_bytes > _MAX_BYTES and not thorough))
    inside = all(n <= total for n, total in zip(array.chunks, array.shape, strict=True))
    return ScreenedArray(
        pixels=pixels,
        stored=stored,
        shape=array.shape,
        chunk=array.chunks,
        largest_constant=_MARGIN * constant_chunk_size(array.stored) if one_plane and inside else None,
        max_in_flight=int(np.clip(_MAX_BYTES_IN_FLIGHT // max(n_bytes, 1), 1, _MAX_READS_IN_FLIGHT)),
    )


def find_constant_frames(
    array: ScreenedArray, frames: NDArray[np.int64], channels: list[int], z: slice
) -> tuple[list[int], set[int]]:
    """Find the frames with a constant plane.

    Parameters
    ----------
    array : ScreenedArray
        The array.
    frames : numpy.ndarray
        Frames to search, unique and ascending.
    channels : list of int
        Channels to search.
    z : slice
        Slices to search.

    Returns
    -------
    constant : list of int
        The frames in which at least one slice of one of the channels is constant.
    damaged : set of int
        Frames of which a chunk was found that cannot be read.
    """
    size = array.chunk
    blocks = product(
        _split(frames, size[0]), _split(sorted(channels), size[1]), _split(range(z.start, z.stop), size[2])
    )
    results = list(_run([_search(array, block) for block in blocks], array))
    constant, damaged = ({frame for result in results for frame in result[part].tolist()} for part in (0, 1))
    return sorted(constant), damaged


def _split(indices: Any, size: int) -> list[NDArray[np.int64]]:
    """Split ascending indices along an axis into those of each chunk."""
    values = np.asarray(indices, dtype=np.int64)
    return np.split(values, np.flatnonzero(np.diff(values // size)) + 1) if len(values) else []


def _run(searches: Iterable[_Search], array: ScreenedArray) -> Generator[_Frames]:
    """Run searches, with several reads at the same time, and yield their results."""
    waiting = deque((search, None) for search in searches)
    reading: deque[tuple[_Search, Pending]] = deque()
    while waiting or reading:
        search, pixels = waiting.popleft() if waiting else _finish(*reading.popleft())
        try:
            reading.append((search, array.pixels.request(search.send(pixels))))
        except StopIteration as end:
            yield end.value
        if len(reading) >= array.max_in_flight:
            waiting.appendleft(_finish(*reading.popleft()))


def _finish(search: _Search, pending: Pending) -> tuple[_Search, Any]:
    """Return a search and the pixels it waits for, or an error in their place if they cannot be read."""
    try:
        return search, np.asarray(pending.result())
    except Exception as error:  # many types: those of tensorstore, zarr and each codec
        return search, error


def _search(array: ScreenedArray, block: tuple[NDArray[np.int64], ...]) -> _Search:
    """Search the planes that share chunks: yield regions to read; return the constant and the damaged frames."""
    frames, channels, _ = block
    none = damaged = frames[:0]
    selected = np.ix_(frames - frames[0], channels - channels[0])
    values: NDArray | None = None
    constant = np.ones([len(indices) for indices in block], dtype=bool)
    for row, column in _from_the_middle(array):
        chunk = (*(int(indices[0]) // n for indices, n in zip(block, array.chunk[:3], strict=True)), row, column)
        n_stored = array.stored.size(chunk)
        if n_stored == 0:
            continue
        if array.largest_constant is not None and n_stored > array.largest_constant and _is_full(array, chunk):
            return none, damaged
        pixels = yield _region(array, block, row, column)
        if isinstance(pixels, Exception):
            damaged = frames
            continue
        pixels = pixels[selected]
        values = pixels[..., :1, :1] if values is None else values
        constant &= _equal(pixels, values).all(axis=(3, 4))
        if not constant.any():
            return none, damaged
    return none if values is None else frames[constant.any(axis=(1, 2))], damaged


def _equal(pixels: NDArray, value: NDArray) -> NDArray[np.bool_]:
    """Return where pixels have a value; NaN equals NaN."""
    equal = pixels == value
    return equal | (np.isnan(pixels) & np.isnan(value)) if pixels.dtype.kind == "f" else equal


def _from_the_middle(array: ScreenedArray) -> Generator[tuple[int, int]]:
    """Yield the rows and columns of chunks in the order in which they are read: first the one in the middle."""
    n_rows, n_columns = (-(-total // n) for total, n in zip(array.shape[3:], array.chunk[3:], strict=True))
    return ((row, column) for row in _outward(n_rows) for column in _outward(n_columns))


def _outward(n: int) -> Generator[int]:
    """Yield the numbers below n, from the middle outward."""
    # Of an even number of chunks, the last may be smaller.
    middle = (n - 1) // 2
    for distance in range(n):
        if distance <= middle:
            yield middle - distance
        if 0 < distance < n - middle:
            yield middle + distance


def _is_full(array: ScreenedArray, chunk: tuple[int, ...]) -> bool:
    """Return whether a chunk is inside the array: one that extends beyond it is padded with another value."""
    return all((i + 1) * n <= total for i, n, total in zip(chunk, array.chunk, array.shape, strict=True))


def _region(array: ScreenedArray, block: tuple[NDArray[np.int64], ...], row: int, column: int) -> Region:
    frames, channels, z = (slice(int(indices[0]), int(indices[-1]) + 1) for indices in block)
    down, right = array.chunk[3:]
    rows = slice(row * down, min((row + 1) * down, array.shape[3]))
    columns = slice(column * right, min((column + 1) * right, array.shape[4]))
    return frames, channels, z, rows, columns
