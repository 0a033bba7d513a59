"""Canvas: text, gray images and small plots on one picture, drawn with Pillow, imported sooner than matplotlib.

The font is the one that matplotlib comes with, which is found without importing it.
"""

from __future__ import annotations

import importlib.util
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image, ImageColor, ImageDraw, ImageFont

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray

INK, GRAY, FAINT, PAPER = 34, 92, 221, 255
"""Gray values of text, of less important text and lines, of surfaces, and of what nothing is drawn on."""
# Grays of the finished picture; its other values are colors.
_GRAYS = 192
# Histograms are drawn this many times larger, and then made smaller, so that bars end between pixels.
_SMOOTH = 3

type Box = tuple[int, int, int, int]


class Canvas:
    """A white picture of grays, on which colored shapes are drawn when it is finished.

    Parameters
    ----------
    width, height : int
        Its size, in pixels.

    Notes
    -----
    So it has one byte a pixel throughout, which takes a third of the time and of the bytes of a colored picture.
    """

    def __init__(self, width: int, height: int) -> None:
        self._grays = Image.new("L", (width, height), PAPER)
        self._draw = ImageDraw.Draw(self._grays)
        self._colors: dict[str, int] = {}
        self._shapes: list[Callable[[Any], None]] = []

    def text(
        self, x: float, y: float, text: str, *, size: int = 13, gray: int = INK, bold: bool = False, anchor: str = "la"
    ) -> None:
        """Write a line of text.

        Parameters
        ----------
        x, y : float
            Where it begins.
        text : str
            The text.
        size : int
            Height of the letters, in pixels.
        gray : int
            Its gray value.
        bold : bool
            Whether it is bold.
        anchor : str
            What of the text is at `x` and `y`, as in Pillow: by default, its left end and its top.
        """
        self._draw.text((x, y), text, font=_font(size, bold), fill=gray, anchor=anchor)

    def surface(self, box: Box, gray: int) -> None:
        """Fill a box (left, top, right, bottom), its last pixels included."""
        self._draw.rectangle(box, fill=gray)

    def pixels(self, left: int, top: int, pixels: NDArray[np.uint8]) -> None:
        """Paste a gray image, shape (height, width)."""
        self._grays.paste(Image.fromarray(pixels), (left, top))

    def bars(self, box: Box, heights: NDArray[np.float64], gray: int) -> None:
        """Draw a histogram of bars, whose heights are parts of that of the box."""
        width, height = (_SMOOTH * (end - begin) for begin, end in zip(box[:2], box[2:], strict=True))
        plot = Image.new("L", (width, height), PAPER)
        draw = ImageDraw.Draw(plot)
        edges = np.linspace(0, width, len(heights) + 1).tolist()
        for first, last, part in zip(edges[:-1], edges[1:], heights.tolist(), strict=True):
            if part > 0:
                draw.rectangle((first, height * (1 - part), last, height), fill=gray)
        self._grays.paste(plot.resize((box[2] - box[0], box[3] - box[1]), Image.Resampling.BOX), box[:2])

    def frame(self, box: Box, color: str, width: int = 2) -> None:
        """Draw the outline of a box in a color; a box without a pixel is drawn as one of a pixel."""
        index = self._index(color)
        box = (*box[:2], max(box[0], box[2]), max(box[1], box[3]))
        self._shapes.append(lambda draw: draw.rectangle(box, outline=index, width=width))

    def patch(self, box: Box, color: str) -> None:
        """Fill a box with a color."""
        index = self._index(color)
        self._shapes.append(lambda draw: draw.rectangle(box, fill=index))

    def dots(self, points: NDArray[np.float64], color: str, reach: int = 1) -> None:
        """Draw dots at points x, y, shape (n, 2), and so many pixels around them."""
        for x, y in np.floor(points).astype(int).tolist():
            self.patch((x - reach, y - reach, x + reach, y + reach), color)

    def curve(self, box: Box, x: NDArray[np.float64], y: NDArray[np.float64], color: str) -> None:
        """Draw a curve, given x and y as parts of the width and height of a box, shape (n,) each."""
        left, top, right, bottom = box
        points = [(left + a * (right - left), bottom - 2 - b * (bottom - 2 - top)) for a, b in zip(x, y, strict=True)]
        if len(points) == 1:
            self.dots(np.array(points), color)
            return
        index = self._index(color)
        # Pillow draws a line of width 2 thinner where it rises.
        for shift in (0, 1):
            moved = [(a, b + shift) for a, b in points]
            self._shapes.append(lambda draw, moved=moved: draw.line(moved, fill=index))

    def finished(self) -> Image.Image:
        """Return the picture, with a palette."""
        image = self._grays.point([round(gray * (_GRAYS - 1) / 255) for gray in range(256)])
        image.putpalette([part for gray in range(_GRAYS) for part in 3 * [round(gray * 255 / (_GRAYS - 1))]])
        palette = image.getpalette() or []
        for color in self._colors:
            palette += ImageColor.getrgb(color)
        image.putpalette(palette)
        draw = ImageDraw.Draw(image)
        for shape in self._shapes:
            shape(draw)
        return image

    def _index(self, color: str) -> int:
        """Return the number of a color in the palette."""
        return self._colors.setdefault(color, _GRAYS + len(self._colors))


def width_of(text: str, size: int = 13, *, bold: bool = False) -> float:
    """Return the width of a line of text, in pixels."""
    return _font(size, bold).getlength(text)


def fitted(text: str, width: float, size: int = 13, *, bold: bool = False) -> str:
    """Return a text on one line, cut so that it is not wider than a number of pixels."""
    text = " ".join(text.split())
    if width_of(text, size, bold=bold) <= width:
        return text
    n = len(text)
    while n and width_of(f"{text[:n]}…", size, bold=bold) > width:
        n -= 1
    return f"{text[:n].rstrip()}…"


def lines_of(text: str, width: float, most: int, size: int = 13, *, bold: bool = False) -> list[str]:
    """Return a text in lines that are not wider than a number of pixels, at most so many; the last one may be cut."""
    words, lines = text.split(), [""]
    for number, word in enumerate(words):
        longer = f"{lines[-1]} {word}".strip()
        if not lines[-1] or width_of(longer, size, bold=bold) <= width:
            lines[-1] = longer
        elif len(lines) < most:
            lines.append(word)
        else:
            lines[-1] = " ".join([lines[-1], *words[number:]])
            break
    return [fitted(line, width, size, bold=bold) for line in lines]


def wrapped(words: Sequence[str], width: float, most: int, size: int = 13) -> list[str]:
    """Return some words in lines that are not wider than a number of pixels, at most so many lines.

    If they do not fit, the last line ends in the number of words that are missing.
    """
    lines: list[str] = []
    line: list[str] = []
    for number, word in enumerate(words):
        left = len(words) - number
        is_last = len(lines) == most - 1
        more = f" and {left} more" if is_last and left > 1 else ""
        if line and width_of(f"{'; '.join([*line, word])};{more}", size) > width:
            if is_last:
                return [*lines, f"{'; '.join(line)} and {left} more"]
            lines, line = [*lines, f"{'; '.join(line)};"], []
        line.append(fitted(word, width - width_of(" and 1,000,000 more", size), size))
    return [*lines, "; ".join(line)] if line else lines


@cache
def _font(size: int, bold: bool) -> Any:
    found = importlib.util.find_spec("matplotlib")
    folders = [] if found is None else list(found.submodule_search_locations or [])
    name = "DejaVuSans-Bold.ttf" if bold else "DejaVuSans.ttf"
    for folder in folders:
        path = Path(folder, "mpl-data", "fonts", "ttf", name)
        if path.is_file():
            return ImageFont.truetype(str(path), size)
    return ImageFont.load_default(size)
