"""Share plots: the composition of an epoch, and how often anchors are drawn in it."""

from __future__ import annotations

import math
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np

from viscy_train.report.drawing import WIDTH, Drawing, text_width
from viscy_train.report.palette import condition_colors, label_of, named_colors, percent
from viscy_train.report.panel import Entry, Heading, Panel, draw_ticks_of, height_of_labels, ticks

if TYPE_CHECKING:
    from collections.abc import Mapping

    import pandas as pd
    from numpy.typing import NDArray

_MAX_BARS = 12
MAX_ROWS_OF_DOTS = 60
"""Rows of a figure of a composition."""
_TABLE_GRAY, _TICK_GRAY, _LEGEND_GRAY = "#D9DEE3", "#7B8794", "#444444"
_LEFT, _MARGIN = 76, 12


def plot_composition(targets: pd.DataFrame, observed: pd.Series, anchors: pd.DataFrame) -> Drawing:
    """Plot the composition of an epoch or a run: share of the table, target and observed share.

    Parameters
    ----------
    targets : pandas.DataFrame
        `table_share` and `target` by (experiment, condition).
    observed : pandas.Series
        Observed share by (experiment, condition).
    anchors : pandas.DataFrame
        The anchor table, which determines the colors.

    Returns
    -------
    Drawing
        Three bars for each (experiment, condition); a row of dots instead if there are many, see `choose_rows`.
    """
    plot = _plot_shares_as_bars if len(targets) <= _MAX_BARS else _plot_shares_as_dots
    return plot(targets, observed.reindex(targets.index).fillna(0.0), condition_colors(anchors))


def choose_rows(target: pd.Series, observed: pd.Series) -> NDArray[np.int64]:
    """Return which rows of a composition a figure shows: of more than 60, those that are farthest from the target.

    Parameters
    ----------
    target, observed : pandas.Series
        Shares by (experiment, condition).

    Returns
    -------
    numpy.ndarray
        Numbers of rows, ascending.
    """
    distance = np.abs((observed.reindex(target.index).fillna(0.0) - target).to_numpy(dtype=float))
    return np.sort(np.argsort(-distance, kind="stable")[:MAX_ROWS_OF_DOTS])


def describe_others(target: pd.Series, observed: pd.Series) -> str:
    """Return a sentence on the rows that a figure of a composition does not show; an empty text if it shows all."""
    if len(target) <= MAX_ROWS_OF_DOTS:
        return ""
    distance = np.abs((observed.reindex(target.index).fillna(0.0) - target).to_numpy(dtype=float))
    others = np.delete(distance, choose_rows(target, observed))
    return (
        f"Of {len(target):,} combinations, the {MAX_ROWS_OF_DOTS} that are farthest from their target are shown; the "
        f"others are at most {100 * others.max():.2g} percentage points from it."
    )


def plot_draws(anchors_by_draws: Mapping[str, NDArray[np.float64]], colors: Mapping[str, str]) -> Drawing:
    """Plot how often anchors are drawn in an epoch.

    Parameters
    ----------
    anchors_by_draws : mapping of str to numpy.ndarray
        For each experiment, the number of anchors drawn 0, 1, 2, ... times.
    colors : mapping of str to str
        The color of each experiment.

    Returns
    -------
    Drawing
        Two panels by number of draws: the number of anchors, and the share of the slots that they fill.
    """
    edges = _edges_of_draws(max(len(counts) for counts in anchors_by_draws.values()))
    anchors, shares = _heights_of_draws(anchors_by_draws, edges)
    labels = [f"{low}" if high == low + 1 else f"{low}-{high - 1}" for low, high in pairwise(edges.tolist())]
    entries = [Entry(name, color) for name, color in named_colors({n: colors[n] for n in anchors_by_draws}).items()]
    heading = Heading(entries=entries, width=WIDTH - _LEFT - _MARGIN)
    top, below = heading.height + _MARGIN, height_of_labels(labels, 60)
    drawing = Drawing(WIDTH, top + 230 + below + 30)
    heading.draw(drawing, _LEFT, top - 8)
    width = (WIDTH - _MARGIN) / 2 - _LEFT
    kinds = [("anchors", anchors, lambda count: f"{count:,.0f}"), ("share of slots", shares, percent)]
    for number, (title, heights, label) in enumerate(kinds):
        highest = max(float(heights.sum(axis=0).max()) * 1.05, 1e-9)
        left = _LEFT + number * (width + _LEFT)
        panel = Panel(
            drawing=drawing, left=left, top=top, width=width, height=230,
            x_range=(-0.6, len(labels) - 0.4), y_range=(0, highest),
        )  # fmt: skip
        bottoms = np.cumsum(heights, axis=0) - heights
        for name, low, height in zip(anchors_by_draws, bottoms, heights, strict=True):
            panel.bars(np.arange(len(labels)), low, low + height, colors[name], 0.9)
        panel.draw_axes("draws per anchor", title, space=below + 20)
        panel.draw_x_ticks(range(len(labels)), labels, rotate=-60)
        draw_ticks_of(panel, label)
    return drawing


def _heights_of_draws(
    anchors_by_draws: Mapping[str, NDArray[np.float64]], edges: NDArray[np.int64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return anchors and shares of slots of each experiment and bin, each of shape (n_experiments, n_bins)."""
    padded = np.array([np.pad(counts, (0, edges[-1] - len(counts))) for counts in anchors_by_draws.values()])
    slots = padded * np.arange(edges[-1])
    anchors, shares = (np.add.reduceat(values, edges[:-1], axis=1) for values in (padded, slots))
    return anchors, shares / max(float(slots.sum()), 1.0)


def _edges_of_draws(longest: int) -> NDArray[np.int64]:
    """Return bin edges of numbers of draws: bins of one number up to 10, then wider ones."""
    edges = [*range(min(longest, 11) + 1)]
    while edges[-1] < longest:
        edges.append(max(edges[-1] + 1, round(edges[-1] * 1.5)))
    return np.array(edges)


def _plot_shares_as_bars(targets: pd.DataFrame, observed: pd.Series, hue: dict[str, str]) -> Drawing:
    labels = [f"{label_of(experiment)}\n{label_of(condition)}" for experiment, condition in targets.index]
    angle = -30 if max(map(text_width, labels)) > (WIDTH - _LEFT) / len(labels) else 0
    # Labels that are turned extend to the left.
    left = max(_LEFT, text_width(labels[0]) * math.cos(math.radians(30)) - 20) if angle else _LEFT
    entries = [Entry("share of table", _TABLE_GRAY), Entry("target", _LEGEND_GRAY, "outline")]
    heading = Heading(entries=[*entries, Entry("observed", _LEGEND_GRAY)], width=WIDTH - left - _MARGIN)
    top = heading.height + _MARGIN
    drawing = Drawing(WIDTH, top + 240 + height_of_labels(labels, angle) + _MARGIN)
    heading.draw(drawing, left, top - 4)
    table, target, seen = (
        series.to_numpy(dtype=float) for series in (targets["table_share"], targets["target"], observed)
    )
    highest = max(float(np.max([table, target, seen])) * 1.05, 1e-9)
    panel = Panel(
        drawing=drawing, left=left, top=top, width=WIDTH - left - _MARGIN, height=240,
        x_range=(-0.55, len(labels) - 0.45), y_range=(0, highest),
    )  # fmt: skip
    x = np.arange(len(labels))
    panel.bars(x - 0.27, 0, table, _TABLE_GRAY, 0.25)
    for at, (_, condition) in enumerate(targets.index):
        panel.bars(x[[at]], 0, target[[at]], "white", 0.24, edge=hue[condition])
        panel.bars(x[[at]] + 0.27, 0, seen[[at]], hue[condition], 0.25)
    panel.draw_axes(y_label="share of slots")
    panel.draw_x_ticks(x.tolist(), labels, rotate=angle)
    draw_ticks_of(panel, percent)
    return drawing


def _plot_shares_as_dots(targets: pd.DataFrame, observed: pd.Series, hue: dict[str, str]) -> Drawing:
    """Plot a row for each (experiment, condition): the observed share is a dot inside the ring of the target."""
    shown = targets.index[choose_rows(targets["target"], observed)]
    labels = [f"{label_of(experiment)}, {label_of(condition)}" for experiment, condition in shown]
    colors = [hue[condition] for _, condition in shown]
    table, target = (targets[name].loc[shown].to_numpy(dtype=float) for name in ("table_share", "target"))
    dots = observed.loc[shown].to_numpy(dtype=float)
    left = max(map(text_width, labels)) + _MARGIN
    marks = [Entry("share of table", _TICK_GRAY, "tick"), Entry("target", _LEGEND_GRAY, "ring")]
    heading = Heading(entries=[*marks, Entry("observed", _LEGEND_GRAY, "disk")], width=WIDTH - left - _MARGIN)
    top, height = heading.height + 8, 23 * len(shown)
    drawing = Drawing(WIDTH, top + height + 54)
    heading.draw(drawing, left, top - 4)
    highest = max(float(np.max([table, target, dots])) * 1.05, 1e-9)
    panel = Panel(
        drawing=drawing, left=left, top=top, width=WIDTH - left - _MARGIN, height=height,
        x_range=(0, highest), y_range=(len(shown) - 0.4, -0.6),
    )  # fmt: skip
    shares = ticks(0, highest, 8)
    drawing.lines(panel.x(shares), top, panel.x(shares), panel.bottom, "#E4E8ED")
    # Separate the experiments by lines.
    is_last = [experiment != following for (experiment, _), (following, _) in pairwise(shown)]
    between = panel.y(np.flatnonzero(is_last) + 0.5)
    drawing.lines(left, between, panel.right, between, "#C3CCD6")
    rows = panel.y(np.arange(len(shown)))
    drawing.lines(panel.x(table), rows, panel.x(target), rows, _TABLE_GRAY, 2.5)
    drawing.lines(panel.x(table), rows - 5, panel.x(table), rows + 5, _TICK_GRAY, 2.5)
    drawing.circles(panel.x(target), rows, 6, colors, filled=False)
    drawing.circles(panel.x(dots), rows, 3.5, colors)
    panel.draw_axes("share of slots", space=42)
    panel.draw_x_ticks(shares, [percent(share) for share in shares])
    panel.draw_y_ticks(range(len(shown)), labels)
    return drawing
