"""Methods to read the crops of a batch: the concurrent reads of viscy-train, and simpler ones for comparison."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import zarr
from iohub.ngff import open_ome_zarr
from numpy.typing import NDArray

from viscy_train.anchors.table import AnchorTable
from viscy_train.loading.crops import CropReader

from .plate import SIDE

type Reader = Callable[[NDArray[np.int64]], NDArray[np.float32]]


def read_concurrently(table: AnchorTable, cache_mb: int) -> Reader:
    """Read with viscy-train's CropReader."""
    return CropReader(table, cache_mb=cache_mb).read


def read_crop_by_crop(table: AnchorTable, open_image: Callable[[AnchorTable, str], Any]) -> Reader:
    """Read one crop after the other."""
    images = _open_images(table, open_image)

    def read(rows: NDArray[np.int64]) -> NDArray[np.float32]:
        crops = [images[position][t, :, 0:1, *square] for position, t, square in _locate(table, rows)]
        return np.stack(crops).astype(np.float32)

    return read


def read_frames(table: AnchorTable, open_image: Callable[[AnchorTable, str], Any]) -> Reader:
    """Read each frame that a batch needs once, and cut the crops from it."""
    images = _open_images(table, open_image)

    def read(rows: NDArray[np.int64]) -> NDArray[np.float32]:
        crops: list[NDArray] = [np.empty(0)] * len(rows)
        frames: dict[tuple[str, int], NDArray] = {}
        # In the order of the frames, so that only one is in memory.
        for slot, (position, t, square) in sorted(enumerate(_locate(table, rows)), key=lambda entry: entry[1][:2]):
            if (position, t) not in frames:
                frames = {(position, t): images[position][t, :, 0:1]}
            crops[slot] = frames[position, t][..., *square].copy()
        return np.stack(crops).astype(np.float32)

    return read


def _by_zarr(table: AnchorTable, position: str) -> Any:
    return zarr.open_array(table.experiments[0].plate / position / "0", mode="r")


def _by_iohub(table: AnchorTable, position: str) -> Any:
    return open_ome_zarr(table.experiments[0].plate, layout="hcs", mode="r")[position]["0"]


def _open_images(table: AnchorTable, open_image: Callable[[AnchorTable, str], Any]) -> dict[str, Any]:
    return {name: open_image(table, name) for name in table.observations["position"].cat.categories}


def _locate(table: AnchorTable, rows: NDArray[np.int64]) -> list[tuple[str, int, tuple[slice, slice]]]:
    """Return position, frame, and the slices of rows and columns of each crop."""
    observations = table.observations.iloc[rows]
    return [
        (position, t, (_along(y, table.crops.crop), _along(x, table.crops.crop)))
        for position, t, y, x in observations[["position", "t", "y", "x"]].itertuples(index=False)
    ]


def _along(center: float, side: int) -> slice:
    start = int(np.clip(round(center) - side // 2, 0, SIDE - side))
    return slice(start, start + side)


OURS = "CropReader"
METHODS: dict[str, Callable[[AnchorTable], Reader]] = {
    OURS: partial(read_concurrently, cache_mb=256),
    "CropReader, without a cache between batches": partial(read_concurrently, cache_mb=0),
    "zarr-python, crop by crop": partial(read_crop_by_crop, open_image=_by_zarr),
    "iohub's default (zarrs), crop by crop": partial(read_crop_by_crop, open_image=_by_iohub),
    "iohub's default (zarrs), complete frames": partial(read_frames, open_image=_by_iohub),
}
