"""Demo project: three small simulated experiments and a configuration to train on them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from viscy_train.atomic import atomic_directory
from viscy_train.console import track
from viscy_train.plates.plate import write_plate
from viscy_train.run.directory import require_new
from viscy_train.sample_projects.simulation import (
    CHANNELS,
    HOURS_PER_FRAME,
    Microscope,
    simulate_cells,
    take_images,
    tracks_of,
)
from viscy_train.tracks.tracks import write_tracks

if TYPE_CHECKING:
    from pathlib import Path

_SEED = 0


@dataclass(frozen=True, kw_only=True)
class SimulatedExperiment:
    """Settings of a simulated experiment.

    Parameters
    ----------
    name : str
        Name of the experiment.
    microscope : Microscope
        Imaging properties.
    hours_at_start : float
        Hours post infection of the first frame.
    uninfected : tuple of int
        Number of cells in each position of well ``A/1``.
    infected : tuple of int
        Number of cells in each position of well ``B/1``.
    """

    name: str
    microscope: Microscope
    hours_at_start: float
    uninfected: tuple[int, ...]
    infected: tuple[int, ...]


_SIMULATED = (
    SimulatedExperiment(
        name="monday",
        microscope=Microscope(gain=1.0, background=100, blur=0.7),
        hours_at_start=3.0,
        uninfected=(18, 17),
        infected=(12,),
    ),
    SimulatedExperiment(
        name="wednesday",
        microscope=Microscope(gain=2.5, background=400, blur=1.6),
        hours_at_start=4.0,
        uninfected=(14, 15),
        infected=(10,),
    ),
    SimulatedExperiment(
        name="friday",
        microscope=Microscope(gain=0.5, background=60, blur=1.1),
        hours_at_start=2.5,
        uninfected=(20,),
        infected=(14,),
    ),
)


def write_demo(out: Path) -> Path:
    """Write the demo project.

    Parameters
    ----------
    out : pathlib.Path
        New or empty directory. Receives ``plates``, ``tracks``, ``experiments.yaml`` and ``config.yaml``.

    Returns
    -------
    pathlib.Path
        The configuration file.

    Raises
    ------
    UserError
        If the directory is not empty or cannot be written, for example because the disk is full. An incomplete project
        is removed.
    """
    require_new(out, "delete it, or choose another directory with --out")
    config = out / "config.yaml"
    with atomic_directory(out):
        for number, experiment in enumerate(track(_SIMULATED, "simulating experiments")):
            _write_experiment(out, experiment, np.random.default_rng((_SEED, number)))
        (out / "experiments.yaml").write_text(_experiments_yaml(), encoding="utf-8")
        config.write_text(_CONFIG, encoding="utf-8")
    return config


def _write_experiment(out: Path, experiment: SimulatedExperiment, rng: np.random.Generator) -> None:
    images = {}
    wells = {"A/1": experiment.uninfected, "B/1": experiment.infected}
    for well, positions in wells.items():
        for number, n_cells in enumerate(positions):
            cells = simulate_cells(rng, n_cells, infected=well == "B/1")
            images[f"{well}/{number}"] = take_images(rng, cells, experiment.microscope, experiment.hours_at_start)
            write_tracks(out / "tracks" / experiment.name / well / f"{number}.csv", tracks_of(cells))
    write_plate(out / "plates" / f"{experiment.name}.zarr", CHANNELS, images)


def _experiments_yaml() -> str:
    experiments = "".join(
        _EXPERIMENT.format(
            name=experiment.name,
            infection=-experiment.hours_at_start,
            minutes=60 * HOURS_PER_FRAME,
            channels=", ".join(CHANNELS),
        )
        for experiment in _SIMULATED
    )
    return _EXPERIMENTS.format(experiments=experiments)


_EXPERIMENTS = """\
# The plates and tracks of each experiment, and the condition and the time of infection of its wells.
# Relative paths start at the directory of this file. hour_of_infection is counted from the first frame; -3 means that
# the cells were infected three hours before it.
experiments:
{experiments}"""

_EXPERIMENT = """\
- name: {name}
  plate: plates/{name}.zarr
  tracks: tracks/{name}
  channels: [{channels}]
  conditions: {{A/1: uninfected, B/1: infected}}
  minutes_per_frame: {minutes:g}
  hour_of_infection: {infection:g}
"""

_CONFIG = f"""\
# To train again: viscy-train fit --config THIS_FILE --out A_NEW_DIRECTORY
# To see the composition of the batches without training: viscy-train inspect --config THIS_FILE
# Relative paths start at the directory of this file.

seed_everything: {_SEED}

# A new or empty directory for the results.
output: run

trainer:
  max_epochs: 2
  accelerator: cpu
  # Two processes, each with its own batches.
  devices: 2
  strategy: ddp
  log_every_n_steps: 1

model:
  # A small network for a laptop. Any other name is a model of timm, such as convnext_tiny.
  encoder: {{name: tiny, width: 16, features: 64, projection: 32}}
  # Crops of the same lineage attract each other and repel all other crops of their batch.
  loss: {{name: supcon, temperature: 0.2, positives: lineage}}
  optimizer: {{learning_rate: 0.002, schedule: constant}}

data:
  # `viscy-train index` reads the experiments and writes the anchors.
  experiments: experiments.yaml
  anchors: anchors.parquet

  # The encoder sees a square of this many pixels around each cell.
  crop: 32

  # The positive of an anchor belongs to the same lineage, this many frames earlier or later.
  positive: {{min_frames: 1, max_frames: 4}}

  # The composition of the batches. These are the parameters of viscy_data.FlexibleBatchSampler. To find out whether it
  # pays on your cells: viscy-train compare --config THIS_FILE
  sampler:
    batch_size: 64
    # Each batch comes from one experiment. Set this to false where experiments have one condition each: there it hurt.
    experiment_aware: true
    # How often each experiment is chosen: proportional (to its number of anchors), sqrt, uniform, or a weight for each.
    experiment_weights: uniform
    # Each condition makes up half of each batch, however rare it is.
    condition_balanced: true
    # Off, because neither gained anything where it was measured. A leak takes a part of each batch, such as 0.125, from
    # other experiments, and undid part of their mixing. Temporal enrichment takes most of each batch from within
    # temporal_window_hours of one time, and embeddings said less of the hours: turn it on only if time is a nuisance.
    leaky: 0.0
    temporal_enrichment: false

  # Use {{by: position}} to keep some positions for validation. The demo has too few positions for that.
  split: {{by: none}}

  # Number of threads of each process that load batches ahead. The two training processes already use two cores.
  num_workers: 0
"""
