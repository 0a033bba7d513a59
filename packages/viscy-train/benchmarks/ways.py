"""Ways: how the crops of a batch can be read, from viscy-train's to the limits of the machine."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import zarr
from numpy.typing import NDArray

from viscy_train.anchors.table import AnchorTable
from viscy_train.loading.crop_source import CropSource
from viscy_train.loading.crops import CropReader
from viscy_train.packing.pack import pack as pack_store

from .layouts import CHANNELS, CROP, LAYOUTS, N_FRAMES, N_TRACKS, Layout, distinct_frames, make_table, which_frame
from .measure import measure

type Read = Callable[[NDArray[np.int64]], NDArray]

_CACHE_MB = 256
# All frames of a position, decoded.
_LARGE_CACHE_MB = 8192


def read_plate(path: Path, layout: Layout) -> Read:
    """Read from the plate as viscy-train does."""
    return _read_source(CropReader(make_table(path, layout), cache_mb=_CACHE_MB).source)


def read_cached(path: Path, layout: Layout) -> Read:
    """Read as viscy-train does what it has decoded before: all frames of the first position."""
    read = _read_source(CropReader(make_table(path, layout), cache_mb=_LARGE_CACHE_MB).source)
    of_position = np.arange(N_TRACKS * N_FRAMES)
    for _ in range(2):  # a chunk enters the cache when it is needed for the second time
        read(of_position)
    return lambda rows: read(rows % len(of_position))


def read_store(path: Path, layout: Layout) -> Read:
    """Read from a crop store."""
    store = path.with_name("crops.zarr")
    return _read_source(CropReader(_packed_table(path, layout), cache_mb=_CACHE_MB, store=store).source)


def pack(path: Path, layout: Layout) -> int:
    """Pack some observations into a crop store beside the plate; return their number."""
    table = _packed_table(path, layout)
    pack_store(table, path.with_name("crops.zarr"), cache_mb=_CACHE_MB)
    return len(table.observations)


def _packed_table(path: Path, layout: Layout) -> AnchorTable:
    """Return a table of few observations of all positions, enough for batches that a cache does not hold."""
    table = make_table(path, layout)
    n_frames, every = (8, 8) if layout.n_slices == 1 else (4, 20)
    observations = table.observations
    is_packed = (observations["t"] < n_frames) & (observations["track_id"] % every == 0)
    return replace(table, observations=observations[is_packed].reset_index(drop=True))


def read_by_zarr(path: Path, layout: Layout) -> Read:
    """Read one crop after the other with zarr-python."""
    table = make_table(path, layout)
    names = table.observations["position"].cat.categories
    images = {name: zarr.open_array(path / name / "0", mode="r") for name in names}

    def read(rows: NDArray[np.int64]) -> NDArray:
        return np.stack([images[name][t, :, :, *square] for name, t, square in _locate(table, rows)])

    return read


def read_frames(path: Path, layout: Layout) -> Read:
    """Read each frame that a batch needs once, with iohub's default (zarrs), and cut the crops from it."""
    from iohub.ngff import open_ome_zarr  # which takes seconds to load, in all other processes in vain

    table = make_table(path, layout)
    plate = open_ome_zarr(path, layout="hcs", mode="r")
    images = {name: plate[name]["0"] for name in table.observations["position"].cat.categories}

    def read(rows: NDArray[np.int64]) -> NDArray:
        crops = np.empty((len(rows), len(CHANNELS), layout.n_slices, CROP, CROP), dtype=np.uint16)
        frame, of_frame = None, None
        # In the order of the frames, so that only one is in memory.
        for slot, (name, t, square) in sorted(enumerate(_locate(table, rows)), key=lambda entry: entry[1][:2]):
            if (name, t) != of_frame:
                frame, of_frame = images[name][t], (name, t)
            assert frame is not None
            crops[slot] = frame[..., *square]
        return crops

    return read


def read_decoded(path: Path, layout: Layout) -> Read:
    """Cut crops from frames that are in memory."""
    table, frames = make_table(path, layout), distinct_frames(layout)
    position = np.arange(len(table.observations)) // (N_TRACKS * N_FRAMES)

    def read(rows: NDArray[np.int64]) -> NDArray:
        crops = np.empty((len(rows), len(CHANNELS), layout.n_slices, CROP, CROP), dtype=np.uint16)
        for slot, (_, t, square) in enumerate(_locate(table, rows)):
            crops[slot] = frames[which_frame(position[rows[slot]], t)][..., *square]
        return crops

    return read


def copy_memory(path: Path, layout: Layout) -> Read:
    """Copy as many bytes as crops have."""
    shape = len(CHANNELS), layout.n_slices, CROP, CROP
    source = np.ones((1024, *shape), dtype=np.uint16)
    return lambda rows: source[: len(rows)].copy()


def _read_source(source: CropSource) -> Read:
    def read(rows: NDArray[np.int64]) -> NDArray:
        (crops,) = source.read(rows)
        return crops.pixels

    return read


def _locate(table: AnchorTable, rows: NDArray[np.int64]) -> list[tuple[str, int, tuple[slice, slice]]]:
    """Return position, frame, and the slices of rows and columns of each crop."""
    observations = table.observations.iloc[rows]
    corners = observations[["y", "x"]].to_numpy(np.int64) - CROP // 2
    return [
        (name, t, (slice(top, top + CROP), slice(left, left + CROP)))
        for name, t, (top, left) in zip(
            observations["position"].tolist(), observations["t"].tolist(), corners.tolist(), strict=True
        )
    ]


CACHED, COPY = "limit: viscy-train, chunks already decoded", "limit: memory is copied"
OURS, LOCALITY, STORE, VISCY = "viscy-train", "viscy-train, locality 8", "viscy-train, crop store", "VisCy's dataset"
WAYS: dict[str, Callable[[Path, Layout], Read]] = {
    OURS: read_plate,
    LOCALITY: read_plate,
    STORE: read_store,
    "zarr-python, crop by crop": read_by_zarr,
    "iohub (zarrs), whole frames": read_frames,
    CACHED: read_cached,
    "limit: frames in memory, cut by NumPy": read_decoded,
    COPY: copy_memory,
}

if __name__ == "__main__":
    measure(WAYS[sys.argv[2]](Path(sys.argv[3]) / "plate.zarr", LAYOUTS[sys.argv[1]]), sys.argv[4])
