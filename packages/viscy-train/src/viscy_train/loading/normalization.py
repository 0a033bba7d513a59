"""Normalization: center and spread of the intensities of each channel, for each crop."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from viscy_train.anchors.table import AnchorTable

# A constant channel has a spread of 0, by which crops cannot be divided.
_MIN_SPREAD = 1e-6


class Normalization:
    """Center and spread of each channel in the experiment, position or frame of a crop.

    Parameters
    ----------
    table : AnchorTable
        Gives the intensities, and says which apply.
    experiment_of_position : numpy.ndarray
        Index of the experiment of each position, shape (n_positions,).
    name_of_position : sequence of str
        Name of each position.
    """

    def __init__(
        self, table: AnchorTable, experiment_of_position: NDArray[np.int64], name_of_position: Sequence[str]
    ) -> None:
        self._by_frame = table.crops.normalization.by == "frame"
        names = [experiment.name for experiment in table.experiments]
        if table.crops.normalization.by == "experiment":
            constants = [np.array([table.intensity[name]], dtype=np.float32) for name in names]
            self._first = experiment_of_position
        else:
            positions = zip(experiment_of_position.tolist(), name_of_position, strict=True)
            constants = [table.local_intensity[names[experiment]][name] for experiment, name in positions]
            self._first = np.cumsum([0, *(len(one) for one in constants)])[:-1]
        # Experiments may have different numbers of channels.
        n_channels = max((one.shape[1] for one in constants), default=0)
        padded = [np.pad(one, ((0, 0), (0, n_channels - one.shape[1]), (0, 0))) for one in constants]
        joined = np.concatenate([*padded, np.empty((0, n_channels, 2), np.float32)])
        self._center = joined[:, :, 0]
        self._spread = np.maximum(joined[:, :, 1], _MIN_SPREAD)

    @property
    def n_channels(self) -> int:
        """The largest number of channels of an experiment."""
        return self._center.shape[1]

    def of(
        self, position: NDArray[np.int64], frame: NDArray[np.int64], channel: NDArray[np.int64] | None = None
    ) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Return center and spread of crops: normalized pixels are (pixel - center) / spread.

        Parameters
        ----------
        position, frame : numpy.ndarray
            Index of the position and number of the frame of each crop, shape (n,).
        channel : numpy.ndarray, optional
            Index of the channel of each crop, shape (n,), if crops have one each.

        Returns
        -------
        tuple of numpy.ndarray
            Center and spread of each channel, shape (n, n_channels).
        """
        index = self._first[position] + frame if self._by_frame else self._first[position]
        if channel is not None:
            return self._center[index, channel, None], self._spread[index, channel, None]
        return self._center[index], self._spread[index]
