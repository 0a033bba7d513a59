"""Channel: one channel of an image as an array that is read where it is looked at."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import DTypeLike, NDArray

    from viscy_train.plates.image_array import ImageArray
    from viscy_train.plates.pixels import PixelReader


class Channel:
    """A channel of an image, shape (n_frames, n_slices, height, width), or without slices if there is one.

    Parameters
    ----------
    reader : PixelReader
        Reads its pixels.
    image : ImageArray
        The image.
    index : int
        Index of the channel in the image.
    """

    def __init__(self, reader: PixelReader, image: ImageArray, index: int) -> None:
        self._pixels, self._index = reader.open(image, fill_missing=True), index
        n_frames, _, n_slices, *size = image.shape
        self._has_slices = n_slices > 1
        self.shape: tuple[int, ...] = (n_frames, n_slices, *size) if self._has_slices else (n_frames, *size)
        self.dtype = image.dtype.newbyteorder("=")

    @property
    def ndim(self) -> int:
        """Number of axes."""
        return len(self.shape)

    @property
    def size(self) -> int:
        """Number of pixels."""
        return int(np.prod(self.shape))

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, index: Any) -> NDArray[Any]:
        """Read a part, given an integer or a slice for some of the axes."""
        parts = list(index) if isinstance(index, tuple) else [index]
        if Ellipsis in parts:
            where = parts.index(Ellipsis)
            parts[where : where + 1] = [slice(None)] * (self.ndim - len(parts) + 1)
        parts += [slice(None)] * (self.ndim - len(parts))
        ranges = [_as_range(part, n) for part, n in zip(parts, self.shape, strict=True)]
        t, z, y, x = ranges if self._has_slices else [ranges[0], range(1), *ranges[1:]]
        channel = slice(self._index, self._index + 1)
        region = (_covering(t), channel, _covering(z), _covering(y), _covering(x))
        pixels = np.asarray(self._pixels.request(region).result())[:, 0]
        pixels = pixels[tuple(_within(one) for one in (t, z, y, x))]
        pixels = pixels if self._has_slices else pixels[:, 0]
        return pixels[tuple(slice(None) if isinstance(part, slice) else 0 for part in parts)].astype(self.dtype)

    def __array__(self, dtype: DTypeLike | None = None, copy: bool | None = None) -> NDArray[Any]:
        """Read everything."""
        return self[()].astype(dtype or self.dtype)


def _as_range(part: Any, n: int) -> range:
    if isinstance(part, slice):
        return range(*part.indices(n))
    number = range(n)[int(part)]  # counts from the end where negative
    return range(number, number + 1)


def _covering(numbers: range) -> slice:
    """Return the smallest slice with all numbers."""
    return slice(min(numbers), max(numbers) + 1) if numbers else slice(0, 0)


def _within(numbers: range) -> slice:
    """Return the numbers as a slice of the smallest slice with all of them."""
    return slice(None, None, numbers.step) if numbers else slice(0, 0)
