"""Open position: the image of a position, opened by this process, and reads of crops from it."""

from __future__ import annotations

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
        self._is_exact = window.is_exact
        self._middle = window.first_slice()
        self._middle_slices = window.slices(self._middle)
        self.may_be_nan = image.array.dtype.kind == "f"

    def request(
        self,
        frame: int,
        center: NDArray[Any],
        *,
        channel: int = 0,
        focus: int | None = None,
        draw: float | None = None,
    ) -> Pending:
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
        Pending
            The crop, before normalization, shape (n_channels, z_slices, side, side).
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
        if self._is_exact:
            return pending
        return _ResampledCrop(pending, self._window, corner if start is None else start, first_slice)


class _ResampledCrop:
    """A crop that is projected and resampled when it is needed."""

    def __init__(self, pending: Pending, window: CropWindow, start: NDArray[Any], first_slice: float) -> None:
        self._pending, self._window, self._start, self._first_slice = pending, window, start, first_slice

    def result(self) -> NDArray[Any]:
        return self._window.finish(np.asarray(self._pending.result()), self._start, self._first_slice)
