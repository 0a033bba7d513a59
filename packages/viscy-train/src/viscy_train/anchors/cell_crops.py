"""Cell crops: where the crops of one position are read."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray


@dataclass(frozen=True, kw_only=True)
class Crops:
    """Where the cells of a position are read.

    Parameters
    ----------
    image : iohub.ngff.nodes.ImageArray
        Of the position, shape (n_frames, n_channels, n_slices, height, width).
    channels : list of int
        Places of the channels that crops have.
    z : slice
        Slices that crops have.
    frame, top, left : numpy.ndarray
        Frame, first row and first column of each cell's crop, shape (n_cells,).
    side : int
        Of a crop, in pixels.
    """

    image: Any
    channels: list[int]
    z: slice
    frame: NDArray[np.int64]
    top: NDArray[np.int64]
    left: NDArray[np.int64]
    side: int

    def pixels(self, frame: int, window: tuple[slice, slice] = (slice(None), slice(None))) -> NDArray[np.float32]:
        """Read a frame, or a window of it, shape (n_channels, n_slices, height, width)."""
        planes = [np.asarray(self.image[frame, channel, self.z, *window]) for channel in self.channels]
        with np.errstate(over="ignore"):  # a float64 beyond float32 becomes infinite, and is told as such
            return np.stack(planes).astype(np.float32)

    def window(self, cell: int) -> tuple[slice, slice]:
        """Return rows and columns of a crop."""
        top, left = self.top[cell], self.left[cell]
        return slice(top, top + self.side), slice(left, left + self.side)
