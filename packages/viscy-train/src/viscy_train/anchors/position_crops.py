"""Position crops: where the crops of one position's observations are, and how to read their pixels."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from viscy_train.anchors.pixels import Pixels
    from viscy_train.anchors.plates import PositionImage
    from viscy_train.anchors.stored_chunks import StoredChunks


@dataclass(frozen=True, kw_only=True)
class PositionCrops:
    """The crops of one position's observations.

    Parameters
    ----------
    image : PositionImage
        Image of the position.
    stored : StoredChunks
        Chunks of the image.
    source : Pixels
        Pixels of the image, shape (n_frames, n_channels, n_slices, height, width).
    channels : list of int
        Indices of the channels in a crop.
    z : slice
        Slices in a crop.
    frame, top, left : numpy.ndarray
        Frame, first row and first column of each observation's crop, shape (n_observations,).
    side : int
        Side of a crop, in pixels.
    """

    image: PositionImage
    stored: StoredChunks
    source: Pixels
    channels: list[int]
    z: slice
    frame: NDArray[np.int64]
    top: NDArray[np.int64]
    left: NDArray[np.int64]
    side: int

    def pixels(self, frame: int, window: tuple[slice, slice] = (slice(None), slice(None))) -> NDArray[np.float32]:
        """Read a frame, or a window of it, shape (n_channels, n_slices, height, width)."""
        pixels = self.source.request((frame, np.array(self.channels), self.z, *window)).result()
        with np.errstate(over="ignore"):  # a float64 beyond float32 becomes infinite, which the caller reports
            return np.asarray(pixels).astype(np.float32)

    def window(self, observation: int) -> tuple[slice, slice]:
        """Return the rows and columns of one observation's crop."""
        top, left = self.top[observation], self.left[observation]
        return slice(top, top + self.side), slice(left, left + self.side)
