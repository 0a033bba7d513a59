"""Figures: the pictures of the report, drawn with matplotlib."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import matplotlib as mpl
import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.patches import Patch

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import pandas as pd
    from matplotlib.axes import Axes
    from numpy.typing import NDArray

# Experiments and conditions have hues of their own, all told apart with the common colour blindnesses.
_EXPERIMENT_COLORS = ["#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#8C6D31"]
_CONDITION_COLORS = ["#7A8794", "#D1495B", "#6A4C93", "#2A9D8F", "#F4A259", "#3D405B"]
_STYLE: Any = {
    "font.size": 11,
    "axes.titlesize": 12,
    "axes.titlelocation": "left",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "legend.frameon": False,
    "figure.constrained_layout.use": True,
}
_WIDTH = 10.5
_TABLE_GREY = "#D9DEE3"


def experiment_colors(anchors: pd.DataFrame) -> dict[str, str]:
    """Return the colour of each experiment, in the table's order."""
    return _colors(anchors["experiment"].unique(), _EXPERIMENT_COLORS)


def condition_colors(anchors: pd.DataFrame) -> dict[str, str]:
    """Return the colour of each condition, in the table's order."""
    return _colors(anchors["condition"].unique(), _CONDITION_COLORS)


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
    with mpl.rc_context(_STYLE):
        figure = _figure(_WIDTH, 8.2)
        top, middle, bottom = figure.subplots(3, 1, sharex=True, height_ratios=[1, 1, 1.25])
        _draw_stack(top, experiments, experiment_colors(anchors), asked["experiment"], "Experiments")
        _draw_stack(middle, conditions, condition_colors(anchors), asked["condition"], "Conditions")
        _draw_hours(bottom, hours, focus, window)
        _mark_epochs([top, middle, bottom], experiments)
        bottom.set_xlabel("batch, in the order of the sequence that the processes share")
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
    with mpl.rc_context(_STYLE):
        figure = _figure(_WIDTH, 3.6)
        axes = figure.subplots()
        place = np.arange(len(planned))
        hue = condition_colors(anchors)
        colors = [hue[condition] for _, condition in planned.index]
        axes.bar(place - 0.27, planned["of_table"], 0.25, color=_TABLE_GREY)
        axes.bar(place, planned["asked"], 0.25, color="white", edgecolor=colors, linewidth=1.6)
        axes.bar(place + 0.27, drawn, 0.25, color=colors)
        axes.set_xticks(place, [f"{experiment}\n{condition}" for experiment, condition in planned.index])
        axes.set_ylabel("share of slots")
        axes.yaxis.set_major_formatter(_percent)
        handles = [
            Patch(color=_TABLE_GREY, label="in the table"),
            Patch(facecolor="white", edgecolor="#444444", linewidth=1.6, label="asked for"),
            Patch(color="#444444", label="drawn"),
        ]
        axes.legend(handles=handles, ncols=3, loc="lower right", bbox_to_anchor=(1, 1))
    return figure


def draw_loss(loss: pd.DataFrame) -> Figure:
    """Draw the loss over the steps.

    Parameters
    ----------
    loss : pandas.DataFrame
        `step`, `epoch` and `loss`.

    Returns
    -------
    matplotlib.figure.Figure
        Steps, and the mean of each epoch.
    """
    with mpl.rc_context(_STYLE):
        figure = _figure(_WIDTH, 3.2)
        axes = figure.subplots()
        axes.plot(
            loss["step"] + 1, loss["loss"], color="#8FA3B5", linewidth=1.2, marker="o", markersize=2.5, label="step"
        )
        for number, (_, epoch) in enumerate(loss.groupby("epoch")):
            ends, mean = [epoch["step"].min() + 1, epoch["step"].max() + 1], epoch["loss"].mean()
            axes.plot(ends, [mean, mean], color="#1B3A57", linewidth=2.2, label=None if number else "mean of the epoch")
        axes.set(xlabel="step of each process", ylabel="NT-Xent loss")
        axes.legend(ncols=2)
    return figure


def draw_embeddings(
    points: NDArray[np.float64], explained: Sequence[float], anchors: pd.DataFrame, order: NDArray[np.int64]
) -> Figure:
    """Draw the embeddings three times, coloured by condition, hours and experiment.

    Parameters
    ----------
    points : numpy.ndarray
        First two principal components, shape (n_anchors, 2).
    explained : sequence of float
        Share of the variance of each.
    anchors : pandas.DataFrame
        The anchor table.
    order : numpy.ndarray
        Rows in the order of drawing, so that what comes last does not hide the rest; shape (n_anchors,).

    Returns
    -------
    matplotlib.figure.Figure
        Three panels with the same axes.
    """
    with mpl.rc_context(_STYLE):
        figure = _figure(_WIDTH, 4.1)
        panels = figure.subplots(1, 3, sharex=True, sharey=True)
        x, y = points[order].T
        for axes, column, colors in (
            (panels[0], "condition", condition_colors(anchors)),
            (panels[2], "experiment", experiment_colors(anchors)),
        ):
            axes.scatter(x, y, s=5, alpha=0.6, linewidths=0, c=[colors[name] for name in anchors[column].iloc[order]])
            _legend_of_dots(axes, colors)
            axes.set_title(f"by {column}", y=1.13)
        hours = anchors["hours_post_infection"].iloc[order]
        dots = panels[1].scatter(x, y, s=5, alpha=0.7, linewidths=0, c=hours, cmap="viridis")
        panels[1].set_title("by hours post infection", y=1.13)
        inset = panels[1].inset_axes((0, 1.03, 1, 0.04))
        bar = figure.colorbar(dots, cax=inset, orientation="horizontal", ticklocation="top")
        bar.outline.set_visible(False)
        bar.ax.tick_params(labelsize=9, length=2, pad=1)
        panels[0].set_ylabel(f"second component, {explained[1]:.0%} of the variance")
        panels[1].set_xlabel(f"first component, {explained[0]:.0%} of the variance")
    return figure


def draw_cells(crops: NDArray[np.float32], labels: list[str], hours: list[float], channels: list[str]) -> Figure:
    """Draw some tracked cells over the hours, each channel by itself.

    Parameters
    ----------
    crops : numpy.ndarray
        Shape (n_cells, n_times, n_channels, side, side), on a common scale.
    labels : list of str
        One for each cell.
    hours : list of float
        One for each time.
    channels : list of str
        One for each channel.

    Returns
    -------
    matplotlib.figure.Figure
        A row for each cell, a block of columns for each channel.
    """
    n_cells, n_times = crops.shape[:2]
    with mpl.rc_context(_STYLE):
        figure = _figure(_WIDTH, 0.75 * n_cells + 0.6)
        # An empty column keeps the channels apart.
        widths = ([1.0] * n_times + [0.3]) * len(channels)
        grid = figure.add_gridspec(n_cells, len(widths), width_ratios=widths)
        for channel, name in enumerate(channels):
            low, high = np.percentile(crops[:, :, channel], [0.5, 99.7])
            for row, column in np.ndindex(n_cells, n_times):
                axes = figure.add_subplot(grid[row, channel * (n_times + 1) + column])
                axes.imshow(crops[row, column, channel], cmap="gray", vmin=low, vmax=high)
                axes.set(xticks=[], yticks=[])
                axes.spines[:].set_visible(False)
                if row == 0:
                    axes.set_title(f"{name}\n" * (column == 0) + f"{hours[column]:.1f} h", fontsize=10)
                if column == 0 and channel == 0:
                    axes.set_ylabel(labels[row], rotation=0, ha="right", va="center", fontsize=10)
    return figure


def _figure(width: float, height: float) -> Figure:
    """Return a figure that belongs to no window."""
    figure = Figure(figsize=(width, height))
    FigureCanvasAgg(figure)
    return figure


def _colors(names: Any, palette: list[str]) -> dict[str, str]:
    return {name: palette[number % len(palette)] for number, name in enumerate(names)}


def _percent(share: float, _: float) -> str:
    return f"{share:.0%}"


def _draw_stack(
    axes: Axes, shares: pd.DataFrame, colors: dict[str, str], asked: NDArray[np.float64], title: str
) -> None:
    place, floor = np.arange(len(shares)), np.zeros(len(shares))
    for name in shares.columns:
        axes.bar(place, shares[name], 0.92, bottom=floor, color=colors[name], label=name)
        floor += shares[name].to_numpy()
    for line in asked.T:
        axes.hlines(line, place - 0.5, place + 0.5, color="black", linewidth=1.1, linestyle=(0, (2, 1)))
    axes.plot([], [], color="black", linewidth=1.1, linestyle=(0, (2, 1)), label="asked for")
    axes.set(ylim=(0, 1), xlim=(-0.6, len(shares) - 0.4), ylabel="share of batch")
    axes.set_title(title)
    axes.yaxis.set_major_formatter(_percent)
    axes.legend(ncols=len(shares.columns) + 1, loc="lower right", bbox_to_anchor=(1, 0.98), handlelength=1.2)


def _draw_hours(axes: Axes, hours: pd.DataFrame, focus: pd.DataFrame | None, window: float) -> None:
    times = hours.columns.to_numpy(dtype=float)
    step = times[1] - times[0] if len(times) > 1 else 1.0
    extent = (-0.5, len(hours) - 0.5, times[0] - step / 2, times[-1] + step / 2)
    image = axes.imshow(
        hours.T, origin="lower", aspect="auto", extent=extent, cmap="Blues", interpolation="nearest", vmin=0
    )
    bar = axes.figure.colorbar(image, ax=axes, pad=0.01, fraction=0.03, format=_percent)
    bar.outline.set_visible(False)
    bar.set_label("share of batch")
    axes.set_title("Hours")
    axes.set_ylabel("hours post infection")
    if focus is not None:
        place = np.arange(len(focus))
        for sign in (-1, 1):
            edge = np.clip(focus["hours"] + sign * (window + step / 2), extent[2], extent[3])
            axes.hlines(edge, place - 0.46, place + 0.46, color="#D1495B", linewidth=1.3)
        axes.plot([], [], color="#D1495B", linewidth=1.3, label="edges of the focal window")
        axes.legend(loc="lower right", bbox_to_anchor=(1, 0.98))


def _mark_epochs(panels: list[Axes], shares: pd.DataFrame) -> None:
    epochs = shares.index.get_level_values("epoch").to_numpy()
    starts = [0, *(np.flatnonzero(np.diff(epochs)) + 1)]
    for start in starts:
        for axes in panels[: None if start else 0]:
            axes.axvline(start - 0.5, color="black", linewidth=1.6)
    labels = [f"{start}\nepoch {epochs[start] + 1}" for start in starts]
    panels[-1].set_xticks(np.array(starts), labels)


def _legend_of_dots(axes: Axes, colors: dict[str, str]) -> None:
    for name, color in colors.items():
        axes.plot([], [], marker="o", linestyle="", markersize=6, color=color, label=name)
    axes.legend(
        ncols=3, loc="lower left", bbox_to_anchor=(-0.03, 0.99), handletextpad=0.1, columnspacing=0.8, fontsize=10
    )
