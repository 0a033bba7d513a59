"""Sections: what a report and an inspection both show of batches, asked beside drawn."""

from __future__ import annotations

import html
from typing import TYPE_CHECKING

import numpy as np

from viscy_train.composition.check import numbered, own_experiments, shares_of_batches
from viscy_train.composition.targets import batch_targets
from viscy_train.composition.temporal import find_focus, is_enriched
from viscy_train.report.batch_plots import DASHED_AT_MOST, draw_batches, draw_composition
from viscy_train.report.html import picture_html, table_html

if TYPE_CHECKING:
    import pandas as pd

    from viscy_train.composition.check import TargetCheck
    from viscy_train.config.schema import SamplerConfig

COLUMNS_AT_MOST = 300
DEFINITIONS = (
    "<p class='note'>An anchor is a tracked cell at one time; a batch has a number of slots, each of which holds an "
    "anchor. A batch's own experiment is the one that it is of, but for what leaks in from others. Its focal window is "
    "the span of hours that most of it was drawn from.</p>"
)
_HOURS_AT_MOST = 80


def batches_picture(batches: pd.DataFrame, anchors: pd.DataFrame, options: SamplerConfig, origin: str) -> str:
    """Return a picture of what each batch held; of very many, of some that are spread evenly.

    Parameters
    ----------
    batches, anchors, options
        As in `viscy_train.composition.check.check_targets`.
    origin : str
        Where the batches come from, as the end of a sentence.

    Returns
    -------
    str
        HTML.
    """
    shown, n_batches, n_shown = _thinned(batches)
    experiments = shares_of_batches(shown, anchors, "experiment")
    conditions = shares_of_batches(shown, anchors, "condition")
    hours = shares_of_batches(shown, anchors, "hours_post_infection").sort_index(axis=1)
    focus = find_focus(shown, anchors, options) if is_enriched(options) else None
    asked = batch_targets(anchors, options).loc[own_experiments(shown, anchors, options)]
    # Where one colour of a stack ends and the next begins.
    edges = {
        axis: asked.T.groupby(level=axis, sort=False).sum().T[columns].cumsum(axis=1).to_numpy()[:, :-1]
        for axis, columns in (("experiment", experiments.columns), ("condition", conditions.columns))
    }
    figure = draw_batches(
        experiments, conditions, _on_even_hours(hours), edges, focus, options.temporal_window_hours, anchors
    )
    sentences = [f"Each column is one batch of one process, {origin}."]
    if n_shown < n_batches:
        sentences.append(f"{n_shown:,} of {n_batches:,} batches are shown, evenly spread.")
    if n_shown <= DASHED_AT_MOST:
        sentences.append("Dashes show what was asked for.")
    if focus is not None:
        sentences.append("Red marks the focal window, found from the batch.")
    return picture_html(figure, " ".join(sentences))


def promise_table(made: list[TargetCheck]) -> str:
    """Return what was asked of each batch beside what was drawn, as HTML."""
    if not made:
        return "<p>Nothing was asked of the composition of a batch.</p>"
    rows = [
        [
            html.escape(promise.what, quote=False),
            f"{promise.asked:.1%}",
            f"{promise.drawn:.1%}",
            f"{promise.lowest:.1%} to {promise.highest:.1%}",
            "<span class='yes'>yes</span>" if promise.kept else f"<span class='no'>no, {promise.off:.1%} off</span>",
        ]
        for promise in made
    ]
    headings = ["share of a batch", "asked for", "drawn, mean", "least to most", "every batch as asked"]
    note = "Asked-for shares become whole slots: a batch may have the next lower or higher number of them."
    return f"{table_html(headings, rows)}<p class='note'>{note}</p>"


def composition_picture(planned: pd.DataFrame, drawn: pd.Series, anchors: pd.DataFrame, whole: str) -> str:
    """Return a picture of the shares of an epoch or a run, in the table, asked for and drawn.

    Parameters
    ----------
    planned : pandas.DataFrame
        As from `viscy_train.composition.targets.target_composition`.
    drawn : pandas.Series
        Share by (experiment, condition).
    anchors : pandas.DataFrame
        The anchor table, for the colours.
    whole : str
        What is shared: ``the run`` or ``an epoch``.

    Returns
    -------
    str
        HTML.
    """
    text = (
        f"How the slots of {whole} are shared, beside the shares of the table: the rare is as frequent as it was asked "
        "to be."
    )
    return picture_html(draw_composition(planned, drawn, anchors), text)


def composition_table(planned: pd.DataFrame, drawn: pd.Series, more: dict[str, list[str]] | None = None) -> str:
    """Return the numbers of `composition_picture`, and further columns by their headings; HTML."""
    more = more or {}
    rows = [
        [
            html.escape(str(experiment), quote=False),
            html.escape(str(condition), quote=False),
            f"{row['anchors']:,.0f}",
            f"{row['of_table']:.1%}",
            f"{row['asked']:.1%}",
            f"{share:.1%}",
            *values,
        ]
        for (experiment, condition), row, share, *values in zip(
            planned.index, planned.to_dict("records"), drawn.reindex(planned.index), *more.values(), strict=True
        )
    ]
    headings = ["experiment", "condition", "anchors", "of the table", "asked for", "drawn", *more]
    return table_html(headings, rows, text_columns=2)


def _thinned(batches: pd.DataFrame) -> tuple[pd.DataFrame, int, int]:
    """Return the slots of at most `COLUMNS_AT_MOST` batches, how many batches there are and how many it returns."""
    number, index = numbered(batches)
    n_batches = len(index)
    if n_batches <= COLUMNS_AT_MOST:
        return batches, n_batches, n_batches
    chosen = np.unique(np.linspace(0, n_batches - 1, COLUMNS_AT_MOST).round().astype(np.int64))
    return batches[np.isin(number, chosen)], n_batches, len(chosen)


def _on_even_hours(hours: pd.DataFrame) -> pd.DataFrame:
    """Sum up shares on evenly spaced hours, as a picture needs them."""
    times = hours.columns.to_numpy(dtype=float)
    gaps = np.diff(times)
    step = float(np.median(gaps)) if len(gaps) else 1.0
    n_bins = min(round((times[-1] - times[0]) / step) + 1, _HOURS_AT_MOST)
    even = np.linspace(times[0], times[-1], n_bins)
    nearest = np.abs(times[:, None] - even).argmin(axis=1)
    return hours.T.groupby(even[nearest]).sum().reindex(even, fill_value=0.0).T
