"""DryRun view: an inspection on a terminal, and as a page of one file."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from rich.markup import escape

from viscy_train.atomic import atomic_write
from viscy_train.composition.targets import encode
from viscy_train.console import make_table, on_each_of
from viscy_train.report.batch_plots import draw_draws
from viscy_train.report.batch_sections import (
    DEFINITIONS,
    batches_picture,
    composition_picture,
    composition_table,
    promise_table,
)
from viscy_train.report.html import facts_html, list_html, page_html, picture_html
from viscy_train.report.style import experiment_colors

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray
    from rich.console import Console
    from rich.table import Table

    from viscy_train.composition.result import DryRun

_ROWS_AT_MOST = 40


def show(inspection: DryRun, console: Console) -> None:
    """Print an inspection.

    Parameters
    ----------
    inspection : DryRun
        Of an epoch's batches.
    console : rich.console.Console
        Where to.
    """
    size = inspection.options.batch_size
    console.print(
        f"{len(inspection.anchors):,} anchors, {inspection.batches_of_epoch:,} batches of {size} in an epoch: "
        f"{inspection.steps:,} steps{on_each_of(inspection.world_size)}",
        highlight=False,
    )
    console.print(f"Of {inspection.looked_at:,} batches, share of a batch:", highlight=False)
    console.print(_table_of_promises(inspection), highlight=False)
    console.print("Of an epoch:", highlight=False)
    console.print(_table_of_cells(inspection), highlight=False)
    for sentence in _measured(inspection):
        console.print(sentence, highlight=False, soft_wrap=True)
    if not inspection.findings:
        console.print("Nothing stands out.", highlight=False)
        return
    console.print("To look at:", highlight=False)
    for finding in inspection.findings:
        console.print(f"  - {escape(finding)}", highlight=False, soft_wrap=True)


def write_inspection(path: Path, inspection: DryRun) -> None:
    """Write an inspection as one HTML file with its pictures inside.

    Parameters
    ----------
    path : pathlib.Path
        The file, such as ``inspect.html``; its folder is made.
    inspection : DryRun
        Of an epoch's batches.
    """
    anchors, cells = inspection.anchors, inspection.strata
    size = inspection.options.batch_size
    facts = [
        (f"{len(anchors):,}", f"anchors of {anchors['experiment'].nunique()} experiments"),
        (f"{inspection.batches_of_epoch:,}", f"batches of {size} in an epoch"),
        (f"{inspection.steps:,}", f"steps an epoch{on_each_of(inspection.world_size)}"),
        (_duration(inspection.seconds_of_batch), "to compose a batch, on average"),
    ]
    never = ["not known" if np.isnan(count) else f"{count:,.0f}" for count in cells["never"]]
    more = {
        "draws of an anchor": [f"{draws:.1f}" for draws in cells["draws"]],
        "at most": [f"{most:,}" for most in cells["most"]],
        "never drawn": never,
    }
    looked_at = f"drawn with the seed of the run; {inspection.looked_at:,} batches were looked at"
    findings = inspection.findings or ["Nothing stands out."]
    sections = [
        facts_html(facts),
        list_html(findings, "look", "To look at before training"),
        "<h2>What each batch holds</h2>",
        DEFINITIONS,
        batches_picture(inspection.batches, anchors, inspection.options, looked_at),
        promise_table(inspection.checks),
        list_html(_measured(inspection), "short"),
        "<h2>What an epoch holds</h2>",
        composition_picture(cells, cells["drawn"], anchors, "an epoch"),
        composition_table(cells, cells["drawn"], more),
        "<h2>How often anchors are drawn</h2>",
        _draws_picture(inspection),
    ]
    page = page_html(
        "batches before training",
        "Before training: what the batches hold",
        "An epoch's batches were drawn as training will draw them, without reading an image.",
        sections,
    )
    with atomic_write(path) as unfinished:
        unfinished.write_text(page, encoding="utf-8")


def _measured(inspection: DryRun) -> list[str]:
    size = inspection.options.batch_size
    return [
        f"A batch of {size} has on average {inspection.distinct_lineages:.1f} lineages; "
        f"{inspection.lineage_pairs:.1f} pairs of its anchors are of the same.",
        f"Composing a batch takes {_duration(inspection.seconds_of_batch)} on average, at most "
        f"{_duration(inspection.seconds_of_slowest)} (many are composed at once); the sampler is ready after "
        f"{_duration(inspection.seconds_to_begin)}.",
    ]


def _table_of_promises(inspection: DryRun) -> Table:
    table = make_table([], ["asked for", "drawn", "least to most", "all as asked"], sentence="share of")
    for promise in inspection.checks:
        table.add_row(
            escape(promise.what),
            f"{promise.asked:.1%}",
            f"{promise.drawn:.1%}",
            f"{promise.lowest:.1%} to {promise.highest:.1%}",
            "yes" if promise.kept else f"no, {promise.off:.1%} off",
        )
    return table


def _table_of_cells(inspection: DryRun) -> Table:
    table = make_table(
        ["experiment", "condition"],
        ["anchors", "of table", "asked", "drawn", "draws each", "at most", "never"],
    )
    for (experiment, condition), row in zip(
        inspection.strata.index[:_ROWS_AT_MOST], inspection.strata.to_dict("records"), strict=False
    ):
        table.add_row(
            escape(str(experiment)),
            escape(str(condition)),
            f"{row['anchors']:,}",
            f"{row['of_table']:.1%}",
            f"{row['asked']:.1%}",
            f"{row['drawn']:.1%}",
            f"{row['draws']:.1f}",
            f"{row['most']:,}",
            "?" if np.isnan(row["never"]) else f"{row['never']:,.0f}",
        )
    if (more := len(inspection.strata) - _ROWS_AT_MOST) > 0:
        table.add_row(f"and {more} more")
    return table


def _draws_picture(inspection: DryRun) -> str:
    anchors, draws = inspection.anchors, inspection.draws
    codes, names = encode(anchors["experiment"])
    times = np.minimum(draws.counts if inspection.epochs == 1 else _rounded(draws.counts, draws.epochs), 10_000)
    counted = {name: np.bincount(times[codes == code]).astype(float) for code, name in enumerate(names)}
    drawn_in = "an epoch" if draws.is_whole else f"{draws.epochs:.0%} of an epoch"
    text = f"How many anchors are drawn how often in {drawn_in}: those of rare conditions come again and again."
    return picture_html(draw_draws(counted, experiment_colors(anchors)), text)


def _rounded(counts: NDArray[np.int64], epochs: float) -> NDArray[np.int64]:
    return np.rint(counts / max(epochs, 1.0)).astype(np.int64)


def _duration(seconds: float) -> str:
    if seconds >= 1:
        return f"{seconds:.1f} s"
    return f"{seconds * 1e3:.1f} ms" if seconds >= 1e-3 else f"{seconds * 1e6:.0f} µs"
