"""Demo: three small experiments made up from a seed, and a run on them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from rich.console import Console
from rich.progress import track

from viscy_train.config import load_config
from viscy_train.folder import require_new
from viscy_train.plates import write_plate
from viscy_train.run import fit
from viscy_train.simulation import CHANNELS, HOURS_PER_FRAME, Look, simulate_cells, take_images, tracks_of
from viscy_train.tracks import write_tracks

if TYPE_CHECKING:
    from pathlib import Path

SEED = 0


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


def run_demo(out: Path) -> None:
    """Make the demo's data in a new folder, train on it and report.

    Parameters
    ----------
    out : pathlib.Path
        The folder; receives ``plates``, ``tracks``, ``config.yaml`` and the results in ``run``.

    Raises
    ------
    UserError
        If the folder is not empty.
    """
    console = Console()
    require_new(out, "delete it, or choose another with --out")
    console.print(f"Making three experiments in {out}", highlight=False, soft_wrap=True)
    bar = track(EXPERIMENTS, "  plates", console=console, transient=True, disable=not console.is_terminal)
    for number, experiment in enumerate(bar):
        make_experiment(out, experiment, np.random.default_rng((SEED, number)))
    config = out / "config.yaml"
    config.write_text(demo_config(), encoding="utf-8")
    folder = fit(load_config(config), console)
    console.print(f"Change {config} and run: viscy-train fit --config {config} --output ANOTHER_FOLDER", soft_wrap=True)
    console.print(f"Done. Open {folder.report}", highlight=False, soft_wrap=True)


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


def demo_config() -> str:
    """Return the demo's configuration, as a YAML text with comments.

    Returns
    -------
    str
        With paths relative to the demo's folder.
    """
    return _CONFIG.format(
        experiments="".join(
            _EXPERIMENT.format(name=experiment.name, start=experiment.hours_at_start, step=HOURS_PER_FRAME)
            for experiment in EXPERIMENTS
        ),
        channels=", ".join(CHANNELS),
        seed=SEED,
    )


_EXPERIMENT = """\
- name: {name}
  plate: plates/{name}.zarr
  tracks: tracks/{name}
  hours_at_start: {start}
  hours_per_frame: {step}
  conditions: {{A/1: uninfected, B/1: infected}}
"""

_CONFIG = """\
# Run again with: viscy-train fit --config THIS_FILE --output A_NEW_FOLDER
# Relative paths start at the folder of this file.

# Plates and tracks, and when and with what the wells were infected.
experiments:
{experiments}
# What the encoder sees: these channels, a square of this many pixels around the cell.
channels: [{channels}]
crop: 32

# A new or empty folder for the results.
output: run
seed: {seed}

# The positive of an anchor is the same cell this many frames before or after.
positive:
  min_frames: 1
  max_frames: 4

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

encoder:
  width: 16
  features: 64
  projection: 32

training:
  epochs: 2
  processes: 2
  learning_rate: 0.002
  temperature: 0.2
"""
