"""Blocks: the chunks of an image that crops need of one place, with all their channels, read and kept together."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from viscy_train.crops.window import CropWindow
    from viscy_train.plates.image_array import ImageArray, Region

type Channels = NDArray[np.int64] | slice


@dataclass(frozen=True, kw_only=True)
class BlockGrid:
    """The blocks of an image.

    Parameters
    ----------
    shape, size : tuple of int
        Size of the image and of a block along the axes T, Z, Y and X.
    slices : slice, optional
        The slices in each block if all crops have the same; then `size` has all slices of the image.
    choices : list of numpy.ndarray or slice
        Indices of the channels of a block; there are several choices if each crop has one channel of many.
    n_channels : int
        Number of channels of each choice.
    n_chunks, n_deep : int
        Number of chunks of a block, of all channels, and along the axis Z.
    chunk_bytes : int
        Number of bytes of a decoded chunk.
    itemsize : int
        Number of bytes of a pixel.
    """

    shape: tuple[int, int, int, int]
    size: tuple[int, int, int, int]
    slices: slice | None
    choices: list[Channels]
    n_channels: int
    n_chunks: int
    n_deep: int
    chunk_bytes: int
    itemsize: int

    @cached_property
    def counts(self) -> tuple[int, int, int, int, int]:
        """Number of choices, and of blocks along each axis."""
        along = (-(-n // size) for n, size in zip(self.shape, self.size, strict=True))
        return (len(self.choices), *along)  # ty: ignore[invalid-explicit-return]

    @property
    def n_blocks(self) -> int:
        """Number of blocks."""
        return int(np.prod(self.counts))

    @cached_property
    def n_bytes(self) -> int:
        """Number of bytes of a block, of those at the border at most."""
        n_slices = self.size[1] if self.slices is None else self.slices.stop - self.slices.start
        frames, _, rows, columns = self.size
        return frames * n_slices * rows * columns * self.n_channels * self.itemsize

    def region(self, choice: int, block: tuple[int, int, int, int]) -> Region:
        """Return the region of a block, given its index along the axes T, Z, Y and X."""
        frames, z, y, x = (
            slice(index * size, min((index + 1) * size, n))
            for index, size, n in zip(block, self.size, self.shape, strict=True)
        )
        return frames, self.choices[choice], z if self.slices is None else self.slices, y, x


def block_grid(image: ImageArray, window: CropWindow, choices: list[Channels]) -> BlockGrid:
    """Return the blocks of an image, given what crops cover of it and which channels they have."""
    chunks, shape = image.chunks, image.shape
    is_fixed = window.mode in ("middle", "maximum")
    slices = window.reachable if is_fixed else None
    size = [min(chunks[axis], shape[axis]) for axis in (0, 2, 3, 4)]
    n_deep = 1
    if slices is not None:
        size[1] = shape[2]
        n_deep = (slices.stop - 1) // chunks[2] - slices.start // chunks[2] + 1
    channels = np.arange(shape[1])[choices[0]]
    return BlockGrid(
        shape=(shape[0], *shape[2:]),  # ty: ignore[invalid-argument-type]
        size=tuple(size),  # ty: ignore[invalid-argument-type]
        slices=slices,
        choices=choices,
        n_channels=len(channels),
        n_deep=n_deep,
        n_chunks=n_deep * len(np.unique(channels // chunks[1])),
        chunk_bytes=int(np.prod(chunks)) * image.dtype.itemsize,
        itemsize=image.dtype.itemsize,
    )
