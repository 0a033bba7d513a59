"""What the tests of viscy-train share: two tiny experiments on disk and a configuration for them."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from iohub.ngff import open_ome_zarr
from numpy.typing import NDArray

from viscy_train import simulation
from viscy_train.anchor_table import AnchorTable
from viscy_train.config import (
    Config,
    EncoderConfig,
    ExperimentConfig,
    PositiveConfig,
    SamplerConfig,
    TrainingConfig,
    dump_config,
)
from viscy_train.experiments import Experiment
from viscy_train.plates import write_plate
from viscy_train.tracks import write_tracks

WELLS = {"A/1": "uninfected", "B/1": "infected"}


def make_experiment(folder: Path, name: str, seed: int) -> None:
    """Write a plate with three cells in well A/1 and two in B/1, and their tracks."""
    rng = np.random.default_rng(seed)
    images = {}
    look = simulation.Look(gain=1.0 + seed, background=100.0, blur=0.8)
    for well, n_cells in (("A/1", 3), ("B/1", 2)):
        cells = simulation.simulate_cells(rng, n_cells, infected=well == "B/1")
        images[f"{well}/0"] = simulation.take_images(rng, cells, look, 3.0)
        write_tracks(folder / "tracks" / name / well / "0.csv", simulation.tracks_of(cells))
    write_plate(folder / "plates" / f"{name}.zarr", simulation.CHANNELS, images)


def make_config(folder: Path, **changes: object) -> Config:
    """Return a configuration of the experiments in a folder, with some fields changed."""
    experiments = [
        ExperimentConfig(
            name=name,
            plate=folder / "plates" / f"{name}.zarr",
            tracks=folder / "tracks" / name,
            hours_at_start=3.0,
            hours_per_frame=0.5,
            conditions=WELLS,
        )
        for name in ("monday", "tuesday")
    ]
    config = Config(
        experiments=experiments,
        channels=list(simulation.CHANNELS),
        output=folder / "run",
        seed=5,
        crop=16,
        positive=PositiveConfig(min_frames=1, max_frames=3),
        sampler=SamplerConfig(batch_size=16, leaky=0.125, temporal_enrichment=True),
        encoder=EncoderConfig(width=4, features=8, projection=4),
        training=TrainingConfig(epochs=2, processes=2),
    )
    return replace(config, **changes)


@pytest.fixture(scope="session")
def data_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with two experiments, not to be changed."""
    folder = tmp_path_factory.mktemp("data")
    make_experiment(folder, "monday", 1)
    make_experiment(folder, "tuesday", 2)
    return folder


@pytest.fixture
def config(data_folder: Path, tmp_path: Path) -> Config:
    """A configuration of the two experiments, with a new output folder."""
    return make_config(data_folder, output=tmp_path / "run")


@pytest.fixture
def config_file(config: Config, tmp_path: Path) -> Path:
    """The configuration as a file."""
    path = tmp_path / "config.yaml"
    path.write_text(dump_config(config), encoding="utf-8")
    return path


def make_table(
    folder: Path,
    *,
    names: tuple[str, ...] = ("monday", "tuesday"),
    channels: tuple[str, ...] = ("Phase3D", "Virus"),
    shape: tuple[int, ...] = (6, 3, 3, 40, 48),
    dtype: str = "uint16",
    version: str = "0.5",
    chunks: tuple[int, ...] = (1, 1, 1, 16, 16),
    shards_ratio: tuple[int, ...] | None = None,
    **changes: object,
) -> tuple[AnchorTable, dict[tuple[str, str], NDArray]]:
    """Write plates of noise, and return a table of four cells a position and the images by experiment and position.

    Plates have the channels Phase3D, Virus and Nuclei; the cells of a position are on its borders and within.
    """
    rng = np.random.default_rng(0)
    images, frames = {}, []
    for name in names:
        path = folder / f"{name}.zarr"
        with open_ome_zarr(
            path, layout="hcs", mode="w-", channel_names=["Phase3D", "Virus", "Nuclei"], version=version
        ) as plate:
            for position in ("A/1/0", "B/1/0"):
                image = (rng.random(shape) * 200).astype(dtype)
                images[name, position] = image
                created = plate.create_position(*position.split("/"))
                created.create_image("0", image, chunks=chunks, shards_ratio=shards_ratio)
                t, track = (values.ravel() for values in np.mgrid[: shape[0], :4])
                y, x = (rng.uniform(0, side - 1, len(t)) for side in shape[3:])
                y[track == 0], x[track == 0] = 0.0, shape[4] - 1.0
                cells = pd.DataFrame({"track_id": track, "t": t, "y": y, "x": x})
                frames.append(cells.assign(experiment=name, well=position[:3], position=position))
    cells = pd.concat(frames, ignore_index=True)
    cells["condition"] = cells["well"].map(WELLS)
    cells["parent_track_id"], cells["has_positive"] = -1, True
    cells["lineage_id"] = cells.groupby(["experiment", "position", "track_id"], sort=False).ngroup()
    cells["hours_post_infection"] = cells["t"] * 0.5
    categories = ["experiment", "condition", "well", "position"]
    experiments = [
        Experiment(
            name=name,
            plate=folder / f"{name}.zarr",
            tracks=folder,
            channels=list(channels),
            conditions=WELLS,
            minutes_per_frame=30,
        )
        for name in names
    ]
    brightness = {name: [[10.0 * i + j, 2.0 + i + j] for j in range(len(channels))] for i, name in enumerate(names)}
    table = AnchorTable(
        cells=cells.astype(dict.fromkeys(categories, "category")),
        experiments=experiments,
        positive=PositiveConfig(min_frames=1, max_frames=3),
        crop=8,
        z_slices=1,
        brightness=brightness,
        dropped=[],
    )
    return replace(table, **changes), images


@pytest.fixture
def table_of(tmp_path: Path):
    """Make a table of plates of noise, and the images, with some things changed."""
    return partial(make_table, tmp_path)


@pytest.fixture(scope="session")
def noise(tmp_path_factory: pytest.TempPathFactory) -> tuple[AnchorTable, dict[tuple[str, str], NDArray]]:
    """A table of plates of noise, and the images, not to be changed."""
    return make_table(tmp_path_factory.mktemp("noise"))
