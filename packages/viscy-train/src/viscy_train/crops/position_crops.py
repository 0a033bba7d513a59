"""Position crops: where the crops of one position's observations are, and how to read their pixels."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from itertools import product
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from viscy_train.crops.window import CropWindow
    from viscy_train.plates.pixels import Pixels
    from viscy_train.plates.position_image import PositionImage
    from viscy_train.plates.stored_chunks import StoredChunks


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
    extent : CropWindow
        The pixels and slices of the image that a crop covers.
    frame, top, left : numpy.ndarray
        Frame, and first row and column to read, of each observation's crop, shape (n_observations,).
    focus : numpy.ndarray, optional
        The sharpest slice of each observation's frame, shape (n_observations,), if crops are around it.
    """

    image: PositionImage
    stored: StoredChunks
    source: Pixels
    channels: list[int]
    extent: CropWindow
    frame: NDArray[np.int64]
    top: NDArray[np.int64]
    left: NDArray[np.int64]
    focus: NDArray[np.int64] | None = None

    def by_slices(self) -> list[tuple[slice, NDArray[np.int64]]]:
        """Return each range of slices that crops may contain, and the observations whose crops may contain it."""
        if self.focus is None:
            return [(self.extent.reachable, np.arange(len(self.frame)))]
        return [(self._around(focus), np.flatnonzero(self.focus == focus)) for focus in np.unique(self.focus).tolist()]

    def slices(self, frame: int) -> slice:
        """Return the slices that the crops of a frame may contain."""
        return self._around(self._focus[frame]) if self._focus else self.extent.reachable

    def _around(self, focus: int) -> slice:
        return self.extent.slices(self.extent.first_slice(focus=focus))

    @cached_property
    def _focus(self) -> dict[int, int]:
        return {} if self.focus is None else dict(zip(self.frame.tolist(), self.focus.tolist(), strict=True))

    def pixels(self, frame: int, window: tuple[slice, slice] = (slice(None), slice(None))) -> NDArray[np.float32]:
        """Read a frame, or a window of it, shape (n_channels, n_slices, height, width)."""
        pixels = self.source.request((frame, np.array(self.channels), self.slices(frame), *window)).result()
        with np.errstate(over="ignore"):  # a float64 beyond float32 becomes infinite, which the caller reports
            return np.asarray(pixels).astype(np.float32)

    def window(self, observation: int) -> tuple[slice, slice]:
        """Return the rows and columns of one observation's crop."""
        top, left = self.top[observation], self.left[observation]
        height, width = self.extent.sides
        return slice(top, top + height), slice(left, left + width)

    def at_crop_scale(self, frame: int, pixels: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return the pixels of a frame projected and resampled as crops are."""
        return self.extent.finish_frame(pixels, self.extent.first_slice(focus=self._focus.get(frame)))

    def without_missing(self, frame: int, pixels: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return the pixels of a frame with NaN instead of the fill value of missing chunks."""
        if not self.stored.are_known:
            return pixels
        sizes, z = self.image.array.chunks, self.slices(frame)
        planes = product(enumerate(self.channels), enumerate(range(z.start, z.stop)))
        grid = [-(-total // size) for total, size in zip(self.image.shape[3:], sizes[3:], strict=True)]
        pixels = pixels.copy()
        for (channel, of_image), (slice_, of_stack) in planes:
            first = frame // sizes[0], of_image // sizes[1], of_stack // sizes[2]
            for row, column in product(*map(range, grid)):
                if (*first, row, column) not in self.stored:
                    rows, columns = (slice(i * n, (i + 1) * n) for i, n in zip((row, column), sizes[3:], strict=True))
                    pixels[channel, slice_, rows, columns] = np.nan
        return pixels
