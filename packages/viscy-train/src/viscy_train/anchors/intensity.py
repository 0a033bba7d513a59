"""IntensityStatistics: mean and standard deviation of each channel, over frames that are added one by one."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray


class IntensityStatistics:
    """Mean and standard deviation of what was added.

    Parameters
    ----------
    n_channels : int
        Of each frame.

    Notes
    -----
    Moments of parts are joined as by Chan, Golub and LeVeque (1983): a sum of squares would lose the deviation of a
    bright channel with little contrast.
    """

    def __init__(self, n_channels: int) -> None:
        self._n = np.zeros(n_channels)
        self._mean = np.zeros(n_channels)
        self._squares = np.zeros(n_channels)

    def add(self, pixels: NDArray[np.float32]) -> None:
        """Add the finite ones of pixels of shape (n_channels, n_slices, height, width)."""
        for channel in range(len(pixels)):
            finite = pixels[channel][np.isfinite(pixels[channel])]
            if not finite.size:
                continue
            mean = finite.mean(dtype=np.float64)
            squares = finite.var(dtype=np.float64) * finite.size
            before, n = self._n[channel], self._n[channel] + finite.size
            apart = mean - self._mean[channel]
            self._mean[channel] += apart * finite.size / n
            self._squares[channel] += squares + apart**2 * before * finite.size / n
            self._n[channel] = n

    def mean_and_deviation(self) -> list[list[float]]:
        """Return both for each channel, shape (n_channels, 2); both 0 where nothing was added."""
        return np.stack([self._mean, np.sqrt(self._squares / np.maximum(self._n, 1))], axis=1).tolist()
