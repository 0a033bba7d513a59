"""Row pixels: boxes of arrays whose chunks are stored as they lie in memory, read without the rest of their chunks.

Of each chunk, the rows that a box touches are read with `os.preadv`. Reading each row's columns alone takes twice the
CPU time, because a call costs as much as copying several kilobytes. Mapping the files takes a third of it, but a file
that is cut while it is mapped ends the process.
"""

from __future__ import annotations

import os
import stat
import threading
from typing import TYPE_CHECKING, Any

import numpy as np

from viscy_train.remote.path import is_remote

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from viscy_train.plates.image_array import ImageArray
    from viscy_train.plates.stored_array import StoredArray

# A named pipe in place of a chunk would block, and is refused by its size instead.
_FLAGS = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_CLOEXEC", 0)


class RowPixels:
    """The pixels of an array whose chunks are neither compressed nor sharded.

    Parameters
    ----------
    image : ImageArray
        The array.
    stored_type : numpy.dtype
        Type of the pixels in its chunks, with their byte order.

    Notes
    -----
    Threads may read at the same time. Files are only open while they are read.
    """

    def __init__(self, image: ImageArray, stored_type: np.dtype[Any]) -> None:
        self._directory = str(image.stored.directory)
        self._key = image.stored.chunk_key
        self._of_stored = image.of_stored
        self._chunks, self._type = image.chunks, stored_type
        self._chunk_bytes = int(np.prod(image.chunks)) * stored_type.itemsize
        self._thread = threading.local()

    def read_into(
        self, crop: NDArray[Any], frame: int, channels: Sequence[int], z: int, top: int, left: int
    ) -> tuple[int, int]:
        """Read a box.

        Parameters
        ----------
        crop : numpy.ndarray
            Where its pixels go, shape (n_channels, n_slices, height, width).
        frame, z, top, left : int
            Its frame, first slice, first row and first column. The box must be in the image.
        channels : sequence of int
            Indices of its channels.

        Returns
        -------
        n_chunks, n_bytes : int
            Number of chunks that were read in part, and number of bytes.

        Raises
        ------
        ValueError
            If a chunk is missing, or has another size than its pixels take.
        """
        _, n_slices, height, width = crop.shape
        frames, n_channels, depth, rows, columns = self._chunks
        n_read = n_bytes = 0
        for row, ys, ys_crop in _pieces(top, height, rows):
            for column, xs, xs_crop in _pieces(left, width, columns):
                for stack, zs, zs_crop in _pieces(z, n_slices, depth):
                    for index, channel in enumerate(channels):
                        # Planes of y and x before the first that is needed of this chunk.
                        plane = (frame % frames * n_channels + channel % n_channels) * depth
                        chunk = (frame // frames, channel // n_channels, stack, row, column)
                        target = crop[index, zs_crop, ys_crop, xs_crop]
                        n_bytes += self._read_chunk(chunk, target, plane + zs.start, ys, xs)
                        n_read += 1
        return n_read, n_bytes

    def _read_chunk(self, chunk: tuple[int, ...], target: NDArray[Any], plane: int, ys: slice, xs: slice) -> int:
        """Read rows of consecutive planes of a chunk; return the number of bytes."""
        _, _, _, height, width = self._chunks
        descriptor = self._open(self._of_stored(chunk))
        try:
            rows = self._scratch(ys.stop - ys.start, width)
            for number, of_plane in enumerate(target, plane):
                first = (number * height + ys.start) * width * self._type.itemsize
                if os.preadv(descriptor, [rows.view(np.uint8).data], first) < rows.nbytes:
                    raise ValueError(f"chunk {chunk} was cut while it was read")
                of_plane[...] = rows[:, xs]
        finally:
            os.close(descriptor)
        return len(target) * rows.nbytes

    def _open(self, chunk: tuple[int, ...]) -> int:
        """Return the descriptor of a chunk's file, which has the right size."""
        path = os.path.join(self._directory, self._key(chunk))
        index = "{" + ", ".join(map(str, chunk)) + "}"
        try:
            descriptor = os.open(path, _FLAGS)
        except (FileNotFoundError, NotADirectoryError) as error:
            raise ValueError(f'chunk {index} stored at local file "{path}" is missing') from error
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode) or status.st_size != self._chunk_bytes:
            os.close(descriptor)
            raise ValueError(
                f'chunk {index} stored at local file "{path}" must be a file of {self._chunk_bytes} bytes, got '
                f"{status.st_size}"
            )
        return descriptor

    def _scratch(self, height: int, width: int) -> NDArray[Any]:
        """Return an array of rows, whose memory the next read of this thread uses again."""
        n = height * width
        if getattr(self._thread, "pixels", np.empty(0)).size < n:
            self._thread.pixels = np.empty(n, self._type)
        return self._thread.pixels[:n].reshape(height, width)


def open_rows(image: ImageArray) -> RowPixels | None:
    """Return the pixels of an array if its chunks are stored as they lie in memory, else None."""
    stored = image.stored
    if is_remote(stored.root) or stored.dtype.kind not in "buif":
        return None
    stored_type = _uncompressed_type(stored)
    return None if stored_type is None else RowPixels(image, stored_type)


def _uncompressed_type(array: StoredArray) -> np.dtype[Any] | None:
    """Return the type of the pixels in the chunks of an array, or None if a codec changes them."""
    if array.is_encoded or array.version == 2:
        return None if array.is_encoded else array.dtype
    endian = (array.codecs[0].get("configuration") or {}).get("endian", "little")
    return array.dtype.newbyteorder(">" if endian == "big" else "<")


def _pieces(first: int, length: int, size: int) -> list[tuple[int, slice, slice]]:
    """Return which chunks a range touches along an axis: index, range in the chunk, and range in the result."""
    return [
        (
            chunk,
            slice(max(first - chunk * size, 0), min(first + length - chunk * size, size)),
            slice(max(chunk * size - first, 0), min((chunk + 1) * size - first, length)),
        )
        for chunk in range(first // size, (first + length - 1) // size + 1)
    ]
