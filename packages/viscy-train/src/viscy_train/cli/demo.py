"""Demo command: make the demo project, build its table and train on it."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import numpy as np
from rich.console import Console
from rich.progress import track

from viscy_train.atomic import atomic_folder
from viscy_train.cli.launch import TrainingFailedError, launch_command
from viscy_train.exit_codes import EXIT_FAILED
from viscy_train.run.directory import require_new
from viscy_train.sample_projects.demo import CONFIG, EXPERIMENTS, N_PROCESSES, SEED, demo_experiments, make_experiment

if TYPE_CHECKING:
    from pathlib import Path


def run_demo(out: Path) -> int:
    """Make the demo's data in a new folder, train on it and report.

    Parameters
    ----------
    out : pathlib.Path
        The folder; receives ``plates``, ``tracks``, ``experiments.yaml``, ``config.yaml``, ``anchors.parquet`` and the
        results in ``run``.

    Returns
    -------
    int
        Exit code.

    Raises
    ------
    UserError
        If the folder is not empty.
    """
    console = Console()
    require_new(out, "delete it, or choose another with --out")
    console.print(f"Making three experiments in {out}", highlight=False, soft_wrap=True, markup=False)
    config = out / "config.yaml"
    with atomic_folder(out):
        bar = track(EXPERIMENTS, "  plates", console=console, transient=True, disable=not console.is_terminal)
        for number, experiment in enumerate(bar):
            make_experiment(out, experiment, np.random.default_rng((SEED, number)))
        (out / "experiments.yaml").write_text(demo_experiments(), encoding="utf-8")
        config.write_text(CONFIG, encoding="utf-8")
    for command in ("index", "fit"):
        console.print(f"$ viscy-train {command} --config {config}", highlight=False, soft_wrap=True, markup=False)
        try:
            launch_command([command, "--config", str(config)], N_PROCESSES if command == "fit" else 1)
        except TrainingFailedError as error:
            print(f"viscy-train: failed: {error}", file=sys.stderr)
            return EXIT_FAILED
    console.print(
        f"Change {config} and run: viscy-train fit --config {config} --output ANOTHER_FOLDER",
        highlight=False,
        soft_wrap=True,
        markup=False,
    )
    console.print(f"Done. Open {out / 'run' / 'report.html'}", highlight=False, soft_wrap=True, markup=False)
    return 0
