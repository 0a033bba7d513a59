"""Batch pictures: one batch and one epoch of a real sampler, drawn for the page on the mental model."""

from pathlib import Path

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from viscy_data import FlexibleBatchSampler
from viscy_sampling_testkit import make_anchors

COLORS = {"mock": "#4477aa", "infected": "#ee6677"}
PALE = {"mock": "#c6d3e3", "infected": "#f3a9b2"}


def make_sampler() -> tuple[pd.DataFrame, FlexibleBatchSampler]:
    """Return the table that the page describes, of 3 experiments and 10 % infected cells, and a sampler of it."""
    weights = {"monday": 3, "wednesday": 2, "friday": 1}
    anchors = make_anchors(6000, experiments=weights, conditions={"mock": 9, "infected": 1}, seed=2)
    return anchors, FlexibleBatchSampler(anchors, batch_size=64, seed=0)


def draw_batch(anchors: pd.DataFrame, sampler: FlexibleBatchSampler) -> Figure:
    """Return the anchors of the table by experiment and time, with those of batch 0 emphasized."""
    figure = Figure(figsize=(7, 3), layout="constrained")
    axes = figure.subplots()
    rng = np.random.default_rng(0)
    names = list(dict.fromkeys(anchors["experiment"]))
    heights = anchors["experiment"].map(names.index) + rng.uniform(-0.35, 0.35, len(anchors))
    # Times are multiples of half an hour; spread, they show how many anchors there are.
    hours = anchors["hours_post_infection"] + rng.uniform(-0.2, 0.2, len(anchors))
    pale = anchors["condition"].map(PALE)
    axes.scatter(hours, heights, s=3, c=pale, linewidths=0, rasterized=True)
    batch = anchors.iloc[sampler.batch(0, epoch=0)]
    for condition, rows in batch.groupby("condition"):
        label = f"{condition}: {len(rows)} of {len(batch)} slots"
        color = COLORS[str(condition)]
        axes.scatter(hours[rows.index], heights[rows.index], s=30, color=color, edgecolor="white", label=label)
    axes.set_yticks(range(len(names)), names)
    axes.set_xlabel("hours post infection")
    figure.legend(loc="outside upper center", ncols=2, frameon=False)
    return figure


def draw_epoch(anchors: pd.DataFrame, sampler: FlexibleBatchSampler) -> Figure:
    """Return the number of slots of each experiment and condition in every batch of epoch 0."""
    figure = Figure(figsize=(7, 2.6), layout="constrained")
    axes = figure.subplots()
    batches = [anchors.iloc[sampler.batch(k, epoch=0)] for k in range(len(sampler))]
    names = list(dict.fromkeys(anchors["experiment"]))
    for k, batch in enumerate(batches):
        row = names.index(batch["experiment"].iloc[0])
        n_infected = int((batch["condition"] == "infected").sum())
        share = n_infected / len(batch)
        axes.bar(k, 0.8 * share, bottom=row - 0.4, width=0.8, color=COLORS["infected"])
        axes.bar(k, 0.8 * (1 - share), bottom=row - 0.4 + 0.8 * share, width=0.8, color=COLORS["mock"])
    axes.set_yticks(range(len(names)), names)
    axes.set_xlabel("batch of the epoch")
    axes.set_xlim(-1, len(batches))
    return figure


def draw_all(directory: Path) -> None:
    """Write ``one-batch.svg`` and ``one-epoch.svg`` to a directory, which is created if necessary."""
    directory.mkdir(parents=True, exist_ok=True)
    anchors, sampler = make_sampler()
    with mpl.rc_context({"svg.hashsalt": "batches", "savefig.dpi": 150}):
        for name, draw in (("one-batch", draw_batch), ("one-epoch", draw_epoch)):
            draw(anchors, sampler).savefig(directory / f"{name}.svg", metadata={"Date": None})
