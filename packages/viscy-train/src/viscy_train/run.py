"""Run: from a configuration to a report, step by step."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import numpy as np
from rich.console import Console
from rich.table import Table

from viscy_train.anchors import build_anchors, write_anchors
from viscy_train.composition import make_sampler, planned_composition
from viscy_train.config import dump_config
from viscy_train.dataset import CropReader
from viscy_train.embeddings import embed, load_encoder, new_encoder, probe_conditions
from viscy_train.folder import RunFolder, require_new
from viscy_train.launch import launch_training
from viscy_train.report import RunFacts, choose_strips, write_report
from viscy_train.retrieval import find_again

if TYPE_CHECKING:
    import pandas as pd

    from viscy_train.config import Config


def fit(config: Config, console: Console | None = None) -> RunFolder:
    """Train as configured and report.

    Parameters
    ----------
    config : Config
        What on what, and where to.
    console : rich.console.Console, optional
        For the progress; standard output by default.

    Returns
    -------
    RunFolder
        The results.

    Raises
    ------
    UserError
        If the configuration asks for what is not there, or the output folder is not empty or cannot be made.
    """
    console = console or Console()
    began = time.monotonic()
    folder = RunFolder(config.output)
    require_new(folder.path, "name another folder as `output`, or with --output")
    anchors = build_anchors(config)
    sampler = make_sampler(anchors, config)
    _show_plan(anchors, config, len(sampler), console)
    folder.config.write_text(dump_config(config), encoding="utf-8")
    write_anchors(folder.anchors, anchors)
    console.print(f"Training on {config.training.processes} processes", highlight=False)
    launch_training(folder, config.training.processes)
    console.print("Embedding the anchors, writing the report", highlight=False)
    _report(folder, anchors, config, console, began)
    return folder


def _report(folder: RunFolder, anchors: pd.DataFrame, config: Config, console: Console, began: float) -> None:
    last = load_encoder(folder.checkpoint_of(config.training.epochs - 1), config)
    untrained, trained = embed([new_encoder(config), last], anchors, config, console)
    np.savez_compressed(folder.embeddings, embeddings=trained)
    probes = probe_conditions(untrained, trained, anchors, config.seed)
    found = find_again(untrained, trained, anchors)
    reader, rows = CropReader(anchors, config), np.arange(len(anchors))
    strips = choose_strips(anchors, rows)
    facts = RunFacts(
        cells=anchors,
        trained_on=rows,
        options=config.sampler,
        epochs=config.training.epochs,
        processes=config.training.processes,
        seed=config.seed,
        seconds=time.monotonic() - began,
        channels=config.channels,
        strips=strips,
        crops=np.array([[reader.crop(row) for row in track] for track in strips.rows]),
        embedded=rows,
        embeddings=trained,
        found=found,
        probes=probes,
    )
    write_report(folder, facts)


def _show_plan(anchors: pd.DataFrame, config: Config, n_batches: int, console: Console) -> None:
    batch_size = config.sampler.batch_size
    console.print(
        f"{len(anchors)} anchors, {n_batches} batches of {batch_size} in an epoch; what they are to hold:",
        highlight=False,
    )
    table = Table("experiment", "condition")
    for heading in ("anchors", "of the table", "asked for"):
        table.add_column(heading, justify="right")
    planned = planned_composition(anchors, config.sampler)
    for (experiment, condition), row in zip(planned.index, planned.to_dict("records"), strict=True):
        table.add_row(experiment, condition, f"{row['anchors']:.0f}", f"{row['of_table']:.1%}", f"{row['asked']:.1%}")
    console.print(table, highlight=False)
