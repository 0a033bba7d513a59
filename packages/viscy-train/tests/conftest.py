"""What the tests of viscy-train share: two tiny experiments on disk and a configuration for them."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd
import pytest
import yaml
from iohub.ngff import open_ome_zarr
from numpy.typing import NDArray

from viscy_train.anchors.experiments import Experiment
from viscy_train.anchors.plates import write_plate
from viscy_train.anchors.table import AnchorTable
from viscy_train.anchors.tracks import write_tracks
from viscy_train.config.schema import PositiveConfig
from viscy_train.sample_projects import simulation

WELLS = {"A/1": "uninfected", "B/1": "infected"}


def make_experiment(folder: Path, name: str, seed: int) -> None:
    """Write a plate with two positions of three cells in well A/1 and of two in B/1, and their tracks."""
    rng = np.random.default_rng(seed)
    images = {}
    look = simulation.Look(gain=1.0 + seed, background=100.0, blur=0.8)
    for well, n_cells in (("A/1", 3), ("B/1", 2)):
        for position in range(2):
            cells = simulation.simulate_cells(rng, n_cells, infected=well == "B/1")
            images[f"{well}/{position}"] = simulation.take_images(rng, cells, look, 3.0)
            write_tracks(folder / "tracks" / name / well / f"{position}.csv", simulation.tracks_of(cells))
    write_plate(folder / "plates" / f"{name}.zarr", simulation.CHANNELS, images)


def make_experiments(folder: Path) -> list[Experiment]:
    """Return the two experiments of a folder."""
    return [
        Experiment(
            name=name,
            plate=folder / "plates" / f"{name}.zarr",
            tracks=folder / "tracks" / name,
            channels=list(simulation.CHANNELS),
            conditions=WELLS,
            minutes_per_frame=30,
            hour_of_infection=-3,
        )
        for name in ("monday", "tuesday")
    ]


CONFIG: dict[str, Any] = {
    "seed_everything": 5,
    "output": "run",
    "trainer": {"max_epochs": 2, "accelerator": "cpu", "devices": 1, "log_every_n_steps": 1},
    "checkpoint": {"every_n_steps": 3},
    "model": {
        "encoder": {"name": "tiny", "width": 4, "features": 8, "projection": 4},
        "loss": {"temperature": 0.2},
        "optimizer": {"learning_rate": 0.002},
    },
    "data": {
        "experiments": "experiments.yaml",
        "anchors": "anchors.parquet",
        "crop": 16,
        "positive": {"min_frames": 1, "max_frames": 3},
        "sampler": {"batch_size": 16, "leaky": 0.125, "temporal_enrichment": True},
        "split": {"by": "position", "fraction": 0.5},
        "num_workers": 0,
    },
}


def changed(config: dict[str, Any], changes: dict[str, Any]) -> dict[str, Any]:
    """Return a configuration with some values changed, each named by its dotted key; None takes a key away."""
    config = copy.deepcopy(config)
    for key, value in changes.items():
        *sections, name = key.split(".")
        place = config
        for section in sections:
            place = place.setdefault(section, {})
        if value is None:
            place.pop(name, None)
        else:
            place[name] = value
    return config


@pytest.fixture(scope="session")
def data_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with two experiments, not to be changed."""
    folder = tmp_path_factory.mktemp("data")
    make_experiment(folder, "monday", 1)
    make_experiment(folder, "tuesday", 2)
    return folder


@pytest.fixture(scope="session")
def table(data_folder: Path) -> AnchorTable:
    """The anchor table of the two experiments."""
    from viscy_train.anchors.build import build_anchor_table

    return build_anchor_table(make_experiments(data_folder), PositiveConfig(min_frames=1, max_frames=3), 16, 1)


@pytest.fixture(scope="session")
def make_project(data_folder: Path, table: AnchorTable) -> Callable[..., Path]:
    """A function that writes the files of a project into a folder, with changes of the configuration."""
    return partial(write_project, data_folder=data_folder, table=table)


@pytest.fixture
def project(make_project: Callable[..., Path], tmp_path: Path) -> Path:
    """The configuration file of a project in a new folder."""
    return make_project(tmp_path)


def write_project(folder: Path, *, data_folder: Path, table: AnchorTable, **changes: Any) -> Path:
    """Write `experiments.yaml`, `anchors.parquet` and `config.yaml` of the two experiments; return the last."""
    experiments = [
        {
            "name": one.name,
            "plate": str(one.plate),
            "tracks": str(one.tracks),
            "channels": one.channels,
            "conditions": one.conditions,
            "minutes_per_frame": one.minutes_per_frame,
            "hour_of_infection": one.hour_of_infection,
        }
        for one in make_experiments(data_folder)
    ]
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "experiments.yaml").write_text(yaml.safe_dump({"experiments": experiments}, sort_keys=False))
    table.write(folder / "anchors.parquet")
    path = folder / "config.yaml"
    path.write_text(yaml.safe_dump(changed(CONFIG, changes), sort_keys=False))
    return path


def make_table(
    folder: Path,
    *,
    names: tuple[str, ...] = ("monday", "tuesday"),
    channels: tuple[str, ...] = ("Phase3D", "Virus"),
    shape: tuple[int, ...] = (6, 3, 3, 40, 48),
    dtype: str = "uint16",
    version: Literal["0.4", "0.5"] = "0.5",
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
                track, t = (values.ravel() for values in np.mgrid[:4, : shape[0]])
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
        observations=cells.astype(dict.fromkeys(categories, "category")),
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
