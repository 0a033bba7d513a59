"""Panel: a rectangle of a drawing with two axes, a title and a legend."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from viscy_train.report.drawing import LINE_HEIGHT, SIZE, Drawing, text_width

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray

_TICK, _SPACE = 4, 4
_MARK, _BETWEEN = 18, 16
_ROW = 20
_SMALL = 13


@dataclass(frozen=True)
class Entry:
    """An entry of a legend.

    Parameters
    ----------
    label : str
        The text.
    color : str
        Color of its mark.
    mark : {"patch", "outline", "line", "dashes", "disk", "ring", "tick"}
        Kind of its mark.
    """

    label: str
    color: str
    mark: str = "patch"

    @property
    def width(self) -> float:
        """About how wide it is, in the unit of a drawing."""
        return _MARK + 6 + text_width(self.label, _SMALL) + _BETWEEN


@dataclass(frozen=True, kw_only=True)
class Heading:
    """What is above a panel: a title, and a legend next to it, or below it if it does not fit.

    Parameters
    ----------
    title : str
        The title, which may be empty.
    entries : sequence of Entry
        The legend.
    width : float
        How much space there is.
    """

    title: str = ""
    entries: Sequence[Entry] = ()
    width: float = math.inf

    @property
    def rows(self) -> list[list[Entry]]:
        """The entries of each row of the legend."""
        rows: list[list[Entry]] = []
        left = 0.0
        for entry in self.entries:
            if not rows or left < entry.width:
                rows.append([])
                left = self.width
            rows[-1].append(entry)
            left -= entry.width
        return rows

    @property
    def shares_a_row(self) -> bool:
        """Whether the title is next to the first row of the legend."""
        return not self.rows or text_width(self.title) + _width(self.rows[0]) + _BETWEEN <= self.width

    @property
    def height(self) -> float:
        """How much space it takes."""
        n_rows = max(len(self.rows), 1) + (bool(self.title) and not self.shares_a_row)
        return _ROW * n_rows if self.title or self.entries else 0

    def draw(self, drawing: Drawing, left: float, bottom: float) -> None:
        """Draw it into a picture, above a height."""
        top = bottom - self.height
        if self.title:
            drawing.text(left, top + SIZE, self.title, size=15)
        first = top + (_ROW if self.title and not self.shares_a_row else 0)
        for number, row in enumerate(self.rows):
            x = left + self.width - _width(row) + _BETWEEN
            for entry in row:
                _draw_entry(drawing, x, first + number * _ROW + _ROW / 2 - 1, entry)
                x += entry.width


def _width(row: Sequence[Entry]) -> float:
    return sum(entry.width for entry in row)


def _draw_entry(drawing: Drawing, x: float, y: float, entry: Entry) -> None:
    right, middle = x + _MARK, x + _MARK / 2
    if entry.mark in ("patch", "outline"):
        is_filled = entry.mark == "patch"
        drawing.rectangles(x, y - 4.5, right, y + 4.5, *([entry.color] if is_filled else ["white", entry.color]))
    elif entry.mark in ("line", "dashes"):
        drawing.lines(x, y, right, y, entry.color, 1.5, dashed=entry.mark == "dashes")
    elif entry.mark == "tick":
        drawing.lines(middle, y - 5, middle, y + 5, entry.color, 2.5)
    else:
        is_filled = entry.mark == "disk"
        drawing.circles(middle, y, 3.5 if is_filled else 6, [entry.color], filled=is_filled)
    drawing.text(right + 6, y + 4.5, entry.label, size=_SMALL)


@dataclass(frozen=True, kw_only=True)
class Panel:
    """A rectangle of a drawing, and the values at its edges.

    Parameters
    ----------
    drawing : Drawing
        The picture.
    left, top, width, height : float
        The rectangle.
    x_range, y_range : tuple of float
        Values at the left and the right edge, and at the lower and the upper edge.
    """

    drawing: Drawing
    left: float
    top: float
    width: float
    height: float
    x_range: tuple[float, float]
    y_range: tuple[float, float]
    bottom: float = field(init=False)
    right: float = field(init=False)

    def __post_init__(self) -> None:
        """Compute the other edges."""
        object.__setattr__(self, "bottom", self.top + self.height)
        object.__setattr__(self, "right", self.left + self.width)

    def x(self, values: Any) -> Any:
        """Return the coordinates of values along x."""
        low, high = self.x_range
        return self.left + (np.asarray(values, dtype=float) - low) * (self.width / (high - low))

    def y(self, values: Any) -> Any:
        """Return the coordinates of values along y."""
        low, high = self.y_range
        return self.bottom - (np.asarray(values, dtype=float) - low) * (self.height / (high - low))

    def bars(
        self, x: NDArray[Any], low: Any, high: Any, color: str, width: float = 0.92, edge: str | None = None
    ) -> None:
        """Draw bars around x, from one height to another."""
        reach = width / 2
        self.drawing.rectangles(self.x(x - reach), self.y(high), self.x(x + reach), self.y(low), color, edge)

    def draw_axes(self, x_label: str = "", y_label: str = "", *, space: float = 46) -> None:
        """Draw the lower and the left edge, and labels of both, the left one at a distance."""
        self.drawing.lines(
            [self.left, self.left], [self.top, self.bottom], [self.left, self.right], [self.bottom, self.bottom]
        )
        if x_label:
            self.drawing.text((self.left + self.right) / 2, self.bottom + space, x_label, anchor="middle")
        if y_label:
            middle = (self.top + self.bottom) / 2
            self.drawing.text(self.left - 54, middle, y_label, anchor="middle", rotate=-90)

    def draw_y_ticks(self, values: Sequence[float], labels: Sequence[str], size: float = _SMALL) -> None:
        """Draw marks and labels at values of the left edge."""
        heights = self.y(list(values))
        self.drawing.lines(self.left - _TICK, heights, self.left, heights)
        for y, label in zip(heights.tolist(), labels, strict=True):
            self.drawing.text(self.left - _TICK - _SPACE, y + 0.36 * size, label, anchor="end", size=size)

    def draw_x_ticks(
        self, values: Sequence[float], labels: Sequence[str], *, rotate: float = 0, anchor: str = "middle"
    ) -> None:
        """Draw marks and labels at values of the lower edge; labels that are turned end there."""
        places = self.x(list(values))
        self.drawing.lines(places, self.bottom, places, self.bottom + _TICK)
        for x, label in zip(places.tolist(), labels, strict=True):
            y = self.bottom + _TICK + (SIZE if not rotate else 10)
            self.drawing.text(x, y, label, anchor="end" if rotate else anchor, size=_SMALL, rotate=rotate)


def height_of_labels(labels: Sequence[str], rotate: float = 0) -> float:
    """Return how much space labels below a panel take."""
    angle = math.radians(abs(rotate))
    length = max(map(text_width, labels))
    n_lines = max(label.count("\n") for label in labels) + 1
    return _TICK + 6 + length * math.sin(angle) + LINE_HEIGHT * _SMALL * n_lines * math.cos(angle)


def ticks(low: float, high: float, at_most: int = 6) -> list[float]:
    """Return round values between two values, evenly spaced by 1, 2 or 5 times a power of ten."""
    rough = max((high - low) / at_most, 1e-12)
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(factor * power for factor in (1, 2, 5, 10) if factor * power >= rough * (1 - 1e-9))
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    return [round(number * step, 12) for number in range(first, last + 1)]


def draw_ticks_of(panel: Panel, label: Callable[[float], str], at_most: int = 6) -> None:
    """Draw round values at the left edge of a panel."""
    values = ticks(*panel.y_range, at_most)
    panel.draw_y_ticks(values, [label(value) for value in values])
