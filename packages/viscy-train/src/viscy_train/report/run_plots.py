"""Run figures: the loss, the waiting, the cells that were trained on, and their embeddings."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import matplotlib as mpl
import numpy as np

from viscy_train.report.style import (
    WIDTH,
    condition_colors,
    experiment_colors,
    label_of,
    legend_of_dots,
    new_figure,
    percent,
    style,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    import pandas as pd
    from matplotlib.figure import Figure
    from numpy.typing import NDArray

_POINTS_OF_A_LINE = 1500


def draw_loss(loss: pd.DataFrame, validation: pd.DataFrame, went_on: Sequence[int]) -> Figure:
    """Draw the loss over the steps.

    Parameters
    ----------
    loss : pandas.DataFrame
        `step`, `epoch` and `loss`.
    validation : pandas.DataFrame
        `step` and `val/loss`; empty where nothing was validated.
    went_on : sequence of int
        Steps at which the run went on after a stop.

    Returns
    -------
    matplotlib.figure.Figure
        Steps, of many the mean of neighbours; the mean of each epoch; validation.
    """
    with mpl.rc_context(style()):
        figure = new_figure(WIDTH, 3.4)
        axes = figure.subplots()
        line, each = _thinned(loss, "loss")
        marker: Any = {"marker": "o", "markersize": 2.5} if len(line) <= 200 else {}
        label = "step" if each == 1 else f"mean of {each} steps"
        axes.plot(line["step"] + 1, line["loss"], color="#8FA3B5", linewidth=1.2, label=label, **marker)
        for number, (_, epoch) in enumerate(loss.groupby("epoch")):
            ends, mean = [epoch["step"].min() + 1, epoch["step"].max() + 1], epoch["loss"].mean()
            axes.plot(ends, [mean, mean], color="#1B3A57", linewidth=2.2, label=None if number else "mean of the epoch")
        if len(validation):
            place = validation["step"] + 1
            axes.plot(place, validation["val/loss"], color="#D1495B", marker="D", markersize=5, label="validation")
        for number, step in enumerate(went_on):
            name = None if number else "the run went on"
            axes.axvline(step + 0.5, color="#E69F00", linewidth=1.4, linestyle=(0, (3, 2)), label=name)
        axes.set(xlabel="step of each process", ylabel="contrastive loss")
        axes.legend(ncols=5, loc="lower right", bbox_to_anchor=(1, 1))
    return figure


def draw_waiting(waiting: pd.DataFrame, column: str) -> Figure:
    """Draw the share of each step that was spent waiting.

    Parameters
    ----------
    waiting : pandas.DataFrame
        `step` and the column.
    column : str
        Of the shares.

    Returns
    -------
    matplotlib.figure.Figure
        An area over the steps, of many the mean of neighbours.
    """
    with mpl.rc_context(style()):
        figure = new_figure(WIDTH, 1.9)
        axes = figure.subplots()
        line, _ = _thinned(waiting, column)
        axes.fill_between(line["step"] + 1, line[column], step="mid", color="#E69F00", alpha=0.55, linewidth=0)
        axes.set(xlabel="step of each process", ylabel="waiting", ylim=(0, 1))
        axes.margins(x=0.01)
        axes.yaxis.set_major_formatter(percent)
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
    with mpl.rc_context(style()):
        figure = new_figure(WIDTH, 4.6)
        panels = figure.subplots(1, 3, sharex=True, sharey=True)
        x, y = points[order].T
        for axes, column, colors in (
            (panels[0], "condition", condition_colors(anchors)),
            (panels[2], "experiment", experiment_colors(anchors)),
        ):
            axes.scatter(x, y, s=5, alpha=0.6, linewidths=0, c=[colors[name] for name in anchors[column].iloc[order]])
            legend_of_dots(axes, colors)
            axes.set_title(f"by {column}")
        hours = anchors["hours_post_infection"].iloc[order]
        dots = panels[1].scatter(x, y, s=5, alpha=0.7, linewidths=0, c=hours, cmap="viridis")
        panels[1].set_title("by hours post infection")
        inset = panels[1].inset_axes((0, -0.22, 1, 0.04))
        bar = figure.colorbar(dots, cax=inset, orientation="horizontal")
        bar.outline.set_visible(False)
        bar.ax.tick_params(labelsize=9, length=2, pad=1)
        panels[0].set_ylabel(f"second component, {explained[1]:.0%} of the variance")
        for axes in panels:
            axes.set_xlabel(f"first component, {explained[0]:.0%}")
    return figure


def draw_cells(
    crops: NDArray[np.float32], labels: Sequence[tuple[str, str]], hours: NDArray[np.float64], channels: list[str]
) -> Figure:
    """Draw some tracked cells over the hours, each channel by itself.

    Parameters
    ----------
    crops : numpy.ndarray
        Shape (n_cells, n_times, n_channels, side, side), on a common scale.
    labels : sequence of (str, str)
        Experiment and condition of each cell.
    hours : numpy.ndarray
        Of each crop, shape (n_cells, n_times).
    channels : list of str
        One for each channel.

    Returns
    -------
    matplotlib.figure.Figure
        A row for each cell, a block of columns for each channel; the hours above the columns, or in each crop where the
        cells were not seen at about the same hours.
    """
    n_cells, n_times = crops.shape[:2]
    is_common = np.ptp(hours, axis=0).max() < 1.0
    with mpl.rc_context(style()):
        figure = new_figure(WIDTH, 0.75 * n_cells + 0.6)
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
                hour = f"{hours[row, column]:.1f} h"
                if row == 0:
                    over = f"{hours[:, column].mean():.1f} h" if is_common else ""
                    axes.set_title(f"{label_of(name)}\n" * (column == 0) + over, fontsize=10)
                if not is_common:
                    ground = {"facecolor": "black", "alpha": 0.55, "linewidth": 0, "pad": 1.0}
                    place: Any = {"va": "top", "transform": axes.transAxes, "bbox": ground}
                    axes.text(0.05, 0.94, hour, color="white", fontsize=7, **place)
                if column == 0 and channel == 0:
                    title = "\n".join(map(label_of, labels[row]))
                    axes.set_ylabel(title, rotation=0, ha="right", va="center", fontsize=9)
    return figure


def _thinned(values: pd.DataFrame, column: str) -> tuple[pd.DataFrame, int]:
    """Return means of neighbouring rows where there are too many for a line, and of how many rows each is."""
    each = max(1, -(-len(values) // _POINTS_OF_A_LINE))
    return values[["step", column]].groupby(np.arange(len(values)) // each).mean(), each
