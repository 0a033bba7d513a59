"""Touched blocks: which blocks of their images the crops of a batch touch, and where, for all of them at once."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from viscy_train.plates.chunk_grid import Boxes, touched_chunks

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from viscy_train.loading.blocks import BlockGrid
    from viscy_train.loading.open_position import OpenPosition
    from viscy_train.plates.image_array import Region


class Wanted(NamedTuple):
    """The crops of a batch, in the order of their images.

    `image` is the index of the image of each crop among those of `opened`, `choice` that of its channels among the
    choices, and `frame` that of its frame, shape (n,); `corners` are its first slice, row and column, shape (n, 3);
    `targets` are where its pixels go, of shape (n_channels, n_slices, n_rows, n_columns).
    """

    opened: Sequence[OpenPosition]
    image: NDArray[np.int64]
    choice: NDArray[np.int64]
    frame: NDArray[np.int64]
    corners: NDArray[np.int64]
    targets: Sequence[NDArray[Any]]


@dataclass(frozen=True, kw_only=True)
class TouchedBlocks:
    """The blocks that crops touch, each once, and the pairs of a crop and a block that it touches.

    Parameters
    ----------
    numbers, image, choice : numpy.ndarray
        Number of each block among those of all images, and its image and choice of channels, shape (n_blocks,).
    index : numpy.ndarray
        Its index along the axes T, Z, Y and X, shape (n_blocks, 4).
    crop, block : numpy.ndarray
        Which crop and block are a pair, shape (n_pairs,).
    firsts, lasts : numpy.ndarray
        Where the part begins and ends that they have in common, along Z, Y and X, shape (n_pairs, 3).
    origins : numpy.ndarray
        Where the block begins, along T, Z, Y and X, shape (n_pairs, 4).
    """

    numbers: NDArray[np.int64]
    image: NDArray[np.int64]
    choice: NDArray[np.int64]
    index: NDArray[np.int64]
    crop: NDArray[np.int64]
    block: NDArray[np.int64]
    firsts: NDArray[np.int64]
    lasts: NDArray[np.int64]
    origins: NDArray[np.int64]

    @classmethod
    def of(cls, wanted: Wanted, crops: NDArray[np.int64]) -> TouchedBlocks:
        """Return the blocks that some crops touch, whose images have blocks of one size."""
        grid = wanted.opened[wanted.image[crops[0]]].grid
        corners, lengths = wanted.corners[crops], wanted.targets[crops[0]].shape[1:]
        boxes = Boxes(
            frames=wanted.frame[crops],
            first_slices=corners[:, 0] if grid.slices is None else np.zeros(len(crops), dtype=np.int64),
            tops=corners[:, 1],
            lefts=corners[:, 2],
            n_slices=lengths[0] if grid.slices is None else 1,
            height=lengths[1],
            width=lengths[2],
        )
        touched = touched_chunks(boxes, grid.size)
        crop, corner = crops[touched.box], corners[touched.box]
        numbers = _number(wanted, crop, touched.chunk)
        blocks, first, block_of_pair = np.unique(numbers, return_index=True, return_inverse=True)
        origins = touched.chunk * grid.size
        firsts = np.maximum(corner, origins[:, 1:])
        lasts = np.minimum(corner + lengths, origins[:, 1:] + grid.size[1:])
        if grid.slices is not None:  # which every crop has completely, and every block begins with
            origins[:, 1] = firsts[:, 0] = corner[:, 0]
            lasts[:, 0] = corner[:, 0] + lengths[0]
        return cls(
            numbers=blocks,
            image=wanted.image[crop[first]],
            choice=wanted.choice[crop[first]],
            index=touched.chunk[first],
            crop=crop,
            block=block_of_pair,
            firsts=firsts,
            lasts=lasts,
            origins=origins,
        )

    def region(self, grid: BlockGrid, block: int) -> Region:
        """Return the region of a block in its image."""
        return grid.region(int(self.choice[block]), tuple(self.index[block].tolist()))


def _number(wanted: Wanted, crop: NDArray[np.int64], index: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return the number of blocks among those of all images, given crops that touch them and their indices."""
    image = wanted.image[crop]
    counts = np.array([at.grid.counts for at in wanted.opened])[image]
    number = wanted.choice[crop]
    for axis in range(4):
        number = number * counts[:, 1 + axis] + index[:, axis]
    return number + np.array([at.first_block for at in wanted.opened])[image]
