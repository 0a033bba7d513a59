"""Intensity statistics: center and spread of each channel, updated frame by frame."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import numpy as np

if TYPE_CHECKING:
    from typing import Any

    from numpy.typing import NDArray

    from viscy_train.config.schema import NormalizationConfig

# Distance of percentiles 1 and 99 of a normal distribution, in standard deviations.
_RANGE_OF_NORMAL = 4.652
# Pixels of a frame and channel, and of all frames, from which percentiles are taken. With so many, the percentiles of a
# normal distribution are wrong by less than 0.02 of its standard deviation.
_PIXELS_OF_FRAME = 2**16
_PIXELS = 2**22


@dataclass(frozen=True)
class FrameSample:
    """What a frame adds to statistics. It depends on nothing but the frame.

    Parameters
    ----------
    of_frame : numpy.ndarray
        Center and spread of the frame alone, shape (n_channels, 2); NaN for a channel without finite pixels.
    content : tuple of numpy.ndarray
        What statistics of the same kind merge; empty for a frame that adds nothing to them.
    """

    of_frame: NDArray[np.float64]
    content: tuple[NDArray[Any], ...] = ()


class Statistics(Protocol):
    """Center and spread of each channel, over all samples merged so far."""

    @staticmethod
    def sample(pixels: NDArray[np.float32]) -> FrameSample:
        """Return what the finite pixels of a frame add.

        Parameters
        ----------
        pixels : numpy.ndarray
            Shape (n_channels, n_slices, height, width).
        """

    def merge(self, sample: FrameSample) -> None:
        """Add a sample. The result depends on the order of samples, in the last digits."""

    def center_and_spread(self) -> list[list[float]]:
        """Return center and spread of each channel, shape (n_channels, 2); both are 0 without pixels."""


class IntensityStatistics:
    """Mean and standard deviation of each channel, over all samples merged so far.

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

    @staticmethod
    def sample(pixels: NDArray[np.float32]) -> FrameSample:
        """Return mean and standard deviation of a frame; number and sum of squared deviations of its finite pixels."""
        of_frame = np.full((len(pixels), 2), np.nan)
        n, squares = np.zeros(len(pixels)), np.zeros(len(pixels))
        for channel in range(len(pixels)):
            finite = pixels[channel][np.isfinite(pixels[channel])]
            if not finite.size:
                continue
            variance = finite.var(dtype=np.float64)
            of_frame[channel] = finite.mean(dtype=np.float64), np.sqrt(variance)
            n[channel], squares[channel] = finite.size, variance * finite.size
        return FrameSample(of_frame, (n, squares))

    def merge(self, sample: FrameSample) -> None:
        """Add a sample."""
        of_frame, squares = sample.content
        for channel in np.flatnonzero(of_frame):
            n_before, n = self._n[channel], self._n[channel] + of_frame[channel]
            difference = sample.of_frame[channel, 0] - self._mean[channel]
            self._mean[channel] += difference * of_frame[channel] / n
            self._squares[channel] += squares[channel] + difference**2 * n_before * of_frame[channel] / n
            self._n[channel] = n

    def center_and_spread(self) -> list[list[float]]:
        """Return mean and standard deviation of each channel, shape (n_channels, 2); both are 0 without pixels."""
        return np.stack([self._mean, np.sqrt(self._squares / np.maximum(self._n, 1))], axis=1).tolist()


class IntensityPercentiles:
    """Median of each channel, and its range from percentile 1 to 99 in standard deviations of a normal distribution.

    Parameters
    ----------
    n_channels : int
        Number of channels of a frame.
    n_frames : int
        About how many samples will be merged. Of each frame, evenly spread pixels are kept, fewer of many frames.

    Notes
    -----
    In an image of sparse fluorescence, a few bright cells decide the standard deviation, and their number decides how
    bright each is after normalization. Percentiles depend on it less.
    """

    def __init__(self, n_channels: int, n_frames: int) -> None:
        self._kept = max(_PIXELS // max(n_frames, 1), 1024)
        self._pixels: list[list[NDArray[np.float32]]] = [[] for _ in range(n_channels)]

    @staticmethod
    def sample(pixels: NDArray[np.float32]) -> FrameSample:
        """Return center and spread of a frame, and finite pixels that are evenly spread, of each channel."""
        of_frame = np.full((len(pixels), 2), np.nan)
        content = []
        for channel in range(len(pixels)):
            spread = _spread_evenly(pixels[channel], _PIXELS_OF_FRAME)
            content.append(spread[np.isfinite(spread)])
            if content[-1].size:
                of_frame[channel] = _percentiles(content[-1])
        return FrameSample(of_frame, tuple(content))

    def merge(self, sample: FrameSample) -> None:
        """Add a sample."""
        for kept, pixels in zip(self._pixels, sample.content, strict=True):
            if pixels.size:
                kept.append(_spread_evenly(pixels[None], self._kept))

    def center_and_spread(self) -> list[list[float]]:
        """Return center and spread of each channel, shape (n_channels, 2); both are 0 without pixels."""
        return [_percentiles(np.concatenate(kept)) if kept else [0.0, 0.0] for kept in self._pixels]


def make_statistics(config: NormalizationConfig, n_channels: int, n_frames: int) -> Statistics:
    """Return statistics without pixels.

    Parameters
    ----------
    config : NormalizationConfig
        Says which.
    n_channels : int
        Number of channels of a frame.
    n_frames : int
        About how many samples will be merged.
    """
    if config.method == "percentiles":
        return IntensityPercentiles(n_channels, n_frames)
    return IntensityStatistics(n_channels)


def sample_of(config: NormalizationConfig, pixels: NDArray[np.float32]) -> FrameSample:
    """Return what a frame adds to the statistics of a configuration, given its pixels as in `Statistics.sample`."""
    return (IntensityPercentiles if config.method == "percentiles" else IntensityStatistics).sample(pixels)


def _percentiles(pixels: NDArray[np.float32]) -> list[float]:
    low, median, high = np.percentile(pixels.astype(np.float64), [1, 50, 99]).tolist()
    return [median, (high - low) / _RANGE_OF_NORMAL]


def _spread_evenly(pixels: NDArray[np.float32], n: int) -> NDArray[np.float32]:
    """Return at least n pixels, if there are so many, that are evenly spread over all rows and columns."""
    step, width = max(pixels.size // n, 1), pixels.shape[-1]
    while step > 1 and math.gcd(step, width) != 1:  # a common divisor would leave columns out
        step -= 1
    return pixels.ravel()[::step]
