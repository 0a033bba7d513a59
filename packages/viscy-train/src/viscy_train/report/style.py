"""Style: what all figures of matplotlib share: settings, legends, and how they become PNG files."""

from __future__ import annotations

import io
import warnings
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from PIL import Image

_STYLE: Any = {
    "font.size": 11,
    "axes.titlesize": 12,
    "axes.titlelocation": "left",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "legend.frameon": False,
    "figure.constrained_layout.use": True,
    # Names come from the user and may contain dollar signs.
    "text.parse_math": False,
}
WIDTH = 10.5
# Of PNG files, from 0 to 9. More takes twice the time for a tenth less.
_COMPRESSION = 3


def png_of(figure: Figure, dots_per_inch: int) -> bytes:
    """Return a figure as the bytes of a PNG file."""
    png = io.BytesIO()
    with mpl.rc_context(_STYLE), warnings.catch_warnings():
        # A name may contain characters that the font lacks; the tables of the page show them.
        warnings.filterwarnings("ignore", message="Glyph .* missing from font")
        figure.set_dpi(dots_per_inch)
        canvas = FigureCanvasAgg(figure)
        canvas.draw()  # once; `savefig` draws for the layout first, and again for the pixels
    pixels = Image.fromarray(np.asarray(canvas.buffer_rgba())).convert("RGB")
    pixels.save(png, "PNG", compress_level=_COMPRESSION)
    return png.getvalue()


def style() -> Any:
    """Return the matplotlib settings of all figures."""
    return _STYLE


def new_figure(width: float, height: float) -> Figure:
    """Return a figure without a window."""
    figure = Figure(figsize=(width, height))
    FigureCanvasAgg(figure)
    return figure
