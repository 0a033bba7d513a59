"""The plate of the store benchmark, and its anchor table: generated, with four positions of large frames."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
from iohub.ngff import open_ome_zarr

from viscy_train.anchors.table import AnchorTable
from viscy_train.config.schema import CropSettings, PositiveConfig
from viscy_train.experiments.experiments_file import Experiment

CHANNELS = ["Phase3D", "Virus"]
CONDITIONS = {"A/1": "uninfected", "B/1": "infected"}
SIDE = 2048
CROP = 64
N_FRAMES = 16
N_TRACKS = 300
_POSITIONS = ["A/1/0", "A/1/1", "B/1/0", "B/1/1"]
_SMOOTHING_STEPS = 4


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
    frame = rng.normal(size=(len(CHANNELS), 1, SIDE, SIDE)).astype(np.float32)
    for shift in range(_SMOOTHING_STEPS):  # neighboring pixels are similar, as in an image, so it can be compressed
        for axis in (-2, -1):
            frame = (frame + np.roll(frame, 2**shift, axis)) / np.float32(np.sqrt(2))
    frame = (1000 + 100 * frame + rng.normal(scale=10, size=frame.shape)).clip(0, 65535).astype(np.uint16)
    with open_ome_zarr(path, layout="hcs", mode="w-", channel_names=CHANNELS, version="0.5") as plate:
        for index, name in enumerate(_POSITIONS):
            shifts = (101 * (N_FRAMES * index + t) for t in range(N_FRAMES))
            images = np.stack([np.roll(frame, shift, axis=-1) for shift in shifts])
            plate.create_position(*name.split("/")).create_image("0", images, chunks=(1, 1, 1, chunk, chunk))


def make_table(path: Path) -> AnchorTable:
    """Return the anchor table of the plate: cells that do not move, each tracked in all frames.

    Parameters
    ----------
    path : pathlib.Path
        Path of the plate.

    Returns
    -------
    AnchorTable
        With mean 0 and standard deviation 1 for each channel, so that normalization does not change the pixels.
    """
    rng = np.random.default_rng(1)
    n_tracks = N_TRACKS * len(_POSITIONS)
    centers = rng.uniform(0, SIDE - 1, (n_tracks, 2)).repeat(N_FRAMES, axis=0)
    position = np.array(_POSITIONS).repeat(N_TRACKS * N_FRAMES)
    frames = np.tile(np.arange(N_FRAMES), n_tracks)
    observations = pd.DataFrame(
        {
            "experiment": "generated",
            "condition": [CONDITIONS[name[:3]] for name in position],
            "well": [name[:3] for name in position],
            "position": position,
            "track_id": np.arange(n_tracks).repeat(N_FRAMES),
            "parent_track_id": -1,
            "lineage_id": np.arange(n_tracks).repeat(N_FRAMES),
            "t": frames,
            "hours_post_infection": 0.5 * frames,
            "y": centers[:, 0],
            "x": centers[:, 1],
            "has_positive": True,
        }
    )
    experiment = Experiment(
        name="generated",
        plate=path,
        tracks=path,
        channels=CHANNELS,
        conditions=CONDITIONS,
        minutes_per_frame=30,
    )
    return AnchorTable(
        observations=observations.astype(dict.fromkeys(["experiment", "condition", "well", "position"], "category")),
        experiments=[experiment],
        positive=PositiveConfig(),
        crops=CropSettings(crop=CROP),
        intensity={"generated": [[0.0, 1.0]] * len(CHANNELS)},
        excluded=[],
    )
