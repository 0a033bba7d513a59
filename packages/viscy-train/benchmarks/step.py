"""Step tables: negatives from other experiments, and coverage by short epochs. See ``make bench-step``."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np
import pandas as pd

from viscy_train.composition.dry_run import dry_run
from viscy_train.config.schema import LossConfig, SamplerConfig
from viscy_train.loading.sampler import make_sampler

from .page import format_table, write_part

if TYPE_CHECKING:
    from viscy_train.composition.result import DryRun

RANKS = (1, 4, 8, 32)
_N_EXPERIMENTS = 10
_ANCHORS_PER_STRATUM = 1600
_BATCH_SIZE = 32
_BATCHES_OF_SHORT_EPOCH = 50
_SETTINGS: tuple[tuple[Literal["batch", "step"], bool], ...] = (("step", False), ("batch", False), ("step", True))
_EPOCHS = (1, 5, 10, 15, 20)
_TEXT = """\
# What the loss of a step sees

Written by `make bench-step`; do not edit by hand. The table has {n_anchors:,} anchors of {n_experiments} equal
experiments with two conditions each, and batches have {batch_size} anchors of one experiment. A step has such a batch
on each process. Nothing is measured here: the numbers do not depend on the machine.

## Share of an anchor's negatives that come from other experiments

{negatives}
- *Planned* is the expected share that `fit` and `inspect` print, *counted* is that of the steps of an epoch. The
  sampler spreads the experiments evenly over an epoch, so the batches of a step are of more different experiments than
  if they were chosen at random.
- `split_batches`: all processes share one batch of {batch_size} anchors.

## Share of the anchors drawn at least once by short epochs

An epoch of the whole table has {n_batches:,} batches; these have {n_short}. With `epoch_batches`, the epochs are parts
of one pass over the table. With `trainer.limit_train_batches`, each is the beginning of another pass.

{coverage}"""


def main(arguments: list[str] | None = None) -> None:
    """Compute and print the tables, and write them to the given file, if any."""
    parser = argparse.ArgumentParser(prog="step", description=__doc__)
    parser.add_argument("--output", type=Path, metavar="FILE", help="Markdown file to write")
    options = parser.parse_args(arguments)
    text = describe()
    print(text)
    if options.output:
        write_part(options.output, text)


def describe() -> str:
    """Return the page."""
    anchors = make_anchors()
    return _TEXT.format(
        n_anchors=len(anchors),
        n_experiments=_N_EXPERIMENTS,
        batch_size=_BATCH_SIZE,
        n_batches=len(anchors) // _BATCH_SIZE,
        n_short=_BATCHES_OF_SHORT_EPOCH,
        negatives=format_table(negatives_table(anchors)),
        coverage=format_table(coverage_table(anchors)),
    )


def make_anchors() -> pd.DataFrame:
    """Return a table of equal experiments."""
    n = _N_EXPERIMENTS * 2 * _ANCHORS_PER_STRATUM
    number = np.arange(n)
    return pd.DataFrame(
        {
            "experiment": number % _N_EXPERIMENTS,
            "condition": number // _N_EXPERIMENTS % 2,
            "hours_post_infection": 0.0,
            "lineage_id": number,
        }
    )


def negatives_table(anchors: pd.DataFrame) -> list[list[str]]:
    """Return the shares for each number of processes, with a heading."""
    rows = [["processes", "`negatives: step`, planned", "counted", "`negatives: batch`", "`split_batches`"]]
    for n_ranks in RANKS:
        step, batch, split = (_run(anchors, n_ranks, negatives, split_batches=split) for negatives, split in _SETTINGS)
        shares = step.planned_step.from_others, step.step.from_others, batch.step.from_others, split.step.from_others
        rows.append([f"{n_ranks}", *(f"{share:.2f}" for share in shares)])
    return rows


def coverage_table(anchors: pd.DataFrame) -> list[list[str]]:
    """Return the coverage after some short epochs, with a heading."""
    sampler = SamplerConfig(batch_size=_BATCH_SIZE, epoch_batches=_BATCHES_OF_SHORT_EPOCH)
    parts = dry_run(anchors, sampler, seed=0, epochs=max(_EPOCHS)).coverage
    beginnings = _cover_by_beginnings(anchors)
    rows = [["epochs", "`epoch_batches`", "`limit_train_batches`"]]
    return rows + [[f"{n}", f"{parts[n - 1]:.2f}", f"{beginnings[n - 1]:.2f}"] for n in _EPOCHS]


def _run(anchors: pd.DataFrame, n_ranks: int, negatives: Literal["batch", "step"], *, split_batches: bool) -> DryRun:
    sampler = SamplerConfig(batch_size=_BATCH_SIZE, split_batches=split_batches)
    loss = LossConfig(negatives=negatives, positives="pair")
    return dry_run(anchors, sampler, seed=0, loss=loss, world_size=n_ranks)


def _cover_by_beginnings(anchors: pd.DataFrame) -> list[float]:
    """Return the share of the anchors that the first batches of so many epochs have drawn."""
    sampler = make_sampler(anchors, SamplerConfig(batch_size=_BATCH_SIZE), 0, 0, 1, as_arrays=True)
    is_drawn, coverage = np.zeros(len(anchors), dtype=bool), []
    for epoch in range(max(_EPOCHS)):
        for k in range(_BATCHES_OF_SHORT_EPOCH):
            is_drawn[sampler.batch(k, epoch)] = True
        coverage.append(float(is_drawn.mean()))
    return coverage


if __name__ == "__main__":
    main()
