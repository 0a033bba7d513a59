"""What the tests of viscy-train share: two tiny experiments on disk and a configuration for them."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from viscy_train import simulation
from viscy_train.anchor_table import AnchorTable
from viscy_train.config import PositiveConfig
from viscy_train.experiments import Experiment
from viscy_train.plates import write_plate
from viscy_train.tracks import write_tracks

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
    from viscy_train.index import build_index

    return build_index(make_experiments(data_folder), PositiveConfig(min_frames=1, max_frames=3), 16, 1)


@pytest.fixture
def project(data_folder: Path, table: AnchorTable, tmp_path: Path) -> Path:
    """A new folder with `experiments.yaml`, `anchors.parquet` and `config.yaml` of the two experiments."""
    write_project(tmp_path, data_folder, table)
    return tmp_path


def write_project(folder: Path, data_folder: Path, table: AnchorTable, **changes: Any) -> Path:
    """Write the three files of a project, with some values of the configuration changed; return its path."""
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
