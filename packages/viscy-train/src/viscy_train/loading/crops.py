"""Crops: normalized squares around cells."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from viscy_train.errors import UserError
from viscy_train.loading.crop_batch import CropBatch, with_torch_type
from viscy_train.loading.normalization import Normalization
from viscy_train.loading.observed_positions import ObservedPositions
from viscy_train.loading.plate_source import PlateSource
from viscy_train.loading.store_source import StoreSource

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

    from viscy_train.anchors.table import AnchorTable
    from viscy_train.crops.native_crops import NativeCrops
    from viscy_train.loading.crop_source import CropSource


class CropReader:
    """Read the crops of the observations in a table.

    Parameters
    ----------
    table : AnchorTable
        Gives the location of each observation, the size of a crop, and the intensity of each channel.
    cache_mb : int, default 256
        Memory for decoded chunks, for each process that reads, in MB.
    store : pathlib.Path, optional
        Crop store to read from instead of plates.
    source : CropSource, optional
        What to read from instead of plates and store.

    Attributes
    ----------
    source : CropSource
        Where pixels are read.
    """

    def __init__(
        self,
        table: AnchorTable,
        *,
        cache_mb: int = 256,
        store: Path | None = None,
        source: CropSource | None = None,
    ) -> None:
        self._crops = table.crops
        self._positions = ObservedPositions(table)
        positions = self._positions
        self._normalization = Normalization(table, positions.experiment_of_position, positions.name_of_position)
        if source is not None:
            self.source: CropSource = source
        elif store is not None:
            self.source = StoreSource(table, store)
        else:
            self.source = PlateSource(table, cache_mb=cache_mb, positions=positions)

    def __len__(self) -> int:
        return len(self._positions)

    def read(self, rows: NDArray[np.int64], draws: NDArray[np.float64] | None = None) -> NDArray[np.float32]:
        """Read crops.

        A crop is centered on its cell. At a border of the image, it is moved inside. Crops of a physical size, and
        those of the maximum of all slices, are resampled and projected.

        Parameters
        ----------
        rows : numpy.ndarray
            Rows of the table, shape (n,); may contain duplicates.
        draws : numpy.ndarray, optional
            Random numbers in [0, 1) that choose the slices of each crop if ``data.z`` is ``random``, shape (n,). By
            default, such crops have the slices in the middle of the stack.

        Returns
        -------
        numpy.ndarray
            Shape (n, n_channels, z_slices, side, side), in the order of the rows. Pixels are normalized by center and
            spread of the channel, see `viscy_train.loading.normalization`.

        Raises
        ------
        UserError
            If a plate or position does not exist or is damaged, a chunk is missing or cannot be decoded, or a crop
            contains NaN or infinite pixels.
        """
        return self.read_native(rows, draws).finish().numpy()

    def read_native(self, rows: NDArray[np.int64], draws: NDArray[np.float64] | None = None) -> CropBatch:
        """Read crops in the type of the plates, with what normalizes and resamples them on any device.

        Parameters and errors are those of `read`.
        """
        rows = np.asarray(rows, dtype=np.int64)
        parts = [with_torch_type(part) for part in self.source.read(rows, draws)]
        self._check_finite(rows, parts)
        positions = self._positions
        channel = None if positions.channel is None else positions.channel[rows]
        center, spread = self._normalization.of(positions.position[rows], positions.frame[rows], channel)
        return CropBatch.of(parts, center, spread, (self._crops.z_slices, self._crops.crop, self._crops.crop))

    def _check_finite(self, rows: NDArray[np.int64], parts: list[NativeCrops]) -> None:
        is_invalid = np.zeros(len(rows), dtype=bool)
        for part in parts:
            if part.pixels.dtype.kind == "f":
                is_invalid[part.slots] = ~np.isfinite(part.pixels).all(axis=(1, 2, 3, 4))
        if is_invalid.any():
            row = rows[np.argmax(is_invalid)]
            raise UserError(self._positions.describe_damage(row, "some are NaN or infinite"))
