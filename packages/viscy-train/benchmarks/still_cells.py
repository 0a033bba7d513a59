"""Still cells: the parts of a generated plate that benchmarks share, and the anchor table of cells that do not move."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from viscy_train.anchors.table import AnchorTable
from viscy_train.experiments.experiments_file import Experiment

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

    from viscy_train.config.schema import CropSettings, PositiveConfig

CHANNELS = ["Phase3D", "Virus"]
CONDITIONS = {"A/1": "uninfected", "B/1": "infected"}
_MINUTES_PER_FRAME = 30
_SMOOTHING_STEPS = 4


def smooth_frame(rng: np.random.Generator, side: int) -> NDArray[np.float32]:
    """Return a frame of noise in which neighboring pixels are similar, as in an image, so that it can be compressed.

    Its shape is (n_channels, 1, side, side), its mean about 0 and its standard deviation about 1.
    """
    frame = rng.normal(size=(len(CHANNELS), 1, side, side)).astype(np.float32)
    for shift in range(_SMOOTHING_STEPS):
        for axis in (-2, -1):
            frame = (frame + np.roll(frame, 2**shift, axis)) / np.float32(np.sqrt(2))
    return frame


def as_camera(rng: np.random.Generator, frame: NDArray[np.float32]) -> NDArray[np.uint16]:
    """Return a frame as a camera would record it, with noise of its own in each pixel."""
    noise = rng.normal(scale=10, size=frame.shape)
    return (1000 + 100 * frame + noise).clip(0, 65535).astype(np.uint16)


def make_still_cells(
    path: Path,
    positions: list[str],
    n_frames: int,
    centers: NDArray[Any],
    crops: CropSettings,
    positive: PositiveConfig,
) -> AnchorTable:
    """Return the anchor table of a plate whose cells do not move and are tracked in all frames, in order of position.

    Parameters
    ----------
    path : pathlib.Path
        Path of the plate.
    positions : list of str
        Positions, each in a well of `CONDITIONS`, with equally many cells.
    n_frames : int
        Number of frames.
    centers : NDArray
        Row and column of each cell, in pixels, shape (n_cells, 2).
    crops : CropSettings
        Size of crops.
    positive : PositiveConfig
        Which observations are positives.

    Returns
    -------
    AnchorTable
        With mean 0 and standard deviation 1 for each channel, so that normalization does not change the pixels.
    """
    tracks = np.arange(len(centers)).repeat(n_frames)
    position = np.array(positions).repeat(len(tracks) // len(positions))
    frames = np.tile(np.arange(n_frames), len(centers))
    observations = pd.DataFrame(
        {
            "experiment": "generated",
            "condition": [CONDITIONS[name[:3]] for name in position],
            "well": [name[:3] for name in position],
            "position": position,
            "track_id": tracks,
            "parent_track_id": -1,
            "lineage_id": tracks,
            "t": frames,
            "hours_post_infection": _MINUTES_PER_FRAME / 60 * frames,
            "y": centers[tracks, 0].astype(np.float64),
            "x": centers[tracks, 1].astype(np.float64),
            "has_positive": True,
        }
    )
    experiment = Experiment(
        name="generated",
        plate=path,
        tracks=path,
        channels=CHANNELS,
        conditions=CONDITIONS,
        minutes_per_frame=_MINUTES_PER_FRAME,
    )
    return AnchorTable(
        observations=observations.astype(dict.fromkeys(["experiment", "condition", "well", "position"], "category")),
        experiments=[experiment],
        positive=positive,
        crops=crops,
        intensity={"generated": [[0.0, 1.0]] * len(CHANNELS)},
        excluded=[],
    )
