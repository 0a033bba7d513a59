"""Batch plots: the composition of batches and of an epoch, and how often anchors are drawn."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING, Any

import matplotlib as mpl
import numpy as np
from matplotlib.collections import PolyCollection
from matplotlib.patches import Patch
from matplotlib.ticker import MaxNLocator

from viscy_train.report.style import (
    MAX_COLORS,
    OTHERS_GRAY,
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

_MAX_BARS = 12
_MAX_ROWS_OF_DOTS = 60
# In narrower columns, dashed lines would be a gray haze.
MAX_BATCHES_WITH_TARGETS = 100
_TABLE_GRAY, _LEGEND_GRAY, _WINDOW_RED = "#D9DEE3", "#444444", "#D1495B"


def plot_batches(
    *,
    experiments: pd.DataFrame,
    conditions: pd.DataFrame,
    hours: pd.DataFrame,
    targets: Mapping[str, pd.DataFrame],
    focal_hours: pd.Series | None,
    half_width: float | None,
    anchors: pd.DataFrame,
    titles: tuple[str, str, str] = ("Experiments", "Conditions", "Hours post infection"),
) -> Figure:
    """Plot the composition of each batch: experiments, conditions and hours, one above the other.

    Parameters
    ----------
    experiments, conditions, hours : pandas.DataFrame
        Shares by (epoch, batch), a column for each value. The columns of `hours` are ascending and evenly spaced.
    targets : mapping of str to pandas.DataFrame
        For ``experiment`` and ``condition``, the target shares of the batches, with the columns of the shares; without
        columns if they are not known.
    focal_hours : pandas.Series, optional
        Focal time of each batch.
    half_width : float, optional
        Half-width of the temporal window in hours; required with `focal_hours`.
    anchors : pandas.DataFrame
        The anchor table, which determines the colors.
    titles : tuple of str
        Titles of the panels.

    Returns
    -------
    matplotlib.figure.Figure
        Three panels with a common x axis of batches.
    """
    with mpl.rc_context(style()):
        figure = new_figure(WIDTH, 8.2)
        top, middle, bottom = figure.subplots(3, 1, sharex=True, height_ratios=[1, 1, 1.25])
        _plot_stack(top, experiments, experiment_colors(anchors), targets["experiment"], titles[0])
        _plot_stack(middle, conditions, condition_colors(anchors), targets["condition"], titles[1])
        _plot_hours(bottom, hours, titles[2])
        if focal_hours is not None and half_width is not None:
            _mark_windows(bottom, hours, focal_hours, half_width)
        _mark_epochs([top, middle, bottom], experiments)
        bottom.set_xlabel("batches of all processes, in the order of the global sequence")
    return figure


def plot_composition(targets: pd.DataFrame, observed: pd.Series, anchors: pd.DataFrame) -> Figure:
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
    matplotlib.figure.Figure
        Three bars for each (experiment, condition); a row of dots instead if there are many.
    """
    plot = _plot_shares_as_bars if len(targets) <= _MAX_BARS else _plot_shares_as_dots
    with mpl.rc_context(style()):
        return plot(targets, observed, condition_colors(anchors))


def plot_draws(anchors_by_draws: Mapping[str, NDArray[np.float64]], colors: Mapping[str, str]) -> Figure:
    """Plot how often anchors are drawn in an epoch.

    Parameters
    ----------
    anchors_by_draws : mapping of str to numpy.ndarray
        For each experiment, the number of anchors drawn 0, 1, 2, ... times.
    colors : mapping of str to str
        The color of each experiment.

    Returns
    -------
    matplotlib.figure.Figure
        Two panels by number of draws: the number of anchors, and the share of the slots that they fill.
    """
    with mpl.rc_context(style()):
        figure = new_figure(WIDTH, 3.4)
        panels = figure.subplots(1, 2)
        edges = _edges_of_draws(max(len(counts) for counts in anchors_by_draws.values()))
        x = np.arange(len(edges) - 1)
        n_slots = sum(float(counts @ np.arange(len(counts))) for counts in anchors_by_draws.values())
        bottoms = np.zeros((2, len(x)))
        for name, counts in anchors_by_draws.items():
            padded = np.concatenate([counts, np.zeros(edges[-1] - len(counts))])
            shares = padded * np.arange(len(padded)) / max(n_slots, 1.0)
            for axes, values, bottom in zip(panels, (padded, shares), bottoms, strict=True):
                height = np.add.reduceat(values, edges[:-1])
                axes.bar(x, height, 0.9, bottom=bottom, color=colors[name])
                bottom += height
        labels = [f"{low}" if high == low + 1 else f"{low}-{high - 1}" for low, high in pairwise(edges.tolist())]
        for axes in panels:
            axes.set_xticks(x, labels, rotation=60, ha="right", rotation_mode="anchor", fontsize=9)
            axes.set_xlabel("draws per anchor")
        panels[0].set_ylabel("anchors")
        panels[0].yaxis.set_major_formatter(lambda count, _: f"{count:,.0f}")
        panels[1].set_ylabel("share of slots")
        panels[1].yaxis.set_major_formatter(percent)
        named = named_colors({name: colors[name] for name in anchors_by_draws})
        handles = [Patch(color=color, label=name) for name, color in named.items()]
        figure.legend(handles=handles, ncols=min(len(handles), 4), loc="outside upper right", fontsize=9)
    return figure


def _edges_of_draws(longest: int) -> NDArray[np.int64]:
    """Return bin edges of numbers of draws: bins of one number up to 10, then wider ones."""
    edges = [*range(min(longest, 11) + 1)]
    while edges[-1] < longest:
        edges.append(max(edges[-1] + 1, round(edges[-1] * 1.5)))
    return np.array(edges)


def _plot_shares_as_bars(targets: pd.DataFrame, observed: pd.Series, hue: dict[str, str]) -> Figure:
    figure = new_figure(WIDTH, 3.6)
    axes = figure.subplots()
    x = np.arange(len(targets))
    colors = [hue[condition] for _, condition in targets.index]
    axes.bar(x - 0.27, targets["table_share"], 0.25, color=_TABLE_GRAY)
    axes.bar(x, targets["target"], 0.25, color="white", edgecolor=colors, linewidth=1.6)
    axes.bar(x + 0.27, observed, 0.25, color=colors)
    labels = [f"{label_of(experiment)}\n{label_of(condition)}" for experiment, condition in targets.index]
    slanted: Any = {"rotation": 30, "ha": "right"} if max(map(len, labels)) > 120 // len(labels) else {}
    axes.set_xticks(x, labels, **slanted)
    axes.set_ylabel("share of slots")
    axes.yaxis.set_major_formatter(percent)
    handles = [
        Patch(color=_TABLE_GRAY, label="share of table"),
        Patch(facecolor="white", edgecolor=_LEGEND_GRAY, linewidth=1.6, label="target"),
        Patch(color=_LEGEND_GRAY, label="observed"),
    ]
    axes.legend(handles=handles, ncols=3, loc="lower right", bbox_to_anchor=(1, 1))
    return figure


def _plot_shares_as_dots(targets: pd.DataFrame, observed: pd.Series, hue: dict[str, str]) -> Figure:
    """Plot a row for each (experiment, condition): the observed share is a dot inside the ring of the target."""
    shown = targets.index[:: -(-len(targets) // _MAX_ROWS_OF_DOTS)]
    figure = new_figure(WIDTH, 0.9 + 0.23 * len(shown))
    axes = figure.subplots()
    y, colors = np.arange(len(shown)), [hue[condition] for _, condition in shown]
    table, target, dots = targets["table_share"].loc[shown], targets["target"].loc[shown], observed.loc[shown]
    axes.hlines(y, np.minimum(table, target), np.maximum(table, target), color=_TABLE_GRAY, linewidth=2, zorder=1)
    axes.scatter(table, y, s=42, marker="|", color="#7B8794", zorder=2, linewidths=2, label="share of table")
    axes.scatter(target, y, s=90, facecolors="none", edgecolors=colors, linewidths=1.5, zorder=3)
    axes.scatter(dots, y, s=26, color=colors, zorder=4)
    axes.scatter([], [], s=90, facecolors="none", edgecolors=_LEGEND_GRAY, linewidths=1.5, label="target")
    axes.scatter([], [], s=26, color=_LEGEND_GRAY, label="observed")
    axes.set_yticks(y, [f"{label_of(experiment)}, {label_of(condition)}" for experiment, condition in shown])
    axes.set(ylim=(len(shown) - 0.4, -0.6), xlabel="share of slots")
    axes.set_xlim(left=0)
    axes.grid(axis="x", color="#E4E8ED", zorder=0)
    axes.xaxis.set_major_formatter(percent)
    axes.legend(ncols=3, loc="lower right", bbox_to_anchor=(1, 1))
    # Separate the experiments by lines.
    is_last = [experiment != following for (experiment, _), (following, _) in pairwise(shown)]
    for last in np.flatnonzero(is_last):
        axes.axhline(last + 0.5, color="#C3CCD6", linewidth=0.8)
    return figure


def _plot_stack(axes: Axes, shares: pd.DataFrame, colors: dict[str, str], targets: pd.DataFrame, title: str) -> None:
    x, bottom = np.arange(len(shares)), np.zeros(len(shares))
    shows_targets = len(shares) <= MAX_BATCHES_WITH_TARGETS
    for color, height in _heights(shares, colors).items():
        top = bottom + height.to_numpy()
        if shows_targets:
            axes.add_collection(_bars(x, bottom, top, str(color)), autolim=False)
        else:
            # One shape instead of hundreds of bars, which would be slow and whose gaps would flicker.
            ends = np.append(x - 0.5, x[-1] + 0.5)
            low, high = np.append(bottom, bottom[-1]), np.append(top, top[-1])
            axes.fill_between(ends, low, high, step="post", color=color, linewidth=0)
        bottom = top
    if shows_targets:
        edges = _heights(targets, colors).cumsum(axis=1).to_numpy()[:, :-1]
        for edge in edges.T:
            axes.hlines(edge, x - 0.5, x + 0.5, color="black", linewidth=1.1, linestyle=(0, (2, 1)))
    axes.set(ylim=(0, 1), xlim=(-0.6, len(shares) - 0.4), ylabel="share of batch")
    axes.set_title(title)
    axes.yaxis.set_major_formatter(percent)
    legend_of_patches(axes, {name: colors[name] for name in shares.columns}, with_target=shows_targets)


def _bars(x: NDArray[np.int64], low: NDArray[np.float64], high: NDArray[np.float64], color: str) -> PolyCollection:
    """Return bars around x as one object, which is drawn several times faster than one for each bar."""
    left, right = x - 0.46, x + 0.46
    corners: Any = [[left, low], [right, low], [right, high], [left, high]]
    return PolyCollection([*np.array(corners).transpose(2, 0, 1)], facecolors=color, linewidths=0)


def _heights(shares: pd.DataFrame, colors: dict[str, str]) -> pd.DataFrame:
    """Return the height of each color in a bar, from bottom to top; the gray of all other names is on top."""
    of_names = [colors[name] for name in shares.columns]
    heights = shares.T.groupby(np.array(of_names, dtype=object), sort=False).sum().T
    return heights[sorted(heights.columns, key=lambda color: color == OTHERS_GRAY)]


def _plot_hours(axes: Axes, hours: pd.DataFrame, title: str) -> None:
    low, high = _range_of_hours(hours)
    extent = (-0.5, len(hours) - 0.5, low, high)
    image = axes.imshow(
        hours.T, origin="lower", aspect="auto", extent=extent, cmap="Blues", interpolation="nearest", vmin=0
    )
    ticks = MaxNLocator(5, steps=[1, 2, 5, 10])
    bar = axes.figure.colorbar(image, ax=axes, pad=0.01, fraction=0.03, format=percent, ticks=ticks)
    bar.outline.set_visible(False)
    bar.set_label("share of batch")
    axes.set_title(title)
    axes.set_ylabel("hours")


def _mark_windows(axes: Axes, hours: pd.DataFrame, focal_hours: pd.Series, half_width: float) -> None:
    """Draw both ends of the temporal window of each batch."""
    low, high = _range_of_hours(hours)
    x = np.arange(len(focal_hours))
    reach, linewidth = (0.46, 1.3) if len(focal_hours) <= MAX_BATCHES_WITH_TARGETS else (0.5, 0.8)
    for sign in (-1, 1):
        end = np.clip(focal_hours + sign * (half_width + _step_of_hours(hours) / 2), low, high)
        axes.hlines(end, x - reach, x + reach, color=_WINDOW_RED, linewidth=linewidth)
    axes.plot([], [], color=_WINDOW_RED, linewidth=1.3, label="temporal window")
    axes.legend(loc="lower right", bbox_to_anchor=(1, 0.98))


def _step_of_hours(hours: pd.DataFrame) -> float:
    times = hours.columns.to_numpy(dtype=float)
    return float(times[1] - times[0]) if len(times) > 1 else 1.0


def _range_of_hours(hours: pd.DataFrame) -> tuple[float, float]:
    """Return the lower edge of the first row of the image and the upper edge of the last."""
    step = _step_of_hours(hours)
    return float(hours.columns[0]) - step / 2, float(hours.columns[-1]) + step / 2


def _mark_epochs(panels: list[Axes], shares: pd.DataFrame) -> None:
    """Label the first batch of each epoch, and draw a line before it except in the first epoch."""
    epochs = shares.index.get_level_values("epoch").to_numpy()
    starts = [0, *(np.flatnonzero(np.diff(epochs)) + 1)]
    for start in starts[1:]:
        for axes in panels:
            axes.axvline(start - 0.5, color="black", linewidth=1.6 if len(starts) <= MAX_COLORS else 0.6)
    labeled = starts[:: -(-len(starts) // MAX_COLORS)]
    panels[-1].set_xticks(np.array(labeled) - 0.5, [f"epoch {epochs[start] + 1}" for start in labeled], ha="left")
