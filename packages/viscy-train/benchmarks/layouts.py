"""Layouts: plates that differ in how their chunks are stored, with many frames on little disk, and their table.

A layout has a few distinct frames. All other frames of all positions are links to their directories, so that a batch
touches as many files as in a large project.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import zarr
from numpy.typing import NDArray
from zarr.codecs import BloscCodec, ZstdCodec

from viscy_train.anchors.table import AnchorTable
from viscy_train.config.schema import CropSettings, PositiveConfig

from .still_cells import CHANNELS, CONDITIONS, as_camera, make_still_cells, smooth_frame

CROP = 160
N_POSITIONS = 100
N_FRAMES = 30
N_TRACKS = 40
N_DISTINCT = 4
POSITIONS = [f"{well}/{number}" for well in CONDITIONS for number in range(N_POSITIONS // len(CONDITIONS))]


@dataclass(frozen=True)
class Layout:
    """How the images of a plate are stored.

    Parameters
    ----------
    name : str
        What tables call it.
    side, n_slices : int
        Height and width of an image, and number of its slices, all of which a crop has.
    chunk : int
        Side of a chunk, which has one slice.
    compressor : codec or None
        What compresses chunks.
    is_sharded : bool
        Whether all chunks of a frame and channel are in one shard.
    """

    name: str
    side: int
    n_slices: int
    chunk: int
    compressor: Any = None
    is_sharded: bool = False

    @property
    def shape(self) -> tuple[int, int, int, int, int]:
        """The shape of an image."""
        return N_FRAMES, len(CHANNELS), self.n_slices, self.side, self.side


_ZSTD = ZstdCodec(level=1)
LAYOUTS = {
    "zstd": Layout("2048 x 2048, Zstandard", 2048, 1, 2048, _ZSTD),
    "small": Layout("512 x 512, Zstandard", 2048, 1, 512, _ZSTD),
    "raw": Layout("2048 x 2048, not compressed", 2048, 1, 2048),
    "stack": Layout("15 slices, 512 x 512, Blosc with Zstandard", 1024, 15, 512, BloscCodec(cname="zstd", clevel=1)),
    "shards": Layout("15 slices, shards of 128 x 128, Zstandard", 1024, 15, 128, _ZSTD, is_sharded=True),
}


def write_plate(path: Path, layout: Layout) -> None:
    """Write a plate in OME-NGFF 0.5, with uint16 images of two channels in which neighboring pixels are similar."""
    from iohub.ngff import open_ome_zarr  # which takes seconds to load

    frames = path.with_suffix(".frames")
    array = zarr.create_array(
        frames / "0",
        shape=layout.shape,
        chunks=(1, 1, 1, layout.chunk, layout.chunk),
        shards=(1, 1, *layout.shape[2:]) if layout.is_sharded else None,
        dtype="uint16",
        compressors=layout.compressor,
        fill_value=0,
    )
    for number, frame in enumerate(distinct_frames(layout)):
        array[number] = frame
    metadata = (frames / "0/zarr.json").read_bytes()
    with open_ome_zarr(path, layout="hcs", mode="w-", channel_names=CHANNELS, version="0.5") as plate:
        for position in POSITIONS:
            chunks = (1, 1, 1, layout.chunk, layout.chunk)
            plate.create_position(*position.split("/")).create_zeros("0", layout.shape, np.uint16, chunks=chunks)
    for index, position in enumerate(POSITIONS):
        (path / position / "0/zarr.json").write_bytes(metadata)
        directory = path / position / "0/c"
        directory.mkdir(exist_ok=True)
        for frame in range(N_FRAMES):
            (directory / str(frame)).symlink_to(frames / "0/c" / str(which_frame(index, frame)))


def which_frame(position: Any, frame: Any) -> Any:
    """Return which of the distinct frames a frame of a position is."""
    return (7 * position + frame) % N_DISTINCT


def distinct_frames(layout: Layout) -> list[NDArray[np.uint16]]:
    """Return the distinct frames of a layout, shape (n_channels, n_slices, height, width)."""
    rng = np.random.default_rng(0)
    frame = smooth_frame(rng, layout.side)
    slices = np.concatenate([np.roll(frame, 31 * z, axis=-2) for z in range(layout.n_slices)], axis=1)
    image = as_camera(rng, slices)
    return [np.roll(image, 101 * number, axis=-1) for number in range(N_DISTINCT)]


def make_table(path: Path, layout: Layout) -> AnchorTable:
    """Return the anchor table of a plate, whose crops lie inside the images."""
    centers = np.random.default_rng(1).integers(CROP, layout.side - CROP, (N_TRACKS * len(POSITIONS), 2))
    crops = CropSettings(crop=CROP, z_slices=layout.n_slices)
    return make_still_cells(path, POSITIONS, N_FRAMES, centers, crops, PositiveConfig(min_frames=1, max_frames=3))
