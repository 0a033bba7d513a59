"""Array source: the pixels of crops that are in one array of a mapped file, a crop for each observation."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from viscy_train.crops.native_crops import NativeCrops
from viscy_train.crops.resampling import ResampledAxis
from viscy_train.crops.window import CropWindow
from viscy_train.errors import UserError, one_line
from viscy_train.loading.crop_source import ReadCounter, ReadCounts

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

    from viscy_train.anchors.table import AnchorTable


class ArraySource:
    """Read crops of the observations in a table from an array of NumPy.

    Parameters
    ----------
    table : AnchorTable
        The table.
    path : pathlib.Path
        File of `numpy.save`, which is mapped, so that all processes of a machine share its memory. Shape
        (n_observations, n_channels, z_slices, side, side): the crop of each row of the table with the sizes of
        ``data.crop`` and ``data.z_slices``, resampled and projected, but not normalized.

    Raises
    ------
    UserError
        If the file cannot be read, or has another shape.
    """

    def __init__(self, table: AnchorTable, path: Path) -> None:
        self._path = path
        self._crops = _map(path)
        shape = shape_of_crops(table)
        if self._crops.shape != shape:
            raise UserError(
                f"{path} must have a crop of each observation, shape {shape}, got {self._crops.shape}; write it again"
            )
        z_slices, side = shape[2], shape[4]
        z, y = ResampledAxis(z_slices, z_slices, z_slices), ResampledAxis(side, side, side)
        self._window = CropWindow(z=z, y=y, x=y, mode="middle")
        self._counter = ReadCounter()

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_crops": None}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._crops = _map(self._path)

    @property
    def counts(self) -> ReadCounts:
        """How much has been read so far, by all threads of this process."""
        return self._counter.counts

    def read(self, rows: NDArray[np.int64], draws: NDArray[np.float64] | None = None) -> list[NativeCrops]:
        """Read crops, as `viscy_train.loading.crop_source.CropSource` says; their slices are always the same."""
        if len(rows) == 0:
            return []
        pixels = self._crops[rows]
        n, n_bytes = len(rows), pixels.nbytes
        self._counter.add(n_crops=n, n_chunks=n, n_decoded=n, decoded_bytes=n_bytes, used_bytes=n_bytes)
        return [
            NativeCrops(
                pixels=pixels,
                slots=np.arange(n),
                window=self._window,
                starts=np.zeros((n, 2)),
                first_slices=np.zeros(n),
            )
        ]


def shape_of_crops(table: AnchorTable) -> tuple[int, int, int, int, int]:
    """Return the shape of an array with the crop of each observation of a table."""
    crops = table.crops
    n_channels = 1 if table.channels_mode == "one" else len(table.experiments[0].channels)
    return len(table.observations), n_channels, crops.z_slices, crops.crop, crops.crop


def _map(path: Path) -> NDArray[Any]:
    try:
        return np.load(path, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise UserError(f"cannot read crops from {path}: {one_line(error)}; write it again") from error
