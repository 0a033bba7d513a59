"""Open position: the image of a position, opened by this process, and reads of crops from it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from viscy_train.crops.geometry import crop_corners

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from viscy_train.crops.window import CropWindow
    from viscy_train.plates.pixels import Pending, Pixels
    from viscy_train.plates.position_image import PositionImage


class OpenPosition:
    """The image of a position, and the part of it that a crop covers.

    Parameters
    ----------
    image : PositionImage
        The image.
    pixels : Pixels
        Its pixels.
    window : CropWindow
        What a crop covers.
    channels : sequence of numpy.ndarray or slice
        Indices of the channels that a crop may have.
    """

    def __init__(
        self, image: PositionImage, pixels: Pixels, window: CropWindow, channels: Sequence[NDArray[np.int64] | slice]
    ) -> None:
        self._pixels, self._window, self._channels = pixels, window, channels
        self._size, self._sides = image.shape[3:], window.sides
        dtype = image.array.dtype.newbyteorder("=")
        # Where no pixel is resampled, the size of the image does not matter.
        self._key = dtype, (window.z.n_read, *window.sides), None if window.is_exact else window
        self._middle = window.first_slice()
        self._middle_slices = window.slices(self._middle)

    def request(
        self,
        frame: int,
        center: NDArray[Any],
        *,
        channel: int = 0,
        focus: int | None = None,
        draw: float | None = None,
    ) -> RequestedCrop:
        """Request a crop, without waiting for it.

        Parameters
        ----------
        frame : int
            Number of the frame.
        center : numpy.ndarray
            Coordinates y and x of the cell, shape (2,); int64 if crops of all images have the pixels of the image.
        channel : int, default 0
            Which of the `channels`.
        focus, draw
            As for `CropWindow.first_slice`.

        Returns
        -------
        RequestedCrop
            The crop, before it is resampled and normalized.
        """
        first_slice, slices = self._middle, self._middle_slices
        if focus is not None or draw is not None:
            first_slice = self._window.first_slice(focus=focus, draw=draw)
            slices = self._window.slices(first_slice)
        start = None if center.dtype.kind == "i" else self._window.starts(center)
        corner = crop_corners(center, self._sides[0], self._size) if start is None else self._window.corners(start)
        top, left = corner.tolist()
        rows, columns = slice(top, top + self._sides[0]), slice(left, left + self._sides[1])
        pending = self._pixels.request((frame, self._channels[channel], slices, rows, columns))
        return RequestedCrop(pending, self._window, corner if start is None else start, first_slice, self._key)


@dataclass(frozen=True)
class RequestedCrop:
    """A crop that has been requested.

    Parameters
    ----------
    pending : Pending
        Its pixels, shape (n_channels, n_slices, n_rows, n_columns).
    window : CropWindow
        How pixels become a crop.
    start : numpy.ndarray
        Where the crop begins along y and x, shape (2,).
    first_slice : float
        Where its slices begin.
    key : tuple
        Equal for crops that have the same type and size and become crops in the same way.
    """

    pending: Pending
    window: CropWindow
    start: NDArray[Any]
    first_slice: float
    key: Any

    def pixels(self) -> NDArray[Any]:
        """Wait for the pixels, and return them, or their maximum along z if that is what a crop contains."""
        pixels = np.asarray(self.pending.result())
        return np.max(pixels, axis=1, keepdims=True) if self.window.mode == "maximum" else pixels
