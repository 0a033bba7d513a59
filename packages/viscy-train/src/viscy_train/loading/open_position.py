"""Open position: the image of a position, opened by this process, and how crops are read from it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from viscy_train.crops.window import CropWindow
    from viscy_train.loading.blocks import BlockGrid
    from viscy_train.plates.pixels import Pixels
    from viscy_train.plates.row_pixels import RowPixels


@dataclass(frozen=True, kw_only=True)
class OpenPosition:
    """The image of a position, and the part of it that a crop covers.

    Parameters
    ----------
    pixels : Pixels
        Its pixels.
    rows : RowPixels or None
        Its pixels, if its chunks are stored as they lie in memory.
    window : CropWindow
        What a crop covers.
    grid : BlockGrid
        Its chunks.
    channels : list of list of int
        Indices of the channels that a crop may have.
    dtype : numpy.dtype
        Type of the pixels in memory.
    first_block : int
        Number of its first block among those of all images that this process has opened.
    window_number, kind, layout : int
        Equal for images with the same window; whose crops have the same type and size and become crops in the same
        way; and that also have blocks of the same size.
    """

    pixels: Pixels
    rows: RowPixels | None
    window: CropWindow
    grid: BlockGrid
    channels: list[list[int]]
    dtype: np.dtype[Any]
    first_block: int
    window_number: int
    kind: int
    layout: int


def kind_of(window: CropWindow, dtype: np.dtype[Any]) -> Any:
    """Return what images have in common whose crops have the same type and size and become crops in the same way."""
    # Where no pixel is resampled, the size of the image does not matter.
    return dtype, (window.z.n_read, *window.sides), None if window.is_projected_only else window
