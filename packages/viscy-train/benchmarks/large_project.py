"""The large project: a project of any size on disk, whose experiments share the pixels of one plate."""

from __future__ import annotations

import os
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import yaml

from viscy_train.plates.plate import write_plate

CHANNELS = ["Phase3D", "Marker"]
SIDE = 96
CROP = 32
N_FRAMES = 20
POSITIONS_PER_EXPERIMENT = 20
ROWS_PER_POSITION = 10_000
N_PERTURBATIONS = 1000
N_MARKERS = 40
BATCH_SIZE = 256


@dataclass(frozen=True)
class Size:
    """Size of a project.

    Parameters
    ----------
    n_positions : int
        Number of positions, a multiple of `POSITIONS_PER_EXPERIMENT`.
    """

    n_positions: int

    @property
    def n_experiments(self) -> int:
        """Number of experiments."""
        return self.n_positions // POSITIONS_PER_EXPERIMENT

    @property
    def n_rows(self) -> int:
        """Number of observations."""
        return self.n_positions * ROWS_PER_POSITION


def write_large_project(folder: Path, size: Size, *, pooled: bool = False) -> Path:
    """Write a project.

    Parameters
    ----------
    folder : pathlib.Path
        New directory.
    size : Size
        Its size.
    pooled : bool, default False
        Whether each cell has a perturbation of its own, given by annotations, so that every experiment has all of them.
        Otherwise all cells of a well have the same perturbation.

    Returns
    -------
    pathlib.Path
        The configuration.
    """
    folder.mkdir(parents=True)
    wells = [f"{chr(ord('A') + number // 5)}/{number % 5 + 1}" for number in range(POSITIONS_PER_EXPERIMENT)]
    _write_plates(folder, wells, size.n_experiments)
    experiments = [_write_experiment(folder, number, wells, pooled=pooled) for number in range(size.n_experiments)]
    (folder / "experiments.yaml").write_text(yaml.safe_dump({"experiments": experiments}), encoding="utf-8")
    path = folder / "config.yaml"
    path.write_text(
        yaml.safe_dump(
            make_config(
                max_steps=1,
                positive={"min_frames": 1, "max_frames": 4},
                sampler={"condition_by": "perturbation", "anchors_per_condition": 4} if pooled else {},
                split={"by": "none"},
            )
        ),
        encoding="utf-8",
    )
    return path


def _write_plates(folder: Path, wells: list[str], n_experiments: int) -> None:
    """Write a plate of noise, and link its files into those of the other experiments."""
    rng = np.random.default_rng(0)
    image = rng.integers(100, 4000, (N_FRAMES, len(CHANNELS), 1, SIDE, SIDE)).astype(np.uint16)
    write_plate(folder / "plates" / "0.zarr", CHANNELS, {f"{well}/0": image for well in wells})
    for number in range(1, n_experiments):
        shutil.copytree(folder / "plates" / "0.zarr", folder / "plates" / f"{number}.zarr", copy_function=os.link)


def _write_experiment(folder: Path, number: int, wells: list[str], *, pooled: bool) -> dict[str, Any]:
    rng = np.random.default_rng(number)
    n_tracks = ROWS_PER_POSITION // 17  # a tenth divides, so a track has 17 frames on average
    tracks = pd.concat([make_tracks(rng, f"{well}/0", n_tracks) for well in wells], ignore_index=True)
    (folder / "tracks").mkdir(exist_ok=True)
    tracks.to_parquet(folder / "tracks" / f"{number}.parquet")
    experiment: dict[str, Any] = {
        "name": f"experiment {number:02d}",
        "plate": f"plates/{number}.zarr",
        "tracks": f"tracks/{number}.parquet",
        "channels": CHANNELS,
        "minutes_per_frame": 30,
    }
    if not pooled:
        first = number * len(wells)
        names = {well: f"perturbation {(first + index) % N_PERTURBATIONS:04d}" for index, well in enumerate(wells)}
        return experiment | {"conditions": names}
    cells = tracks[["position", "track_id"]].drop_duplicates(ignore_index=True)
    cells["perturbation"] = np.char.mod("perturbation %04d", np.arange(len(cells)) % N_PERTURBATIONS)
    (folder / "annotations").mkdir(exist_ok=True)
    cells.to_parquet(folder / "annotations" / f"{number}.parquet")
    return experiment | {
        "conditions": dict.fromkeys(wells, "screen"),
        "annotations": f"annotations/{number}.parquet",
        "metadata": {"protein": f"protein {number % N_MARKERS:02d}"},
    }


def make_tracks(rng: np.random.Generator, position: str, n_tracks: int) -> pd.DataFrame:
    """Return tracks of all frames; the last ones are the daughters of the first ones."""
    n_mothers = n_tracks // 10
    track = np.arange(n_tracks)
    parent = np.where(track >= n_tracks - 2 * n_mothers, (track - n_tracks + 2 * n_mothers) // 2, -1)
    first = np.where(parent >= 0, N_FRAMES // 2, 0)
    last = np.where(track < n_mothers, N_FRAMES // 2, N_FRAMES)
    frames = [np.arange(start, stop) for start, stop in zip(first, last, strict=True)]
    n_frames = last - first
    y, x = rng.uniform(0, SIDE - 1, (2, n_tracks)).repeat(n_frames, axis=1)
    return pd.DataFrame(
        {
            "position": position,
            "track_id": track.repeat(n_frames),
            "t": np.concatenate(frames),
            "y": y,
            "x": x,
            "parent_track_id": parent.repeat(n_frames),
        }
    )


def make_config(
    *, max_steps: int, positive: dict[str, Any], sampler: dict[str, Any], split: dict[str, Any]
) -> dict[str, Any]:
    """Return the configuration of a run on a large table, whose encoder is tiny."""
    return {
        "output": "run",
        "trainer": {"max_steps": max_steps, "accelerator": "cpu", "devices": 1, "logger": False},
        "model": {"encoder": {"name": "tiny", "width": 4, "features": 8, "projection": 4}},
        "data": {
            "experiments": "experiments.yaml",
            "anchors": "anchors.parquet",
            "crop": CROP,
            "positive": positive,
            "sampler": {"batch_size": BATCH_SIZE, "leaky": 0.1, "temporal_enrichment": True} | sampler,
            "split": split,
            "num_workers": 0,
        },
    }
