"""Drawing: shapes, images and text as an SVG picture, which a page embeds.

The figures that `viscy-train inspect` shows are drawn so, because importing matplotlib and drawing with it takes longer
than everything else that the command does on a small project.
"""

from __future__ import annotations

import base64
import re
import unicodedata
from html import escape
from io import BytesIO
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

WIDTH = 1050
"""Width of the figures of a page, in the unit of all coordinates, which is about a pixel of a page."""
SIZE = 14
"""Height of letters, in the same unit."""
INK = "#1f2933"
LINE_HEIGHT = 1.25
_FONT = "Helvetica Neue, Arial, DejaVu Sans, sans-serif"
# Widths of characters over the height of letters: a little more than those of the fonts above.
_NARROW, _WIDE = 0.6, 1.05
# What XML 1.0 does not allow, even escaped.
_NO_XML = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


class Drawing:
    """A picture to which shapes are added; later ones cover earlier ones.

    Parameters
    ----------
    width, height : float
        Size. The origin is the upper left corner, and y grows downwards.
    """

    def __init__(self, width: float, height: float) -> None:
        self.width, self.height = width, height
        self._elements: list[str] = []

    def rectangles(
        self, left: ArrayLike, top: ArrayLike, right: ArrayLike, bottom: ArrayLike, fill: str, edge: str | None = None
    ) -> None:
        """Add rectangles of one color as one element, each side given as an array or a number."""
        sides = np.broadcast_arrays(*(np.asarray(side, dtype=float) for side in (left, top, right, bottom)))
        corners = np.stack([side.ravel() for side in sides], axis=1).round(1).tolist()
        path = "".join(f"M{x0:g} {y0:g}H{x1:g}V{y1:g}H{x0:g}Z" for x0, y0, x1, y1 in corners)
        stroke = f' stroke="{edge}" stroke-width="2"' if edge else ""
        self._add(f'<path d="{path}" fill="{fill}"{stroke}/>')

    def area(self, x: NDArray[np.float64], low: NDArray[np.float64], high: NDArray[np.float64], fill: str) -> None:
        """Add the area between two curves of steps; the first has a value from each x to the next one."""
        edges = np.repeat(x, 2)[1:-1]
        points = [*zip(edges, np.repeat(high, 2), strict=True)]
        points += reversed([*zip(edges, np.repeat(low, 2), strict=True)])
        path = "L".join(f"{x:.1f} {y:.1f}" for x, y in points)
        # Otherwise, a seam would shine through between two areas.
        self._add(f'<path d="M{path}Z" fill="{fill}" shape-rendering="crispEdges"/>')

    def lines(
        self,
        x0: ArrayLike,
        y0: ArrayLike,
        x1: ArrayLike,
        y1: ArrayLike,
        color: str = INK,
        width: float = 1.0,
        *,
        dashed: bool = False,
    ) -> None:
        """Add lines of one color as one element, each end given as arrays or numbers."""
        ends = np.broadcast_arrays(*(np.asarray(end, dtype=float) for end in (x0, y0, x1, y1)))
        both = np.stack([end.ravel() for end in ends], axis=1).round(1).tolist()
        path = "".join(f"M{x0:g} {y0:g}L{x1:g} {y1:g}" for x0, y0, x1, y1 in both)
        dashes = ' stroke-dasharray="3 1.5"' if dashed else ""
        self._add(f'<path d="{path}" stroke="{color}" stroke-width="{width:g}"{dashes} fill="none"/>')

    def circles(self, x: ArrayLike, y: ArrayLike, radius: float, colors: list[str], *, filled: bool = True) -> None:
        """Add circles, each of its own color, as disks or as rings."""
        centers = np.broadcast_arrays(np.asarray(x, dtype=float), np.asarray(y, dtype=float))
        for (cx, cy), color in zip(np.stack(centers, axis=-1).reshape(-1, 2).tolist(), colors, strict=True):
            paint = f'fill="{color}"' if filled else f'fill="none" stroke="{color}" stroke-width="2"'
            self._add(f'<circle cx="{cx:.1f}" cy="{cy:.1f}" r="{radius:g}" {paint}/>')

    def image(self, left: float, top: float, right: float, bottom: float, pixels: NDArray[np.uint8]) -> None:
        """Add an image, shape (n_rows, n_columns, 3), whose pixels become rectangles of the given total size."""
        png = base64.b64encode(_png_of(pixels)).decode("ascii")
        self._add(
            f'<image x="{left:g}" y="{top:g}" width="{right - left:g}" height="{bottom - top:g}" '
            f'preserveAspectRatio="none" image-rendering="pixelated" href="data:image/png;base64,{png}"/>'
        )

    def text(
        self,
        x: float,
        y: float,
        text: str,
        *,
        anchor: str = "start",
        size: float = SIZE,
        rotate: float = 0,
    ) -> None:
        """Add text, whose lines are one below the other.

        Parameters
        ----------
        x, y : float
            A point of the base line of the first line.
        text : str
            The text.
        anchor : {"start", "middle", "end"}
            Where this point is in a line.
        size : float
            Height of letters.
        rotate : float
            Degrees by which the text is turned clockwise around the point.
        """
        turn = f' transform="rotate({rotate:g} {x:.1f} {y:.1f})"' if rotate else ""
        lines = [escape(_NO_XML.sub("", line)) for line in text.split("\n")]
        content = lines[0]
        for line in lines[1:]:
            content += f'<tspan x="{x:.1f}" dy="{LINE_HEIGHT * size:g}">{line}</tspan>'
        end = "" if anchor == "start" else f' text-anchor="{anchor}"'
        height = "" if size == SIZE else f' font-size="{size:g}"'
        self._add(f'<text x="{x:.1f}" y="{y:.1f}"{end}{height}{turn} xml:space="preserve">{content}</text>')

    def _add(self, element: str) -> None:
        self._elements.append(element)

    @property
    def svg(self) -> str:
        """The picture as an SVG document."""
        return (
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {self.width:g} {self.height:g}" '
            f'width="{self.width:g}" height="{self.height:g}" font-family="{_FONT}" font-size="{SIZE}" fill="{INK}">'
            f'<rect width="100%" height="100%" fill="white"/>{"".join(self._elements)}</svg>'
        )


def text_width(text: str, size: float = SIZE) -> float:
    """Return about the width of a text, of its longest line, and rather more than less."""
    widths = (
        [_WIDE if unicodedata.east_asian_width(one) in "WF" else _NARROW for one in line] for line in text.split("\n")
    )
    return size * max(map(sum, widths))


def _png_of(pixels: NDArray[np.uint8]) -> bytes:
    """Return an image of RGB values as a PNG file."""
    from PIL import Image  # imported only by drawings that have images

    file = BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    return file.getvalue()
