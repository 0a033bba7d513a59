"""What the tests of viscy-train share: two tiny experiments on disk and a configuration for them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from viscy_train import simulation
from viscy_train.config import (
    Config,
    EncoderConfig,
    ExperimentConfig,
    PositiveConfig,
    SamplerConfig,
    TrainingConfig,
    dump_config,
)
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
