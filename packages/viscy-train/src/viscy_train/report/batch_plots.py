"""Batch plots: the composition of each batch: experiments, conditions and hours."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from viscy_train.report.drawing import WIDTH, Drawing
from viscy_train.report.palette import (
    MAX_COLORS,
    OTHERS_GRAY,
    condition_colors,
    experiment_colors,
    named_colors,
    percent,
)
from viscy_train.report.panel import Entry, Heading, Panel, draw_ticks_of, ticks

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import pandas as pd
    from numpy.typing import NDArray

# In narrower columns, dashed lines would be a gray haze.
MAX_BATCHES_WITH_TARGETS = 100
_WINDOW_RED = "#D1495B"
_LEFT, _RIGHT = 76, 96
_HEIGHTS = (182, 182, 228)
_GAP = 18
_SHARES = [0, 0.25, 0.5, 0.75, 1]
# Colors of shares, evenly spaced from none to the largest: "Blues" of ColorBrewer.
_BLUES = ["#F7FBFF", "#DEEBF7", "#C6DBEF", "#9ECAE1", "#6BAED6", "#4292C6", "#2171B5", "#08519C", "#08306B"]


def plot_batches(
    *,
    experiments: pd.DataFrame,
    conditions: pd.DataFrame,
    hours: pd.DataFrame,
    targets: Mapping[str, pd.DataFrame],
    focal_hours: pd.Series | None,
    half_width: float | None,
    anchors: pd.DataFrame,
    titles: tuple[str, str, str] = ("Experiments", "Conditions", "Hours"),
) -> Drawing:
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
    Drawing
        Three panels with a common x axis of batches.
    """
    stacks = [
        (experiments, experiment_colors(anchors), targets["experiment"]),
        (conditions, condition_colors(anchors), targets["condition"]),
    ]
    entries = [_legend_of(shares, colors) for shares, colors, _ in stacks]
    entries.append([] if focal_hours is None else [Entry("temporal window", _WINDOW_RED, "line")])
    panels = _make_panels(len(experiments), titles, entries, _range_of_hours(hours))
    for panel, stack in zip(panels, stacks, strict=False):
        _plot_stack(panel, *stack)
    _plot_hours(panels[-1], hours)
    if focal_hours is not None and half_width is not None:
        _mark_windows(panels[-1], hours, focal_hours, half_width)
    _mark_epochs(panels, experiments)
    panels[-1].draw_axes("batches of all processes, in the order of the global sequence", space=40)
    return panels[-1].drawing


def _make_panels(
    n_batches: int, titles: Sequence[str], entries: Sequence[list[Entry]], hours: tuple[float, float]
) -> list[Panel]:
    """Return the panels of a new drawing, with their titles and legends."""
    width = WIDTH - _LEFT - _RIGHT
    headings = [Heading(title=title, entries=one, width=width) for title, one in zip(titles, entries, strict=True)]
    drawing = Drawing(WIDTH, sum(_HEIGHTS) + sum(heading.height + _GAP for heading in headings) + 44)
    panels, top = [], 0.0
    for heading, height, y_range in zip(headings, _HEIGHTS, [(0, 1), (0, 1), hours], strict=True):
        top += heading.height + _GAP
        heading.draw(drawing, _LEFT, top - 4)
        x_range = (-0.6, n_batches - 0.4)
        panel = Panel(
            drawing=drawing, left=_LEFT, top=top, width=width, height=height, x_range=x_range, y_range=y_range
        )
        panels.append(panel)
        top += height
    return panels


def _legend_of(shares: pd.DataFrame, colors: dict[str, str]) -> list[Entry]:
    named = named_colors({name: colors[name] for name in shares.columns})
    entries = [Entry(name, color) for name, color in named.items()]
    shows_targets = len(shares) <= MAX_BATCHES_WITH_TARGETS
    return [*entries, Entry("target", "black", "dashes")] if shows_targets else entries


def _plot_stack(panel: Panel, shares: pd.DataFrame, colors: dict[str, str], targets: pd.DataFrame) -> None:
    x, bottom = np.arange(len(shares)), np.zeros(len(shares))
    shows_targets = len(shares) <= MAX_BATCHES_WITH_TARGETS
    for color, height in _heights(shares, colors).items():
        top = bottom + height.to_numpy()
        if shows_targets:
            panel.bars(x, bottom, top, str(color))
        else:
            # One shape instead of hundreds of bars, whose gaps would flicker.
            ends = panel.x(np.append(x - 0.5, x[-1] + 0.5))
            panel.drawing.area(ends, panel.y(bottom), panel.y(top), str(color))
        bottom = top
    if shows_targets:
        for edge in _heights(targets, colors).cumsum(axis=1).to_numpy()[:, :-1].T:
            heights = panel.y(edge)
            panel.drawing.lines(panel.x(x - 0.5), heights, panel.x(x + 0.5), heights, "black", 1.5, dashed=True)
    panel.draw_axes(y_label="share of batch")
    panel.draw_y_ticks(_SHARES, [percent(share) for share in _SHARES])


def _heights(shares: pd.DataFrame, colors: dict[str, str]) -> pd.DataFrame:
    """Return the height of each color in a bar, from bottom to top; the gray of all other names is on top."""
    of_names = [colors[name] for name in shares.columns]
    heights = shares.T.groupby(np.array(of_names, dtype=object), sort=False).sum().T
    return heights[sorted(heights.columns, key=lambda color: color == OTHERS_GRAY)]


def _plot_hours(panel: Panel, hours: pd.DataFrame) -> None:
    """Draw an image with a pixel for each batch and time, and the scale of its colors."""
    shares = hours.to_numpy(dtype=float).T[::-1]
    largest = max(float(shares.max()), 1e-9)
    drawing = panel.drawing
    left, right = panel.x([-0.5, len(hours) - 0.5]).tolist()
    drawing.image(left, panel.top, right, panel.bottom, _blue(shares / largest))
    draw_ticks_of(panel, lambda hour: f"{hour:g}")
    scale = Panel(
        drawing=drawing, left=panel.right + 14, top=panel.top, width=14, height=panel.height,
        x_range=(0, 1), y_range=(0, largest),
    )  # fmt: skip
    drawing.image(scale.left, scale.top, scale.right, scale.bottom, _blue(np.linspace(1, 0, 256)[:, None]))
    for share in ticks(0, largest, 5):
        y = float(scale.y(share))
        drawing.lines(scale.right, y, scale.right + 4, y)
        drawing.text(scale.right + 8, y + 4.5, percent(share), size=13)
    drawing.text(WIDTH - 6, (scale.top + scale.bottom) / 2, "share of batch", anchor="middle", rotate=-90, size=13)


def _blue(shares: NDArray[np.float64]) -> NDArray[np.uint8]:
    """Return the colors of shares between 0 and 1, shape (..., 3)."""
    colors = np.array([list(bytes.fromhex(color[1:])) for color in _BLUES], dtype=float)
    at = np.linspace(0, 1, len(colors))
    return np.stack([np.interp(shares, at, channel) for channel in colors.T], axis=-1).round().astype(np.uint8)


def _mark_windows(panel: Panel, hours: pd.DataFrame, focal_hours: pd.Series, half_width: float) -> None:
    """Draw both ends of the temporal window of each batch."""
    low, high = _range_of_hours(hours)
    x = np.arange(len(focal_hours))
    reach, width = (0.46, 1.8) if len(focal_hours) <= MAX_BATCHES_WITH_TARGETS else (0.5, 1.1)
    for sign in (-1, 1):
        ends = focal_hours.to_numpy(dtype=float) + sign * (half_width + _step_of_hours(hours) / 2)
        y = panel.y(np.clip(ends, low, high))
        panel.drawing.lines(panel.x(x - reach), y, panel.x(x + reach), y, _WINDOW_RED, width)


def _step_of_hours(hours: pd.DataFrame) -> float:
    times = hours.columns.to_numpy(dtype=float)
    return float(times[1] - times[0]) if len(times) > 1 else 1.0


def _range_of_hours(hours: pd.DataFrame) -> tuple[float, float]:
    """Return the lower edge of the first row of the image and the upper edge of the last."""
    step = _step_of_hours(hours)
    return float(hours.columns[0]) - step / 2, float(hours.columns[-1]) + step / 2


def _mark_epochs(panels: list[Panel], shares: pd.DataFrame) -> None:
    """Label the first batch of each epoch, and draw a line before it except in the first epoch."""
    epochs = shares.index.get_level_values("epoch").to_numpy()
    starts = [0, *(np.flatnonzero(np.diff(epochs)) + 1)]
    for panel in panels:
        x: Any = panel.x(np.array(starts[1:]) - 0.5)
        panel.drawing.lines(x, panel.top, x, panel.bottom, "black", 2 if len(starts) <= MAX_COLORS else 0.8)
    labeled = starts[:: -(-len(starts) // MAX_COLORS)]
    names = [f"epoch {epochs[start] + 1}" for start in labeled]
    panels[-1].draw_x_ticks([start - 0.5 for start in labeled], names, anchor="start")
