"""Batch figures: what batches hold, how an epoch is shared, and how often anchors are drawn."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING, Any

import matplotlib as mpl
import numpy as np
from matplotlib.patches import Patch
from matplotlib.ticker import MaxNLocator

from viscy_train.report.style import (
    MOST_NAMES,
    OTHERS_GREY,
    WIDTH,
    condition_colors,
    experiment_colors,
    label_of,
    legend_of_patches,
    named_colors,
    new_figure,
    percent,
    style,
)

if TYPE_CHECKING:
    from collections.abc import Mapping

    import pandas as pd
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from numpy.typing import NDArray

_BARS_AT_MOST = 12
_ROWS_OF_DOTS = 60
# More columns than this, and dashes of each batch are but a grey haze.
DASHED_AT_MOST = 100
_TABLE_GREY = "#D9DEE3"


def draw_batches(
    experiments: pd.DataFrame,
    conditions: pd.DataFrame,
    hours: pd.DataFrame,
    asked: Mapping[str, NDArray[np.float64]],
    focus: pd.DataFrame | None,
    window: float,
    anchors: pd.DataFrame,
) -> Figure:
    """Draw what each batch held: experiments, conditions and hours, one above the other.

    Parameters
    ----------
    experiments, conditions, hours : pandas.DataFrame
        Shares by (epoch, batch), a column for each value; those of `hours` ascending and evenly spaced.
    asked : mapping of str to numpy.ndarray
        For ``experiment`` and ``condition`` where the bars were asked to change colour, shape (n_batches, n_lines).
    focus : pandas.DataFrame, optional
        Focal time of each batch as `hours`.
    window : float
        Half-width of the focal window in hours.
    anchors : pandas.DataFrame
        The anchor table, for the colours.

    Returns
    -------
    matplotlib.figure.Figure
        Three panels over the batches in order.
    """
    with mpl.rc_context(style()):
        figure = new_figure(WIDTH, 8.2)
        top, middle, bottom = figure.subplots(3, 1, sharex=True, height_ratios=[1, 1, 1.25])
        _draw_stack(top, experiments, experiment_colors(anchors), asked["experiment"], "Experiments")
        _draw_stack(middle, conditions, condition_colors(anchors), asked["condition"], "Conditions")
        _draw_hours(bottom, hours, focus, window)
        _mark_epochs([top, middle, bottom], experiments)
        bottom.set_xlabel("batch after batch, in the order of the sequence that the processes share")
    return figure


def draw_composition(planned: pd.DataFrame, drawn: pd.Series, anchors: pd.DataFrame) -> Figure:
    """Draw the shares of the whole run: in the table, asked for, drawn.

    Parameters
    ----------
    planned : pandas.DataFrame
        `of_table` and `asked` by (experiment, condition).
    drawn : pandas.Series
        Share by (experiment, condition).
    anchors : pandas.DataFrame
        The anchor table, for the colours.

    Returns
    -------
    matplotlib.figure.Figure
        A group of three bars for each (experiment, condition).
    """
    draw = _draw_shares_as_bars if len(planned) <= _BARS_AT_MOST else _draw_shares_as_dots
    with mpl.rc_context(style()):
        return draw(planned, drawn, condition_colors(anchors))


def draw_draws(drawn: Mapping[str, NDArray[np.float64]], colors: Mapping[str, str]) -> Figure:
    """Draw how often anchors are drawn in an epoch.

    Parameters
    ----------
    drawn : mapping of str to numpy.ndarray
        Of each experiment, how many of its anchors are drawn 0, 1, 2, ... times.
    colors : mapping of str to str
        Of each experiment.

    Returns
    -------
    matplotlib.figure.Figure
        Two panels over the number of times: how many anchors, and which share of the slots they fill.
    """
    with mpl.rc_context(style()):
        figure = new_figure(WIDTH, 3.4)
        panels = figure.subplots(1, 2)
        edges = _edges_of_draws(max(len(counts) for counts in drawn.values()))
        place = np.arange(len(edges) - 1)
        slots = sum(float(counts @ np.arange(len(counts))) for counts in drawn.values())
        floors = np.zeros((2, len(place)))
        for name, counts in drawn.items():
            padded = np.concatenate([counts, np.zeros(edges[-1] - len(counts))])
            shares = padded * np.arange(len(padded)) / max(slots, 1.0)
            for axes, values, floor in zip(panels, (padded, shares), floors, strict=True):
                height = np.add.reduceat(values, edges[:-1])
                axes.bar(place, height, 0.9, bottom=floor, color=colors[name])
                floor += height
        labels = [f"{low}" if high == low + 1 else f"{low}-{high - 1}" for low, high in pairwise(edges.tolist())]
        for axes in panels:
            axes.set_xticks(place, labels, rotation=60, ha="right", rotation_mode="anchor", fontsize=9)
            axes.set_xlabel("times that an anchor is drawn")
        panels[0].set_ylabel("anchors")
        panels[0].yaxis.set_major_formatter(lambda count, _: f"{count:,.0f}")
        panels[1].set_ylabel("share of the slots")
        panels[1].yaxis.set_major_formatter(percent)
        named = named_colors({name: colors[name] for name in drawn})
        handles = [Patch(color=color, label=name) for name, color in named.items()]
        figure.legend(handles=handles, ncols=min(len(handles), 4), loc="outside upper right", fontsize=9)
    return figure


def _edges_of_draws(longest: int) -> NDArray[np.int64]:
    """Return bins of numbers of draws: each by itself up to 10, then wider ones."""
    edges = [*range(min(longest, 11) + 1)]
    while edges[-1] < longest:
        edges.append(max(edges[-1] + 1, round(edges[-1] * 1.5)))
    return np.array(edges)


def _draw_shares_as_bars(planned: pd.DataFrame, drawn: pd.Series, hue: dict[str, str]) -> Figure:
    figure = new_figure(WIDTH, 3.6)
    axes = figure.subplots()
    place = np.arange(len(planned))
    colors = [hue[condition] for _, condition in planned.index]
    axes.bar(place - 0.27, planned["of_table"], 0.25, color=_TABLE_GREY)
    axes.bar(place, planned["asked"], 0.25, color="white", edgecolor=colors, linewidth=1.6)
    axes.bar(place + 0.27, drawn, 0.25, color=colors)
    labels = [f"{label_of(experiment)}\n{label_of(condition)}" for experiment, condition in planned.index]
    slanted: Any = {"rotation": 30, "ha": "right"} if max(map(len, labels)) > 120 // len(labels) else {}
    axes.set_xticks(place, labels, **slanted)
    axes.set_ylabel("share of slots")
    axes.yaxis.set_major_formatter(percent)
    handles = [
        Patch(color=_TABLE_GREY, label="in the table"),
        Patch(facecolor="white", edgecolor="#444444", linewidth=1.6, label="asked for"),
        Patch(color="#444444", label="drawn"),
    ]
    axes.legend(handles=handles, ncols=3, loc="lower right", bbox_to_anchor=(1, 1))
    return figure


def _draw_shares_as_dots(planned: pd.DataFrame, drawn: pd.Series, hue: dict[str, str]) -> Figure:
    """Draw a line for each: what is drawn is a dot in the ring of what was asked for."""
    shown = planned.index[:: -(-len(planned) // _ROWS_OF_DOTS)]
    figure = new_figure(WIDTH, 0.9 + 0.23 * len(shown))
    axes = figure.subplots()
    place, colors = np.arange(len(shown)), [hue[condition] for _, condition in shown]
    table, asked, held = planned["of_table"].loc[shown], planned["asked"].loc[shown], drawn.loc[shown]
    axes.hlines(place, np.minimum(table, asked), np.maximum(table, asked), color=_TABLE_GREY, linewidth=2, zorder=1)
    axes.scatter(table, place, s=42, marker="|", color="#7B8794", zorder=2, linewidths=2, label="in the table")
    axes.scatter(asked, place, s=90, facecolors="none", edgecolors=colors, linewidths=1.5, zorder=3)
    axes.scatter(held, place, s=26, color=colors, zorder=4)
    axes.scatter([], [], s=90, facecolors="none", edgecolors="#444444", linewidths=1.5, label="asked for")
    axes.scatter([], [], s=26, color="#444444", label="drawn")
    axes.set_yticks(place, [f"{label_of(experiment)}, {label_of(condition)}" for experiment, condition in shown])
    axes.set(ylim=(len(shown) - 0.4, -0.6), xlabel="share of slots")
    axes.set_xlim(left=0)
    axes.grid(axis="x", color="#E4E8ED", zorder=0)
    axes.xaxis.set_major_formatter(percent)
    axes.legend(ncols=3, loc="lower right", bbox_to_anchor=(1, 1))
    # A line where the next experiment begins.
    first = np.flatnonzero(
        [experiment != before for (experiment, _), (before, _) in zip(shown[1:], shown, strict=False)]
    )
    for end in first:
        axes.axhline(end + 0.5, color="#C3CCD6", linewidth=0.8)
    return figure


def _draw_stack(
    axes: Axes, shares: pd.DataFrame, colors: dict[str, str], asked: NDArray[np.float64], title: str
) -> None:
    place, floor = np.arange(len(shares)), np.zeros(len(shares))
    is_dashed = len(shares) <= DASHED_AT_MOST
    for name in sorted(shares.columns, key=lambda name: colors[name] == OTHERS_GREY):
        ceiling = floor + shares[name].to_numpy()
        if is_dashed:
            axes.bar(place, shares[name], 0.92, bottom=floor, color=colors[name])
        else:
            # One shape for all: gaps between hundreds of bars would flicker, and each bar costs time.
            ends = np.append(place - 0.5, place[-1] + 0.5)
            low, high = np.append(floor, floor[-1]), np.append(ceiling, ceiling[-1])
            axes.fill_between(ends, low, high, step="post", color=colors[name], linewidth=0)
        floor = ceiling
    if is_dashed:
        for line in asked.T:
            axes.hlines(line, place - 0.5, place + 0.5, color="black", linewidth=1.1, linestyle=(0, (2, 1)))
    axes.set(ylim=(0, 1), xlim=(-0.6, len(shares) - 0.4), ylabel="share of batch")
    axes.set_title(title)
    axes.yaxis.set_major_formatter(percent)
    legend_of_patches(axes, {name: colors[name] for name in shares.columns}, with_dashes=is_dashed)


def _draw_hours(axes: Axes, hours: pd.DataFrame, focus: pd.DataFrame | None, window: float) -> None:
    times = hours.columns.to_numpy(dtype=float)
    step = times[1] - times[0] if len(times) > 1 else 1.0
    extent = (-0.5, len(hours) - 0.5, times[0] - step / 2, times[-1] + step / 2)
    image = axes.imshow(
        hours.T, origin="lower", aspect="auto", extent=extent, cmap="Blues", interpolation="nearest", vmin=0
    )
    ticks = MaxNLocator(5, steps=[1, 2, 5, 10])
    bar = axes.figure.colorbar(image, ax=axes, pad=0.01, fraction=0.03, format=percent, ticks=ticks)
    bar.outline.set_visible(False)
    bar.set_label("share of batch")
    axes.set_title("Hours")
    axes.set_ylabel("hours post infection")
    if focus is not None:
        place = np.arange(len(focus))
        for sign in (-1, 1):
            edge = np.clip(focus["hours"] + sign * (window + step / 2), extent[2], extent[3])
            is_crowded = len(focus) > DASHED_AT_MOST
            reach, line = (0.5, 0.8) if is_crowded else (0.46, 1.3)
            axes.hlines(edge, place - reach, place + reach, color="#D1495B", linewidth=line)
        axes.plot([], [], color="#D1495B", linewidth=1.3, label="edges of the focal window")
        axes.legend(loc="lower right", bbox_to_anchor=(1, 0.98))


def _mark_epochs(panels: list[Axes], shares: pd.DataFrame) -> None:
    epochs = shares.index.get_level_values("epoch").to_numpy()
    starts = [0, *(np.flatnonzero(np.diff(epochs)) + 1)]
    for start in starts:
        for axes in panels[: None if start else 0]:
            axes.axvline(start - 0.5, color="black", linewidth=1.6 if len(starts) <= MOST_NAMES else 0.6)
    named = starts[:: -(-len(starts) // MOST_NAMES)]
    panels[-1].set_xticks(np.array(named) - 0.5, [f"epoch {epochs[start] + 1}" for start in named], ha="left")
