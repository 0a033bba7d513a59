"""Image arrays: arrays of images with the axes T, C, Z, Y and X, some of which the stored array may lack.

A missing axis has length 1. It exists only in the selections of a reader, so nothing is copied or rewritten.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from viscy_train.plates.stored_array import StoredArray

AXES = "TCZYX"

# Selection along each axis: frames, channels, slices, rows, columns.
type Region = tuple[int | slice, NDArray[Any] | slice, slice, slice, slice]


@dataclass(frozen=True)
class ImageArray:
    """An array of shape (n_frames, n_channels, n_slices, height, width).

    Parameters
    ----------
    stored : StoredArray
        The array as it is stored.
    axes : str
        Axes of the stored array, those of `AXES` in this order, without some of them.
    """

    stored: StoredArray
    axes: str = AXES

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape; 1 along a missing axis."""
        return self._with_ones(self.stored.shape)

    @property
    def chunks(self) -> tuple[int, ...]:
        """The size of a chunk along each axis."""
        return self._with_ones(self.stored.chunks)

    @property
    def dtype(self) -> np.dtype[Any]:
        """The type of the pixels."""
        return self.stored.dtype

    @property
    def missing(self) -> tuple[int, ...]:
        """Indices of the axes that the stored array lacks."""
        return tuple(index for index, name in enumerate(AXES) if name not in self.axes)

    def of_stored(self, selection: tuple[Any, ...]) -> tuple[Any, ...]:
        """Return the part of a selection, or of the index of a chunk, that concerns the stored array."""
        return tuple(one for name, one in zip(AXES, selection, strict=True) if name in self.axes)

    def with_all_axes(self, pixels: NDArray[Any], region: Region) -> NDArray[Any]:
        """Return pixels of the stored array as pixels of this one.

        Parameters
        ----------
        pixels : numpy.ndarray
            Pixels in the part of the region that concerns the stored array.
        region : tuple
            The region, with an index or a slice for each axis. An axis with an index is not in the result.
        """
        expanded = tuple(
            np.newaxis if index in self.missing else slice(None)
            for index, one in enumerate(region)
            if not isinstance(one, (int, np.integer))
        )
        return pixels[expanded]

    def _with_ones(self, sizes: tuple[int, ...]) -> tuple[int, ...]:
        known = dict(zip(self.axes, sizes, strict=True))
        return tuple(known.get(name, 1) for name in AXES)
