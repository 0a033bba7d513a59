"""Run plots: loss, data wait, example tracks and embeddings of a run."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import matplotlib as mpl
import numpy as np

from viscy_train.report.palette import percent
from viscy_train.report.style import WIDTH, new_figure, style
from viscy_train.run.metrics_csv import DATA_WAIT, LOSS

if TYPE_CHECKING:
    from collections.abc import Sequence

    import pandas as pd
    from matplotlib.figure import Figure

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


def _thin(values: pd.DataFrame, column: str) -> tuple[pd.DataFrame, int]:
    """Return means of consecutive rows if there are too many for a line, and the number of rows of each mean."""
    n_rows = max(1, -(-len(values) // _MAX_POINTS))
    return values[["step", column]].groupby(np.arange(len(values)) // n_rows).mean(), n_rows
