"""Resampling: pixels at another scale, without aliasing, from any coordinate between two pixels.

A new pixel is a weighted mean of those around it, with weights that fall linearly to zero at a distance of one new
pixel (or one old pixel, where the new ones are smaller), as in Pillow. Of the usual choices, this one lets the least
noise pass: less than the mean over areas, cubic interpolation, or a Gaussian before linear interpolation.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from scipy.sparse import csr_array

# Lengths that differ less, relative to each other, are equal.
_TOLERANCE = 1e-6


@dataclass(frozen=True)
class Taps:
    """The pixels of which each pixel of some crops is a weighted sum along an axis, and their weights.

    Parameters
    ----------
    first : numpy.ndarray
        Index of the first of these pixels among those that were read, shape (n_crops, n_resampled), dtype int64. Pixels
        before the first or after the last one that was read have weight 0.
    weights : numpy.ndarray
        Weight of each of them, shape (n_crops, n_resampled, n_taps), dtype float32.
    """

    first: NDArray[np.int64]
    weights: NDArray[np.float32]


@dataclass(frozen=True)
class ResampledAxis:
    """An axis of an image, of which a crop covers a part.

    Parameters
    ----------
    n : int
        Number of pixels of the image.
    length : float
        Number of its pixels that a crop covers, not necessarily a whole number.
    n_resampled : int
        Number of pixels of the crop.
    is_aligned : bool, default True
        Whether a crop that covers as many pixels as it has begins at one, so that it has the pixels of the image.

    Notes
    -----
    Coordinates are those of edges: pixel 0 is between 0 and 1.
    """

    n: int
    length: float
    n_resampled: int
    is_aligned: bool = True

    @property
    def is_exact(self) -> bool:
        """Whether the crop has the pixels of the image."""
        return self.is_aligned and math.isclose(self.length, self.n_resampled, rel_tol=_TOLERANCE)

    @property
    def fits(self) -> bool:
        """Whether the crop fits into the image."""
        return self.length <= self.n * (1 + _TOLERANCE)

    @property
    def n_read(self) -> int:
        """Number of pixels of the image to read for a crop: more than it covers, because weights reach further."""
        if self.is_exact:
            return self.n_resampled
        return min(self.n, math.ceil(self.length + self._reach) + 1)

    @property
    def _ratio(self) -> float:
        return self.length / self.n_resampled

    @property
    def _reach(self) -> float:
        """How far from the center of a new pixel weights reach."""
        return max(self._ratio, 1.0)

    def start(self, center: Any) -> Any:
        """Return where crops begin; at a border of the image, they are moved inside.

        Parameters
        ----------
        center : float or numpy.ndarray
            Coordinates of centers of crops.
        """
        if self.is_exact:
            return np.clip(np.floor(center) - self.n_resampled // 2, 0, self.n - self.n_resampled)
        return np.clip(np.subtract(center, self.length / 2), 0, max(self.n - self.length, 0.0))

    def first(self, start: Any) -> Any:
        """Return the first pixel to read of crops that begin somewhere."""
        margin = 0.0 if self.is_exact else self._reach / 2
        first = np.clip(np.floor(np.subtract(start, margin)), 0, self.n - self.n_read)
        return first.astype(np.int64)

    def resample(self, pixels: NDArray[np.float32], axis: int, start: float) -> NDArray[np.float32]:
        """Resample the pixels that were read for a crop.

        Parameters
        ----------
        pixels : numpy.ndarray
            `n_read` pixels along `axis`.
        axis : int
            The axis.
        start : float
            Where the crop begins, as `start` returned it.
        """
        if self.is_exact:
            return pixels
        moved = np.moveaxis(pixels, axis, 0)
        weights = self._weights(float(start) - int(self.first(start)), len(moved))
        flat = weights @ np.ascontiguousarray(moved, dtype=np.float32).reshape(len(moved), -1)
        return np.moveaxis(flat.reshape(self.n_resampled, *moved.shape[1:]), 0, axis)

    def resample_all(self, pixels: NDArray[np.float32], axis: int) -> NDArray[np.float32]:
        """Resample all pixels along an axis of an image as those of crops are."""
        if self.is_exact:
            return pixels
        n = pixels.shape[axis]
        whole = ResampledAxis(n, n, max(1, round(n / self._ratio)), self.is_aligned)
        return whole.resample(pixels, axis, 0.0)

    def taps(self, starts: NDArray[np.float64]) -> Taps:
        """Return the taps of crops that begin somewhere.

        Parameters
        ----------
        starts : numpy.ndarray
            Where the crops begin, as `start` returned it, shape (n_crops,).
        """
        return self._taps(starts - self.first(starts), self.n_read)

    def _taps(self, offsets: NDArray[np.float64], n: int) -> Taps:
        """Return the taps of crops that begin at some offsets from the first of n pixels that were read."""
        centers = offsets[:, None] + (np.arange(self.n_resampled) + 0.5) * self._ratio
        first = np.floor(centers - self._reach).astype(np.int64)
        pixel = first[..., None] + np.arange(math.ceil(2 * self._reach) + 1)
        weight = np.maximum(0.0, 1 - np.abs(pixel + 0.5 - centers[..., None]) / self._reach)
        weight[(pixel < 0) | (pixel >= n)] = 0.0
        # Added one by one, so that the sum does not depend on the number of crops.
        total = sum(np.moveaxis(weight, -1, 0))
        return Taps(first, (weight / np.asarray(total)[..., None]).astype(np.float32))

    def _weights(self, offset: float, n: int) -> csr_array:
        """Return the weights of n pixels for those of a crop that begins at an offset, shape (n_resampled, n)."""
        from scipy.sparse import csr_array  # takes long to import, which crops that are not resampled do not need

        taps = self._taps(np.array([offset]), n)
        pixel, weight = taps.first[0][:, None] + np.arange(taps.weights.shape[-1]), taps.weights[0]
        is_used = weight > 0
        ends = np.concatenate([[0], np.cumsum(is_used.sum(axis=1))])
        return csr_array((weight[is_used], pixel[is_used], ends), shape=(self.n_resampled, n))
