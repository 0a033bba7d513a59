"""The plate of the store benchmark, and its anchor table: generated, with four positions of large frames."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from iohub.ngff import open_ome_zarr

from viscy_train.anchors.table import AnchorTable
from viscy_train.config.schema import CropSettings, PositiveConfig

from .still_cells import CHANNELS, as_camera, make_still_cells, smooth_frame

SIDE = 2048
CROP = 64
N_FRAMES = 16
N_TRACKS = 300
_POSITIONS = ["A/1/0", "A/1/1", "B/1/0", "B/1/1"]


def write_plate(path: Path, chunk: int) -> None:
    """Write a plate in OME-NGFF 0.5 with four positions and iohub's default compression, Zstandard.

    Parameters
    ----------
    path : pathlib.Path
        Store to create.
    chunk : int
        Side of a chunk, in pixels. A chunk contains one channel of one frame.
    """
    rng = np.random.default_rng(0)
    frame = as_camera(rng, smooth_frame(rng, SIDE))
    with open_ome_zarr(path, layout="hcs", mode="w-", channel_names=CHANNELS, version="0.5") as plate:
        for index, name in enumerate(_POSITIONS):
            shifts = (101 * (N_FRAMES * index + t) for t in range(N_FRAMES))
            images = np.stack([np.roll(frame, shift, axis=-1) for shift in shifts])
            plate.create_position(*name.split("/")).create_image("0", images, chunks=(1, 1, 1, chunk, chunk))


def make_table(path: Path) -> AnchorTable:
    """Return the anchor table of the plate at a path."""
    centers = np.random.default_rng(1).uniform(0, SIDE - 1, (N_TRACKS * len(_POSITIONS), 2))
    return make_still_cells(path, _POSITIONS, N_FRAMES, centers, CropSettings(crop=CROP), PositiveConfig())
