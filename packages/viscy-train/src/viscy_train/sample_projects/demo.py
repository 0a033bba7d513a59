"""Demo: three small experiments made up from a seed, and a run on them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from viscy_train.anchors.plates import write_plate
from viscy_train.anchors.tracks import write_tracks
from viscy_train.sample_projects.simulation import (
    CHANNELS,
    HOURS_PER_FRAME,
    Look,
    simulate_cells,
    take_images,
    tracks_of,
)

if TYPE_CHECKING:
    from pathlib import Path

SEED = 0
N_PROCESSES = 2


@dataclass(frozen=True, kw_only=True)
class DemoExperiment:
    """One made-up experiment.

    Parameters
    ----------
    name : str
        Of the experiment.
    look : Look
        Of its microscope.
    hours_at_start : float
        Hours post infection of the first frame.
    uninfected : tuple of int
        Cells in each position of well ``A/1``.
    infected : tuple of int
        Cells in each position of well ``B/1``.
    """

    name: str
    look: Look
    hours_at_start: float
    uninfected: tuple[int, ...]
    infected: tuple[int, ...]


EXPERIMENTS = (
    DemoExperiment(
        name="monday",
        look=Look(gain=1.0, background=100, blur=0.7),
        hours_at_start=3.0,
        uninfected=(18, 17),
        infected=(12,),
    ),
    DemoExperiment(
        name="wednesday",
        look=Look(gain=2.5, background=400, blur=1.6),
        hours_at_start=4.0,
        uninfected=(14, 15),
        infected=(10,),
    ),
    DemoExperiment(
        name="friday",
        look=Look(gain=0.5, background=60, blur=1.1),
        hours_at_start=2.5,
        uninfected=(20,),
        infected=(14,),
    ),
)


def make_experiment(out: Path, experiment: DemoExperiment, rng: np.random.Generator) -> None:
    """Write the plate and the tracks of an experiment.

    Parameters
    ----------
    out : pathlib.Path
        Folder of the demo.
    experiment : DemoExperiment
        Which.
    rng : numpy.random.Generator
        Source of all its randomness.
    """
    images = {}
    wells = {"A/1": experiment.uninfected, "B/1": experiment.infected}
    for well, positions in wells.items():
        for number, n_cells in enumerate(positions):
            cells = simulate_cells(rng, n_cells, infected=well == "B/1")
            images[f"{well}/{number}"] = take_images(rng, cells, experiment.look, experiment.hours_at_start)
            write_tracks(out / "tracks" / experiment.name / well / f"{number}.csv", tracks_of(cells))
    write_plate(out / "plates" / f"{experiment.name}.zarr", CHANNELS, images)


def demo_experiments() -> str:
    """Return the demo's experiments, as a YAML text with comments and paths relative to the demo's folder."""
    experiments = "".join(
        _EXPERIMENT.format(
            name=experiment.name,
            infection=-experiment.hours_at_start,
            minutes=60 * HOURS_PER_FRAME,
            channels=", ".join(CHANNELS),
        )
        for experiment in EXPERIMENTS
    )
    return _EXPERIMENTS.format(experiments=experiments)


_EXPERIMENTS = """\
# Plates and tracks, and when and with what the wells were infected. Relative paths start at the folder of this file.
# hour_of_infection counts from the first frame: -3 where the cells were infected three hours before.
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

CONFIG = f"""\
# Train again with: viscy-train fit --config THIS_FILE --output A_NEW_FOLDER
# See what batches hold before that with: viscy-train inspect --config THIS_FILE
# Relative paths start at the folder of this file.

seed_everything: {SEED}

# A new or empty folder for the results.
output: run

trainer:
  max_epochs: 2
  accelerator: cpu
  devices: {N_PROCESSES}
  strategy: ddp
  log_every_n_steps: 1

model:
  # A small network for laptops; any name of timm for others.
  encoder: {{name: tiny, width: 16, features: 64, projection: 32}}
  # Crops of one lineage attract each other, all others of the batches of all processes repel.
  loss: {{name: supcon, temperature: 0.2, positives: lineage}}
  optimizer: {{learning_rate: 0.002, schedule: constant}}

data:
  # What `viscy-train index` reads, and what it writes.
  experiments: experiments.yaml
  anchors: anchors.parquet

  # What the encoder sees: a square of this many pixels around the cell.
  crop: 32

  # The positive of an anchor is of its lineage, this many frames before or after.
  positive: {{min_frames: 1, max_frames: 4}}

  # What a batch holds: the parameters of viscy_data.FlexibleBatchSampler.
  sampler:
    batch_size: 64
    # A batch is of one experiment, but for an eighth that leaks in from the others.
    experiment_aware: true
    leaky: 0.125
    # Batches per experiment: proportional to its anchors, sqrt, uniform, or weights for each.
    experiment_weights: uniform
    # Both conditions have half of each batch, however rare one is.
    condition_balanced: true
    # 70 % of the own experiment's part lie within 2 hours of a focal time.
    temporal_enrichment: true
    temporal_window_hours: 2.0
    temporal_global_fraction: 0.3

  # Validation needs positions to spare: some of each condition of each experiment.
  split: {{by: none}}

  # 0: crops are read by the processes that train, which already keep two cores busy.
  num_workers: 0
"""
