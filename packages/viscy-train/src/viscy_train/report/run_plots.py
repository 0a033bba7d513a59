"""Run plots: loss, data wait, example tracks and embeddings of a run."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import matplotlib as mpl
import numpy as np

from viscy_train.loading.axes import HOURS
from viscy_train.report.palette import condition_colors, experiment_colors, label_of, percent
from viscy_train.report.style import WIDTH, legend_of_dots, new_figure, style
from viscy_train.run.metrics_csv import DATA_WAIT, LOSS

if TYPE_CHECKING:
    from collections.abc import Sequence

    import pandas as pd
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from numpy.typing import NDArray

_MAX_POINTS = 1500
# Crops of a column whose times differ by less are labeled once, above the column.
_SAME_HOURS = 1.0


def plot_loss(loss: pd.DataFrame, validation: pd.DataFrame, resumed_at: Sequence[int]) -> Figure:
    """Plot the loss by step.

    Parameters
    ----------
    loss : pandas.DataFrame
        `step`, `epoch` and `train/loss`.
    validation : pandas.DataFrame
        `step` and `val/loss`; empty if there was no validation.
    resumed_at : sequence of int
        Steps at which the run was resumed.

    Returns
    -------
    matplotlib.figure.Figure
        The loss of each step, or means of consecutive steps if there are many; the mean of each epoch; the validation
        loss.
    """
    with mpl.rc_context(style()):
        figure = new_figure(WIDTH, 3.4)
        axes = figure.subplots()
        line, steps_per_point = _thin(loss, LOSS)
        marker: Any = {"marker": "o", "markersize": 2.5} if len(line) <= 200 else {}
        label = "training, each step" if steps_per_point == 1 else f"training, mean of {steps_per_point} steps"
        axes.plot(line["step"] + 1, line[LOSS], color="#8FA3B5", linewidth=1.2, label=label, **marker)
        for number, (_, epoch) in enumerate(loss.groupby("epoch")):
            ends, mean = [epoch["step"].min() + 1, epoch["step"].max() + 1], epoch[LOSS].mean()
            label = None if number else "training, epoch mean"
            axes.plot(ends, [mean, mean], color="#1B3A57", linewidth=2.2, label=label)
        if len(validation):
            style_of_validation: Any = {"color": "#D1495B", "marker": "D", "markersize": 5, "label": "validation"}
            axes.plot(validation["step"] + 1, validation["val/loss"], **style_of_validation)
        for number, step in enumerate(resumed_at):
            label = None if number else "resumed"
            axes.axvline(step + 0.5, color="#E69F00", linewidth=1.4, linestyle=(0, (3, 2)), label=label)
        axes.set(xlabel="step", ylabel="contrastive loss")
        axes.legend(ncols=5, loc="lower right", bbox_to_anchor=(1, 1))
    return figure


def plot_data_wait(log: pd.DataFrame) -> Figure:
    """Plot the fraction of each step that was spent waiting for data.

    Parameters
    ----------
    log : pandas.DataFrame
        `step` and `time/data_wait`.

    Returns
    -------
    matplotlib.figure.Figure
        An area by step, of means of consecutive steps if there are many.
    """
    with mpl.rc_context(style()):
        figure = new_figure(WIDTH, 1.9)
        axes = figure.subplots()
        line, _ = _thin(log, DATA_WAIT)
        axes.fill_between(line["step"] + 1, line[DATA_WAIT], step="mid", color="#E69F00", alpha=0.55, linewidth=0)
        axes.set(xlabel="step", ylabel="data wait", ylim=(0, 1))
        axes.margins(x=0.01)
        axes.yaxis.set_major_formatter(percent)
    return figure


def plot_embeddings(
    points: NDArray[np.float64],
    explained: Sequence[float],
    anchors: pd.DataFrame,
    order: NDArray[np.int64],
    names: tuple[str, str, str] = ("condition", HOURS, "experiment"),
) -> Figure:
    """Plot the embeddings three times, colored by condition, hours and experiment.

    Parameters
    ----------
    points : numpy.ndarray
        First two principal components, shape (n_anchors, 2).
    explained : sequence of float
        Fraction of the variance that each explains.
    anchors : pandas.DataFrame
        The anchor of each point.
    order : numpy.ndarray
        Rows in plotting order, shape (n_anchors,); a random order keeps the last experiment from hiding the others.
    names : tuple of str
        Names of what the panels are colored by.

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
        hours = anchors["hours_post_infection"].iloc[order]
        dots = panels[1].scatter(x, y, s=5, alpha=0.7, linewidths=0, c=hours, cmap="viridis")
        inset = panels[1].inset_axes((0, -0.22, 1, 0.04))
        bar = figure.colorbar(dots, cax=inset, orientation="horizontal")
        bar.outline.set_visible(False)
        bar.ax.tick_params(labelsize=9, length=2, pad=1)
        panels[0].set_ylabel(f"PC 2 ({explained[1]:.0%} of the variance)")
        for axes, name in zip(panels, names, strict=True):
            axes.set_title(f"by {label_of(name)}")
            axes.set_xlabel(f"PC 1 ({explained[0]:.0%})")
    return figure


def plot_example_tracks(
    crops: NDArray[np.float32], labels: Sequence[tuple[str, str]], hours: NDArray[np.float64], channels: list[str]
) -> Figure:
    """Plot crops of some tracks over time, each channel separately.

    Parameters
    ----------
    crops : numpy.ndarray
        Shape (n_tracks, n_times, n_channels, side, side). All crops of a channel are shown with the same contrast.
    labels : sequence of (str, str)
        Experiment and condition of each track.
    hours : numpy.ndarray
        Time of each crop, shape (n_tracks, n_times).
    channels : list of str
        Names of the channels.

    Returns
    -------
    matplotlib.figure.Figure
        A row for each track and a block of columns for each channel. The hours are above the columns, or inside each
        crop if the tracks are shown at different times.
    """
    n_tracks, n_times = crops.shape[:2]
    same_hours = np.ptp(hours, axis=0).max() < _SAME_HOURS
    with mpl.rc_context(style()):
        figure = new_figure(WIDTH, 0.75 * n_tracks + 0.6)
        # An empty column separates the channels.
        widths = ([1.0] * n_times + [0.3]) * len(channels)
        grid = figure.add_gridspec(n_tracks, len(widths), width_ratios=widths)
        for channel, name in enumerate(channels):
            low, high = np.percentile(crops[:, :, channel], [0.5, 99.7])
            for row, column in np.ndindex(n_tracks, n_times):
                axes = figure.add_subplot(grid[row, channel * (n_times + 1) + column])
                axes.imshow(crops[row, column, channel], cmap="gray", vmin=low, vmax=high)
                axes.set(xticks=[], yticks=[])
                axes.spines[:].set_visible(False)
                if row == 0:
                    title = f"{hours[:, column].mean():.1f} h" if same_hours else ""
                    axes.set_title(f"{label_of(name)}\n{title}" if column == 0 else title, fontsize=10)
                if not same_hours:
                    _write_inside(axes, f"{hours[row, column]:.1f} h")
                if column == 0 and channel == 0:
                    label = "\n".join(map(label_of, labels[row]))
                    axes.set_ylabel(label, rotation=0, ha="right", va="center", fontsize=9)
    return figure


def _write_inside(axes: Axes, text: str) -> None:
    """Write white text on a dark background in the upper left corner of an image."""
    background = {"facecolor": "black", "alpha": 0.55, "linewidth": 0, "pad": 1.0}
    options: Any = {"va": "top", "transform": axes.transAxes, "bbox": background}
    axes.text(0.05, 0.94, text, color="white", fontsize=7, **options)


def _thin(values: pd.DataFrame, column: str) -> tuple[pd.DataFrame, int]:
    """Return means of consecutive rows if there are too many for a line, and the number of rows of each mean."""
    n_rows = max(1, -(-len(values) // _MAX_POINTS))
    return values[["step", column]].groupby(np.arange(len(values)) // n_rows).mean(), n_rows
