"""Intensity statistics: mean and standard deviation of each channel, updated frame by frame."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray


class IntensityStatistics:
    """Mean and standard deviation of each channel, over all pixels added so far.

    Parameters
    ----------
    n_channels : int
        Number of channels of a frame.

    Notes
    -----
    Partial moments are combined as in Chan, Golub and LeVeque (1983). A running sum of squares would lose the standard
    deviation of a bright channel with little contrast.
    """

    def __init__(self, n_channels: int) -> None:
        self._n = np.zeros(n_channels)
        self._mean = np.zeros(n_channels)
        self._squares = np.zeros(n_channels)

    def add(self, pixels: NDArray[np.float32]) -> None:
        """Add the finite pixels of a frame, shape (n_channels, n_slices, height, width)."""
        for channel in range(len(pixels)):
            finite = pixels[channel][np.isfinite(pixels[channel])]
            if not finite.size:
                continue
            mean = finite.mean(dtype=np.float64)
            squares = finite.var(dtype=np.float64) * finite.size
            n_before, n = self._n[channel], self._n[channel] + finite.size
            difference = mean - self._mean[channel]
            self._mean[channel] += difference * finite.size / n
            self._squares[channel] += squares + difference**2 * n_before * finite.size / n
            self._n[channel] = n

    def mean_and_std(self) -> list[list[float]]:
        """Return mean and standard deviation of each channel, shape (n_channels, 2); both are 0 without pixels."""
        return np.stack([self._mean, np.sqrt(self._squares / np.maximum(self._n, 1))], axis=1).tolist()
