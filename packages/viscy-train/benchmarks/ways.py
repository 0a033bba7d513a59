"""Ways to read the crops of a batch: all at once, as viscy-train does, and plainer ones."""

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


def all_at_once(table: AnchorTable, cache_mb: int) -> Reader:
    """Read as viscy-train does."""
    return CropReader(table, cache_mb=cache_mb).read


def one_by_one(table: AnchorTable, open_image: Callable[[AnchorTable, str], Any]) -> Reader:
    """Read each crop by itself."""
    images = _images(table, open_image)

    def read(rows: NDArray[np.int64]) -> NDArray[np.float32]:
        crops = [images[position][t, :, 0:1, *square] for position, t, square in _where(table, rows)]
        return np.stack(crops).astype(np.float32)

    return read


def whole_frames(table: AnchorTable, open_image: Callable[[AnchorTable, str], Any]) -> Reader:
    """Read the frames that a batch needs, each once, and cut the crops from them."""
    images = _images(table, open_image)

    def read(rows: NDArray[np.int64]) -> NDArray[np.float32]:
        crops: list[NDArray] = [np.empty(0)] * len(rows)
        frames: dict[tuple[str, int], NDArray] = {}
        # in the order of the frames, so that only one is in memory
        for slot, (position, t, square) in sorted(enumerate(_where(table, rows)), key=lambda entry: entry[1][:2]):
            if (position, t) not in frames:
                frames = {(position, t): images[position][t, :, 0:1]}
            crops[slot] = frames[position, t][..., *square].copy()
        return np.stack(crops).astype(np.float32)

    return read


def _by_zarr(table: AnchorTable, position: str) -> Any:
    return zarr.open_array(table.experiments[0].plate / position / "0", mode="r")


def _by_iohub(table: AnchorTable, position: str) -> Any:
    return open_ome_zarr(table.experiments[0].plate, layout="hcs", mode="r")[position]["0"]


def _images(table: AnchorTable, open_image: Callable[[AnchorTable, str], Any]) -> dict[str, Any]:
    return {name: open_image(table, name) for name in table.observations["position"].cat.categories}


def _where(table: AnchorTable, rows: NDArray[np.int64]) -> list[tuple[str, int, tuple[slice, slice]]]:
    """Return position, frame, and the slices of rows and columns, of each crop."""
    cells = table.observations.iloc[rows]
    return [
        (position, t, (_along(y, table.crop), _along(x, table.crop)))
        for position, t, y, x in zip(cells["position"], cells["t"], cells["y"], cells["x"], strict=True)
    ]


def _along(centre: float, side: int) -> slice:
    start = int(np.clip(round(centre) - side // 2, 0, SIDE - side))
    return slice(start, start + side)


OURS = "CropReader"
WAYS: dict[str, Callable[[AnchorTable], Reader]] = {
    OURS: partial(all_at_once, cache_mb=256),
    "CropReader, no cache kept between batches": partial(all_at_once, cache_mb=0),
    "zarr-python, crop by crop": partial(one_by_one, open_image=_by_zarr),
    "iohub's default (zarrs), crop by crop": partial(one_by_one, open_image=_by_iohub),
    "iohub's default (zarrs), whole frames": partial(whole_frames, open_image=_by_iohub),
}
