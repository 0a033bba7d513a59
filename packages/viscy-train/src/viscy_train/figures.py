"""Figures: the pictures of the report and of an inspection, drawn with matplotlib."""

from __future__ import annotations

import io
import warnings
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import matplotlib as mpl
import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import MaxNLocator

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import pandas as pd
    from matplotlib.axes import Axes
    from numpy.typing import NDArray

# Experiments and conditions have hues of their own, the first six told apart with the common colour blindnesses.
_EXPERIMENT_COLORS = ["#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#8C6D31"]
_EXPERIMENT_COLORS += ["#D55E00", "#5B4B8A", "#A6BF4B", "#1B3A57", "#F3B6C6", "#7FB7A4"]
_CONDITION_COLORS = ["#7A8794", "#D1495B", "#6A4C93", "#2A9D8F", "#F4A259", "#3D405B"]
_CONDITION_COLORS += ["#B5838D", "#98C1D9", "#606C38", "#FFCB69", "#9D4EDD", "#264653"]
_MOST_NAMES = 12
_OTHERS_GREY = "#CBD2D9"
_LONGEST_NAME = 24
_BARS_AT_MOST = 12
_ROWS_OF_DOTS = 60
# More columns than this, and dashes of each batch are but a grey haze.
DASHED_AT_MOST = 100
_POINTS_OF_A_LINE = 1500
_STYLE: Any = {
    "font.size": 11,
    "axes.titlesize": 12,
    "axes.titlelocation": "left",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "legend.frameon": False,
    "figure.constrained_layout.use": True,
    # Names are the user's, and may hold dollars.
    "text.parse_math": False,
}
_WIDTH = 10.5
_TABLE_GREY = "#D9DEE3"


def png_of(figure: Figure, dots_per_inch: int) -> bytes:
    """Return a figure as a PNG file."""
    picture = io.BytesIO()
    with mpl.rc_context(_STYLE), warnings.catch_warnings():
        # Names may be in a script that the font lacks; the tables of the page show them.
        warnings.filterwarnings("ignore", message="Glyph .* missing from font")
        figure.savefig(picture, format="png", dpi=dots_per_inch, metadata={"Software": None})
    return picture.getvalue()


def style() -> Any:
    """Return matplotlib's settings of all pictures."""
    return _STYLE


def experiment_colors(anchors: pd.DataFrame) -> dict[str, str]:
    """Return the colour of each experiment, in the table's order; of more than twelve the rarer are grey."""
    return _colors(anchors["experiment"], _EXPERIMENT_COLORS)


def condition_colors(anchors: pd.DataFrame) -> dict[str, str]:
    """Return the colour of each condition, in the table's order; of more than twelve the rarer are grey."""
    return _colors(anchors["condition"], _CONDITION_COLORS)


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
        figure = new_figure(_WIDTH, 8.2)
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
    with mpl.rc_context(_STYLE):
        return draw(planned, drawn, condition_colors(anchors))


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
    with mpl.rc_context(_STYLE):
        figure = new_figure(_WIDTH, 3.4)
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
    with mpl.rc_context(_STYLE):
        figure = new_figure(_WIDTH, 1.9)
        axes = figure.subplots()
        line, _ = _thinned(waiting, column)
        axes.fill_between(line["step"] + 1, line[column], step="mid", color="#E69F00", alpha=0.55, linewidth=0)
        axes.set(xlabel="step of each process", ylabel="waiting", ylim=(0, 1))
        axes.margins(x=0.01)
        axes.yaxis.set_major_formatter(_percent)
    return figure


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
    with mpl.rc_context(_STYLE):
        figure = new_figure(_WIDTH, 3.4)
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
        panels[1].yaxis.set_major_formatter(_percent)
        named = _named({name: colors[name] for name in drawn})
        handles = [Patch(color=color, label=name) for name, color in named.items()]
        figure.legend(handles=handles, ncols=min(len(handles), 4), loc="outside upper right", fontsize=9)
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
        figure = new_figure(_WIDTH, 4.6)
        panels = figure.subplots(1, 3, sharex=True, sharey=True)
        x, y = points[order].T
        for axes, column, colors in (
            (panels[0], "condition", condition_colors(anchors)),
            (panels[2], "experiment", experiment_colors(anchors)),
        ):
            axes.scatter(x, y, s=5, alpha=0.6, linewidths=0, c=[colors[name] for name in anchors[column].iloc[order]])
            _legend_of_dots(axes, colors)
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
    with mpl.rc_context(_STYLE):
        figure = new_figure(_WIDTH, 0.75 * n_cells + 0.6)
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


def new_figure(width: float, height: float) -> Figure:
    """Return a figure that belongs to no window."""
    figure = Figure(figsize=(width, height))
    FigureCanvasAgg(figure)
    return figure


def _colors(column: pd.Series, palette: list[str]) -> dict[str, str]:
    names = column.unique().tolist()
    own = names
    if len(names) > _MOST_NAMES:
        most = set(column.value_counts().index[: _MOST_NAMES - 1])
        own = [name for name in names if name in most]
    hue = dict(zip(own, palette, strict=False))
    return {name: hue.get(name, _OTHERS_GREY) for name in names}


def label_of(name: object, longest: int = _LONGEST_NAME) -> str:
    """Return a name as a label: short, in one line, and none that matplotlib leaves out for its first character."""
    text = " ".join(str(name).split())
    text = text if len(text) <= longest else f"{text[: longest - 1]}…"
    return f" {text}" if text.startswith("_") else text


def _named(colors: Mapping[str, str]) -> dict[str, str]:
    """Return the labels of a legend and their colours; those that are grey become one."""
    own = {label_of(name): color for name, color in colors.items() if color != _OTHERS_GREY}
    n_others = sum(color == _OTHERS_GREY for color in colors.values())
    return own | ({f"and {n_others} more": _OTHERS_GREY} if n_others else {})


def _percent(share: float, _: float) -> str:
    return f"{share:.0%}"


def _thinned(values: pd.DataFrame, column: str) -> tuple[pd.DataFrame, int]:
    """Return means of neighbouring rows where there are too many for a line, and of how many rows each is."""
    each = max(1, -(-len(values) // _POINTS_OF_A_LINE))
    return values[["step", column]].groupby(np.arange(len(values)) // each).mean(), each


def _edges_of_draws(longest: int) -> NDArray[np.int64]:
    """Return bins of numbers of draws: each by itself up to 10, then wider ones."""
    edges = [*range(min(longest, 11) + 1)]
    while edges[-1] < longest:
        edges.append(max(edges[-1] + 1, round(edges[-1] * 1.5)))
    return np.array(edges)


def _draw_shares_as_bars(planned: pd.DataFrame, drawn: pd.Series, hue: dict[str, str]) -> Figure:
    figure = new_figure(_WIDTH, 3.6)
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
    axes.yaxis.set_major_formatter(_percent)
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
    figure = new_figure(_WIDTH, 0.9 + 0.23 * len(shown))
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
    axes.xaxis.set_major_formatter(_percent)
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
    for name in sorted(shares.columns, key=lambda name: colors[name] == _OTHERS_GREY):
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
    axes.yaxis.set_major_formatter(_percent)
    _legend_of_patches(axes, {name: colors[name] for name in shares.columns}, with_dashes=is_dashed)


def _draw_hours(axes: Axes, hours: pd.DataFrame, focus: pd.DataFrame | None, window: float) -> None:
    times = hours.columns.to_numpy(dtype=float)
    step = times[1] - times[0] if len(times) > 1 else 1.0
    extent = (-0.5, len(hours) - 0.5, times[0] - step / 2, times[-1] + step / 2)
    image = axes.imshow(
        hours.T, origin="lower", aspect="auto", extent=extent, cmap="Blues", interpolation="nearest", vmin=0
    )
    ticks = MaxNLocator(5, steps=[1, 2, 5, 10])
    bar = axes.figure.colorbar(image, ax=axes, pad=0.01, fraction=0.03, format=_percent, ticks=ticks)
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
            axes.axvline(start - 0.5, color="black", linewidth=1.6 if len(starts) <= _MOST_NAMES else 0.6)
    named = starts[:: -(-len(starts) // _MOST_NAMES)]
    panels[-1].set_xticks(np.array(named) - 0.5, [f"epoch {epochs[start] + 1}" for start in named], ha="left")


def _legend_of_patches(axes: Axes, colors: Mapping[str, str], *, with_dashes: bool = False) -> None:
    named = _named(colors)
    handles: list[Any] = [Patch(color=color, label=name) for name, color in named.items()]
    if with_dashes:
        handles.append(Line2D([], [], color="black", linewidth=1.1, linestyle=(0, (2, 1)), label="asked for"))
    letters = sum(len(name) + 5 for name in named)
    small: dict[str, Any] = {"fontsize": 9, "columnspacing": 1.0} if letters > 85 else {}
    ncols = len(handles) if letters <= 110 else -(-len(handles) // 2)
    axes.legend(handles=handles, ncols=ncols, loc="lower right", bbox_to_anchor=(1, 0.98), handlelength=1.2, **small)


def _legend_of_dots(axes: Axes, colors: dict[str, str]) -> None:
    named = _named(colors)
    dot: Any = {"marker": "o", "linestyle": "", "markersize": 6}
    handles = [Line2D([], [], color=color, label=name, **dot) for name, color in named.items()]
    longest = max(map(len, named))
    ncols, size = (3, 10) if longest <= 10 and len(named) <= 6 else (2, 8)
    axes.legend(
        handles=handles,
        ncols=ncols,
        loc="upper left",
        bbox_to_anchor=(-0.03, -0.16),
        handletextpad=0.1,
        columnspacing=0.8,
        fontsize=size,
    )
