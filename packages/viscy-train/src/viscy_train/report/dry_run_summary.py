"""Dry run summary: the result of a dry run as text on a terminal."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from viscy_train.composition.check import shorten_checks
from viscy_train.composition.diagnostics import diagnose
from viscy_train.composition.pitfalls import find_pitfalls
from viscy_train.composition.pixel_mixing import describe_pixels
from viscy_train.composition.step import describe_step
from viscy_train.composition.targets import group_shares, group_word
from viscy_train.console import MAX_ROWS, get_console, make_table, on_each_of
from viscy_train.loading.axes import axis_names
from viscy_train.report.formatting import duration, percent, thousands
from viscy_train.report.step_section import coverage_rows, step_rows
from viscy_train.wording import count

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

    from viscy_train.composition.pixel_mixing import PixelMixing
    from viscy_train.composition.result import DryRun

EXPECTED = "What this composition may do to the embeddings"
"""Heading of the pitfalls of a composition."""


def print_dry_run(dry_run: DryRun, console: Console | None = None, pixels: PixelMixing | None = None) -> None:
    """Print the result of a dry run.

    Parameters
    ----------
    dry_run : DryRun
        The batches of an epoch.
    console : rich.console.Console, optional
        The console of this process by default.
    pixels : PixelMixing, optional
        How much the experiments mix in their pixels, if crops have been looked at.
    """
    console = console or get_console()
    console.print(
        f"{count(len(dry_run.anchors), 'anchor')}; {count(dry_run.batches_per_epoch, 'batch')} of {dry_run.batch_size} "
        f"per epoch, {count(dry_run.steps_per_epoch, 'step')}{on_each_of(dry_run.world_size)}"
    )
    console.print(f"Composition of a batch ({count(dry_run.n_examined, 'batch')} examined):")
    console.print(_check_table(dry_run))
    for sentence in describe_step(dry_run.planned_step):
        console.print(f"{sentence}.")
    console.print(_step_table(dry_run))
    coverage = coverage_rows(dry_run.coverage, dry_run.batches_of_epochs, dry_run.batches_per_epoch)
    covered = ", ".join(f"{share} after epoch {epoch}" for epoch, share in coverage)
    console.print(f"Anchors drawn at least once: {covered}.")
    console.print("Composition of an epoch (draws per anchor, most draws, anchors never drawn):")
    console.print(_composition_table(dry_run))
    for sentence in measurements(dry_run):
        console.print(sentence)
    diagnostics = diagnose(dry_run)
    _print_list(console, "Diagnostics:" if diagnostics else "No problems found.", diagnostics)
    if pitfalls := pitfalls_of(dry_run, pixels):
        _print_list(console, f"{EXPECTED}:", pitfalls)
    for sentence in describe_pixels_of(dry_run, pixels):
        console.print(sentence)


def _print_list(console: Console, heading: str, sentences: list[str]) -> None:
    console.print(heading)
    for sentence in sentences:
        console.print(f"  - {sentence}")


def measurements(dry_run: DryRun) -> list[str]:
    """Return sentences on the lineages and the frames of a batch, and on the time that the sampler takes."""
    return [
        f"A batch of {dry_run.batch_size} contains {dry_run.distinct_lineages:.1f} lineages on average; "
        f"{dry_run.lineage_pairs:.1f} pairs of its anchors share a lineage.",
        *([] if dry_run.frames is None else [dry_run.frames.sentence]),
        f"Composing a batch takes {duration(dry_run.seconds_per_batch)} on average and at most "
        f"{duration(dry_run.seconds_of_slowest_batch)} (many are composed at a time); the sampler starts in "
        f"{duration(dry_run.seconds_to_start)}.",
    ]


def pitfalls_of(dry_run: DryRun, pixels: PixelMixing | None) -> list[str]:
    """Return what the composition may do to the embeddings."""
    mixing = None if pixels is None else pixels.value
    return find_pitfalls(dry_run.anchors, dry_run.planned.options, mixing)


def describe_pixels_of(dry_run: DryRun, pixels: PixelMixing | None) -> list[str]:
    """Return a sentence on the mixing of experiments in their pixels, if batches are composed by experiments."""
    if not dry_run.planned.options["experiment_aware"]:
        return []
    n_groups = int((group_shares(dry_run.planned) > 0).sum())
    return [one for one in [describe_pixels(pixels, n_groups, group_word(dry_run.planned))] if one]


def _check_table(dry_run: DryRun) -> Table:
    table = make_table([], ["target", "observed", "range", "all matched"], sentence="share of a batch")
    shown, others = shorten_checks(dry_run.checks, MAX_ROWS)
    for check in shown:
        table.add_row(
            check.name,
            percent(check.target, 1),
            percent(check.observed, 1),
            f"{percent(check.lowest, 1)} to {percent(check.highest, 1)}",
            "yes" if check.matched else f"no, {percent(check.off_target, 1)} off",
        )
    if others:
        table.add_row(others)
    return table


def _step_table(dry_run: DryRun) -> Table:
    table = make_table([], ["planned", "observed"], sentence="in a step")
    for row in step_rows(dry_run.planned_step, dry_run.step, dry_run.content):
        table.add_row(*row)
    return table


def _composition_table(dry_run: DryRun) -> Table:
    table = make_table(
        axis_names(dry_run.planned.options),
        ["anchors", "table", "target", "observed", "draws", "most", "never"],
    )
    for (experiment, condition), row in zip(
        dry_run.strata.index[:MAX_ROWS], dry_run.strata.to_dict("records"), strict=False
    ):
        table.add_row(
            str(experiment),
            str(condition),
            thousands(row["anchors"]),
            percent(row["table_share"], 1),
            percent(row["target"], 1),
            percent(row["observed"], 1),
            f"{row['draws']:.1f}",
            thousands(row["most"]),
            "?" if np.isnan(row["never"]) else thousands(row["never"]),
        )
    if (n_more := len(dry_run.strata) - MAX_ROWS) > 0:
        table.add_row(f"and {n_more} more")
    return table
