"""Embedding plots: embeddings in two dimensions, colored by what is known of their anchors, and tracks among them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from viscy_train.report.dots import draw_dots, rgb_of, viridis
from viscy_train.report.drawing import WIDTH, Drawing
from viscy_train.report.palette import OTHERS_GRAY, label_of, named_colors
from viscy_train.report.panel import Entry, Heading, Panel, draw_ticks_of, ticks

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from numpy.typing import NDArray

    from viscy_train.evaluation.projection import Projection

_LEFT, _GAP, _HEIGHT, _BELOW = 64, 22, 300, 46
_MARGIN = 0.04
# Of a few names and of many, two of which must fit into a row of the legend.
_MAX_LABEL, _MAX_LABEL_OF_MANY, _MANY_NAMES = 24, 13, 4
# More dots than this are drawn smaller.
_MANY_DOTS = 4000
# Segments of a track have one of so many colors.
_N_TIMES = 12
_ARROW, _ANGLE = 8.0, 0.5


@dataclass(frozen=True, kw_only=True)
class Coloring:
    """What a panel is colored by.

    Parameters
    ----------
    name : str
        For example ``condition``.
    values : pandas.Series
        Value of each anchor: names, or numbers if there are no colors.
    colors : mapping of str to str, optional
        The color of each name.
    """

    name: str
    values: pd.Series
    colors: Mapping[str, str] | None = None

    @property
    def entries(self) -> list[Entry]:
        """The legend; names without a color of their own are one entry."""
        named = {} if self.colors is None else named_colors(self.colors)
        longest = _MAX_LABEL_OF_MANY if len(named) > _MANY_NAMES else _MAX_LABEL
        return [Entry(label_of(name, longest), color, "disk") for name, color in named.items()]

    @property
    def range(self) -> tuple[float, float] | None:
        """The smallest and the largest number, if values are numbers."""
        return None if self.colors is not None else (float(self.values.min()), float(self.values.max()))

    def rgb(self) -> NDArray[np.uint8]:
        """Return the color of each anchor, shape (n_anchors, 3)."""
        if self.colors is None:
            return viridis(_between(self.values.to_numpy(dtype=float), *(self.range or (0, 1))))
        codes, names = pd.factorize(self.values)
        return rgb_of([self.colors[name] for name in names])[codes]

    def order(self, shuffled: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return the rows in the order of drawing: those in gray first, and otherwise as they are shuffled."""
        if self.colors is None or OTHERS_GRAY not in self.colors.values():
            return shuffled
        is_colored = self.values.map(self.colors).to_numpy()[shuffled] != OTHERS_GRAY
        return np.concatenate([shuffled[~is_colored], shuffled[is_colored]])


def plot_embeddings(projection: Projection, colorings: Sequence[Coloring], seed: int) -> Drawing:
    """Plot embeddings several times, each time colored by something else.

    Parameters
    ----------
    projection : Projection
        Embeddings in two dimensions.
    colorings : sequence of Coloring
        What the panels are colored by.
    seed : int
        Seed of the order of drawing, which keeps the last experiment from hiding the others.

    Returns
    -------
    Drawing
        Panels with the same axes, two or three in a row.
    """
    shuffled = np.random.default_rng(seed).permutation(len(projection.points))
    titles = [(f"by {label_of(one.name)}", one.entries) for one in colorings]
    panels = _make_panels(projection, titles)
    radius = 2.0 if len(shuffled) <= _MANY_DOTS else 1.5
    for panel, coloring in zip(panels, colorings, strict=True):
        order = coloring.order(shuffled)
        draw_dots(panel, projection.points[order], coloring.rgb()[order], radius)
        if coloring.range is not None:
            _draw_scale(panel, coloring.range)
        panel.draw_axes()
    return panels[0].drawing


def plot_trajectories(
    projection: Projection, tracks: Mapping[str, Sequence[NDArray[np.int64]]], times: NDArray[np.float64]
) -> Drawing:
    """Plot the trajectories of some tracks among all embeddings.

    Parameters
    ----------
    projection : Projection
        Embeddings in two dimensions.
    tracks : mapping of str to sequence of numpy.ndarray
        The rows of each track in the order of time, under the title of their panel.
    times : numpy.ndarray
        Time of each row, shape (n_rows,).

    Returns
    -------
    Drawing
        A panel for each title: all embeddings in gray, and tracks as lines from early (dark) to late (bright) that end
        in an arrow.
    """
    panels = _make_panels(projection, [(title, []) for title in tracks])
    limits = float(times.min()), float(times.max())
    gray = rgb_of([OTHERS_GRAY]).repeat(len(projection.points), axis=0)
    for panel, trajectories in zip(panels, tracks.values(), strict=True):
        draw_dots(panel, projection.points, gray, 1.0)
        _draw_trajectories(
            panel,
            [projection.points[trajectory] for trajectory in trajectories],
            [_between(times[trajectory], *limits) for trajectory in trajectories],
        )
        panel.draw_axes()
    _draw_scale(panels[min(len(panels), _count_columns(len(panels))) - 1], limits)
    return panels[0].drawing


def _make_panels(projection: Projection, titles: Sequence[tuple[str, list[Entry]]]) -> list[Panel]:
    """Return the panels of a new drawing, with titles, legends, ticks and labels of the axes."""
    n_columns = _count_columns(len(titles))
    width = (WIDTH - _LEFT) / n_columns - _GAP
    headings = [Heading(title=title, entries=entries, width=width) for title, entries in titles]
    rows = [headings[start : start + n_columns] for start in range(0, len(headings), n_columns)]
    tops = np.cumsum([max(one.height for one in row) + 12 for row in rows]) + np.arange(len(rows)) * (_HEIGHT + _BELOW)
    drawing = Drawing(WIDTH, float(tops[-1]) + _HEIGHT + _BELOW + 6)
    x_range, y_range = (_range(column) for column in projection.points.T)
    panels = []
    for number, heading in enumerate(headings):
        row, column = divmod(number, n_columns)
        panel = Panel(
            drawing=drawing, left=_LEFT + column * (width + _GAP), top=float(tops[row]), width=width, height=_HEIGHT,
            x_range=x_range, y_range=y_range,
        )  # fmt: skip
        heading.draw(drawing, panel.left, panel.top - 6)
        values = ticks(*x_range, 5)
        panel.draw_x_ticks(values, [f"{value:g}" for value in values])
        drawing.text((panel.left + panel.right) / 2, panel.bottom + 40, projection.axes[0], anchor="middle", size=13)
        if column == 0:
            draw_ticks_of(panel, lambda value: f"{value:g}")
            middle = (panel.top + panel.bottom) / 2
            drawing.text(16, middle, projection.axes[1], anchor="middle", rotate=-90, size=13)
        panels.append(panel)
    return panels


def _count_columns(n_panels: int) -> int:
    return 2 if n_panels in (2, 4) else 3


def _draw_scale(panel: Panel, limits: tuple[float, float]) -> None:
    """Draw the colors of numbers above a panel, on the right, with the numbers at both ends."""
    drawing, y = panel.drawing, panel.top - 20
    last, first = f"{limits[1]:.3g}", f"{limits[0]:.3g}"
    right = panel.right - 9 * len(last)
    drawing.image(right - 80, y, right, y + 9, viridis(np.linspace(0, 1, 128))[None])
    drawing.text(right - 85, y + 9, first, anchor="end", size=13)
    drawing.text(right + 5, y + 9, last, size=13)


def _draw_trajectories(
    panel: Panel, trajectories: Sequence[NDArray[np.float64]], times: Sequence[NDArray[np.float64]]
) -> None:
    """Draw lines through points, each segment in the color of its time, and an arrow at the end of each."""
    starts = np.concatenate([trajectory[:-1] for trajectory in trajectories])
    ends = np.concatenate([trajectory[1:] for trajectory in trajectories])
    middle = np.concatenate([(time[:-1] + time[1:]) / 2 for time in times])
    bins = np.minimum((middle * _N_TIMES).astype(int), _N_TIMES - 1)
    place: Callable = lambda points: (panel.x(points[:, 0]), panel.y(points[:, 1]))  # noqa: E731
    for one in np.unique(bins):
        own = bins == one
        panel.drawing.lines(*place(starts[own]), *place(ends[own]), _hex((one + 0.5) / _N_TIMES), 1.4)
    for trajectory, time in zip(trajectories, times, strict=True):
        _draw_arrow(panel, np.column_stack(place(trajectory)), _hex(float(time[-1])))


def _draw_arrow(panel: Panel, trajectory: NDArray[np.float64], color: str) -> None:
    """Draw the head of an arrow at the end of a trajectory, in the direction of its last movement."""
    moves = np.diff(trajectory, axis=0)
    moved = np.flatnonzero(np.abs(moves).sum(axis=1))
    if not len(moved):
        return
    angle = float(np.arctan2(*moves[moved[-1]][::-1]))
    x, y = trajectory[-1].tolist()
    sides = np.array([angle + np.pi - _ANGLE, angle + np.pi + _ANGLE])
    panel.drawing.lines(x, y, x + _ARROW * np.cos(sides), y + _ARROW * np.sin(sides), color, 2.2)


def _hex(value: float) -> str:
    return "#{:02X}{:02X}{:02X}".format(*viridis(np.array([value]))[0].tolist())


def _between(values: NDArray[np.float64], low: float, high: float) -> NDArray[np.float64]:
    return (values - low) / max(high - low, 1e-9)


def _range(values: NDArray[np.float64]) -> tuple[float, float]:
    """Return the range of values with a margin on both sides."""
    low, high = float(values.min()), float(values.max())
    margin = _MARGIN * (high - low) or 1.0
    return low - margin, high + margin
