"""Store source: the pixels of crops, read from a crop store instead of plates."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from viscy_train.crop_store.crop_store import CropStore
from viscy_train.crops.native_crops import NativeCrops
from viscy_train.experiments.columns import Z_FOCUS
from viscy_train.loading.crop_source import ReadCounter, ReadCounts
from viscy_train.loading.observed_positions import CenterOfRows

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

    from viscy_train.anchors.table import AnchorTable
    from viscy_train.crop_store.crop_store import StoredCrops


class StoreSource:
    """Read crops of the observations in a table from a crop store.

    Parameters
    ----------
    table : AnchorTable
        The table.
    path : pathlib.Path
        Directory of the store.

    Raises
    ------
    UserError
        If the store does not exist, is unfinished or damaged, or has other crops than those of the table.
    """

    def __init__(self, table: AnchorTable, path: Path) -> None:
        self._store = CropStore(path, table.fingerprint)
        self._is_random = table.crops.z == "random"
        self._focus = table.observations[Z_FOCUS].to_numpy() if table.crops.z == "sharpest" else None
        self._center = CenterOfRows(table)
        self._counter = ReadCounter()

    @property
    def counts(self) -> ReadCounts:
        """How much has been read so far, by all threads of this process."""
        return self._counter.counts

    def read(self, rows: NDArray[np.int64], draws: NDArray[np.float64] | None = None) -> list[NativeCrops]:
        """Read crops, as `viscy_train.loading.crop_source.CropSource` says.

        Raises
        ------
        UserError
            If a file of the store is missing or damaged.
        """
        crops = [self._native(part, rows, draws) for part in self._store.read(rows)]
        n_bytes = sum(part.pixels.nbytes for part in crops)
        n = len(rows)
        self._counter.add(n_crops=n, n_chunks=n, n_decoded=n, decoded_bytes=n_bytes, used_bytes=n_bytes)
        return crops

    def _native(self, part: StoredCrops, rows: NDArray[np.int64], draws: NDArray[np.float64] | None) -> NativeCrops:
        window, rows = part.window, rows[part.order]
        focus = None if self._focus is None else self._focus[rows]
        drawn = draws[part.order] if self._is_random and draws is not None else None
        first_slices = window.first_slices(len(rows), focus=focus, draws=drawn)
        pixels = part.pixels
        if self._is_random:  # all slices are stored
            first = window.z.first(first_slices)
            pixels = pixels[np.arange(len(rows))[:, None], :, first[:, None] + np.arange(window.z.n_read)]
            pixels = np.ascontiguousarray(np.moveaxis(pixels, 1, 2))
        return NativeCrops(
            pixels=pixels,
            slots=part.order,
            window=window,
            starts=window.starts(self._center[rows]).astype(np.float64),
            first_slices=first_slices,
        )
