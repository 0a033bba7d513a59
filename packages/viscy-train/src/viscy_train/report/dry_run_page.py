"""Dry run page: the result of a dry run as one HTML file."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from viscy_train.composition.check import shorten_checks
from viscy_train.composition.diagnostics import diagnose
from viscy_train.composition.step import describe_step
from viscy_train.composition.targets import encode, group_word
from viscy_train.console import on_each_of
from viscy_train.loading.axes import HOURS, axis_names
from viscy_train.report.batch_sections import composition_rows, make_batches_figure
from viscy_train.report.data_section import DataSection
from viscy_train.report.dry_run_summary import EXPECTED, describe_pixels_of, measurements, pitfalls_of
from viscy_train.report.html import DRY_RUN, render, svg_uri, write_page
from viscy_train.report.palette import experiment_colors
from viscy_train.report.share_plots import describe_others, plot_composition, plot_draws
from viscy_train.report.step_section import coverage_rows, step_rows

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from viscy_train.composition.pixel_mixing import PixelMixing
    from viscy_train.composition.result import DryRun
    from viscy_train.report.drawing import Drawing

# Anchors drawn more often are counted as drawn this often.
_MAX_DRAWS_SHOWN = 10_000


def write_dry_run_page(
    path: Path,
    dry_run: DryRun,
    reading: Sequence[str] = (),
    pixels: PixelMixing | None = None,
    time: str = HOURS,
    data: DataSection | None = None,
) -> None:
    """Write the page of a dry run.

    Parameters
    ----------
    path : pathlib.Path
        File to write, for example ``inspect.html``. Its directory is created if necessary.
    dry_run : DryRun
        The batches of an epoch.
    reading : sequence of str, optional
        Sentences on what a batch reads.
    pixels : PixelMixing, optional
        How much the experiments mix in their pixels, if crops have been looked at.
    time : str
        What the times of the anchors are called.
    data : DataSection, optional
        The contact sheet, and what is wrong with the data.
    """
    anchors, strata, draws = dry_run.anchors, dry_run.strata, dry_run.draws
    page = render(
        "dry_run.html.j2",
        dry_run=dry_run,
        data=data or DataSection(),
        options=dry_run.planned.options,
        n_groups=anchors["experiment"].nunique(),
        group=group_word(dry_run.planned),
        axes=axis_names(dry_run.planned.options),
        checks=shorten_checks(dry_run.checks),
        on_each_process=on_each_of(dry_run.world_size),
        diagnostics=diagnose(dry_run),
        pitfalls=pitfalls_of(dry_run, pixels),
        pixels=describe_pixels_of(dry_run, pixels),
        expected=EXPECTED,
        batches=make_batches_figure(dry_run.batches, anchors, dry_run.planned, time),
        measurements=measurements(dry_run),
        reading=reading,
        step_sentences=describe_step(dry_run.planned_step),
        step_rows=step_rows(dry_run.planned_step, dry_run.step, dry_run.content),
        coverage_rows=coverage_rows(dry_run.coverage, dry_run.batches_of_epochs, dry_run.batches_per_epoch),
        composition_figure=svg_uri(plot_composition(strata, strata["observed"], anchors)),
        composition_others=describe_others(strata["target"], strata["observed"]),
        composition_rows=composition_rows(
            strata,
            strata["observed"],
            [f"{count:.1f}" for count in strata["draws"]],
            [f"{count:,}" for count in strata["most"]],
            ["unknown" if np.isnan(count) else f"{count:,.0f}" for count in strata["never"]],
        ),
        draws_figure=svg_uri(_plot_draws(dry_run)),
        counted="an epoch" if draws.covers_an_epoch else f"{draws.epochs:.0%} of an epoch",
    )
    write_page(path, page, DRY_RUN)


def _plot_draws(dry_run: DryRun) -> Drawing:
    anchors, draws = dry_run.anchors, dry_run.draws
    codes, names = encode(anchors["experiment"])
    per_epoch = np.rint(draws.total / max(draws.epochs, 1.0)).astype(np.int64)
    capped = np.minimum(per_epoch, _MAX_DRAWS_SHOWN)
    anchors_by_draws = {name: np.bincount(capped[codes == code]).astype(float) for code, name in enumerate(names)}
    return plot_draws(anchors_by_draws, experiment_colors(anchors))
