"""Crop pixels: normalized crops of rows, by the arithmetic of training in NumPy, because torch takes long to import."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from viscy_train.errors import UserError
from viscy_train.loading.normalization import Normalization
from viscy_train.loading.plate_source import PlateSource
from viscy_train.loading.store_source import StoreSource

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from viscy_train.anchors.table import AnchorTable
    from viscy_train.crops.native_crops import NativeCrops
    from viscy_train.crops.resampling import Taps
    from viscy_train.loading.crop_source import CropSource
    from viscy_train.loading.observed_positions import ObservedPositions

_CACHE_MB = 256


class CropPixels:
    """Reads the crops of rows as training does, with slices in the middle where training draws them at random.

    Parameters
    ----------
    table : AnchorTable
        The table.
    positions : ObservedPositions
        Its positions.
    store : pathlib.Path, optional
        Crop store to read from instead of plates.
    """

    def __init__(self, table: AnchorTable, positions: ObservedPositions, store: Path | None = None) -> None:
        self._crops, self._positions = table.crops, positions
        names = positions.experiment_of_position, positions.name_of_position
        self._normalization = Normalization(table, *names)
        self._source: CropSource
        if store is None:
            self._source = PlateSource(table, cache_mb=_CACHE_MB, positions=positions)
        else:
            self._source = StoreSource(table, store)

    def read(self, groups: Sequence[NDArray[np.int64]]) -> list[NDArray[np.float32] | UserError]:
        """Read groups of crops, all of them together if that is possible.

        Parameters
        ----------
        groups : sequence of numpy.ndarray
            Rows of the table, shape (n,) each.

        Returns
        -------
        list of numpy.ndarray or UserError
            Of each group, crops of shape (n, n_channels, z_slices, side, side), or why they cannot be read.
        """
        ends = np.cumsum([len(rows) for rows in groups])[:-1]
        try:
            return [*np.split(self._read(np.concatenate(groups)), ends)]
        except UserError:
            return [self._try(rows) for rows in groups]

    def _try(self, rows: NDArray[np.int64]) -> NDArray[np.float32] | UserError:
        try:
            return self._read(rows)
        except UserError as error:
            return error

    def _read(self, rows: NDArray[np.int64]) -> NDArray[np.float32]:
        positions = self._positions
        channel = None if positions.channel is None else positions.channel[rows]
        center, spread = self._normalization.of(positions.position[rows], positions.frame[rows], channel)
        shape = (self._crops.z_slices, self._crops.crop, self._crops.crop)
        return finish_crops(self._source.read(rows), center, spread, shape)


def finish_crops(
    parts: Sequence[NativeCrops], center: NDArray[np.float32], spread: NDArray[np.float32], shape: tuple[int, int, int]
) -> NDArray[np.float32]:
    """Return crops that are resampled and normalized as `viscy_train.loading.crop_batch.CropBatch.finish` does it.

    Parameters
    ----------
    parts : sequence of NativeCrops
        What a source has read.
    center, spread : numpy.ndarray
        By which each channel is normalized, shape (n_crops, n_channels).
    shape : tuple of int
        Slices, rows and columns of a crop.

    Returns
    -------
    numpy.ndarray
        Shape (n_crops, n_channels, *shape), dtype float32.
    """
    crops = np.empty((*center.shape, *shape), dtype=np.float32)
    with np.errstate(over="ignore", invalid="ignore"):
        for part in parts:
            pixels = part.pixels.astype(np.float32)
            for axis, taps in part.window.taps(part.starts, part.first_slices):
                pixels = _resample(pixels, axis, taps)
            crops[part.slots] = pixels
        return (crops - center[..., None, None, None]) / spread[..., None, None, None]


def _resample(pixels: NDArray[np.float32], axis: int, taps: Taps) -> NDArray[np.float32]:
    """Return weighted sums of pixels along an axis, each product added in turn."""
    moved = np.moveaxis(pixels, axis, 1)
    crop = np.arange(len(moved))[:, None]
    total: Any = np.float32(0)
    for tap in range(taps.weights.shape[-1]):
        index = np.clip(taps.first + tap, 0, moved.shape[1] - 1)
        weight = taps.weights[..., tap].reshape(*index.shape, *[1] * (moved.ndim - 2))
        total = total + moved[crop, index] * weight
    return np.moveaxis(total, 1, axis)
