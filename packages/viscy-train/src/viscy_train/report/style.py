"""Style: what all figures share: matplotlib settings, the colors of names, labels and legends."""

from __future__ import annotations

import io
import warnings
from typing import TYPE_CHECKING, Any

import matplotlib as mpl
import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from PIL import Image

if TYPE_CHECKING:
    from collections.abc import Mapping

    import pandas as pd
    from matplotlib.axes import Axes

# Experiments and conditions have different palettes; the first six colors suit the common color vision deficiencies.
_EXPERIMENT_COLORS = ["#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#8C6D31"]
_EXPERIMENT_COLORS += ["#D55E00", "#5B4B8A", "#A6BF4B", "#1B3A57", "#F3B6C6", "#7FB7A4"]
_CONDITION_COLORS = ["#7A8794", "#D1495B", "#6A4C93", "#2A9D8F", "#F4A259", "#3D405B"]
_CONDITION_COLORS += ["#B5838D", "#98C1D9", "#606C38", "#FFCB69", "#9D4EDD", "#264653"]
WORLD_COLORS = _EXPERIMENT_COLORS
"""Colors of the worlds of a study."""
MAX_COLORS = 12
OTHERS_GRAY = "#CBD2D9"
_MAX_LABEL = 24
# Characters that fit above a panel, and those that a patch and the space around it take.
_LEGEND_ROW, _PATCH = 110, 5
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


def experiment_colors(anchors: pd.DataFrame) -> dict[str, str]:
    """Return the color of each experiment, in the table's order; if there are more than twelve, the rarest are gray."""
    return _colors(anchors["experiment"], _EXPERIMENT_COLORS)


def condition_colors(anchors: pd.DataFrame) -> dict[str, str]:
    """Return the color of each condition, in the table's order; if there are more than twelve, the rarest are gray."""
    return _colors(anchors["condition"], _CONDITION_COLORS)


def new_figure(width: float, height: float) -> Figure:
    """Return a figure without a window."""
    figure = Figure(figsize=(width, height))
    FigureCanvasAgg(figure)
    return figure


def _colors(column: pd.Series, palette: list[str]) -> dict[str, str]:
    names = column.unique().tolist()
    colored = names
    if len(names) > MAX_COLORS:
        most_frequent = set(column.value_counts().index[: MAX_COLORS - 1])
        colored = [name for name in names if name in most_frequent]
    color = dict(zip(colored, palette, strict=False))
    return {name: color.get(name, OTHERS_GRAY) for name in names}


def label_of(name: object, max_length: int = _MAX_LABEL) -> str:
    """Return a name as a label: shortened, on one line, and with a first character that matplotlib does not ignore."""
    text = " ".join(str(name).split())
    text = text if len(text) <= max_length else f"{text[: max_length - 1]}…"
    return f" {text}" if text.startswith("_") else text


def named_colors(colors: Mapping[str, str]) -> dict[str, str]:
    """Return the labels and colors of a legend; all gray names become one entry."""
    named = {label_of(name): color for name, color in colors.items() if color != OTHERS_GRAY}
    n_others = sum(color == OTHERS_GRAY for color in colors.values())
    return named | ({f"and {n_others} more": OTHERS_GRAY} if n_others else {})


def percent(share: float, _: float) -> str:
    """Format a share as a tick label; matplotlib also passes the position of the tick."""
    return f"{round(100 * share, 2):g}%"


def legend_of_patches(axes: Axes, colors: Mapping[str, str], *, with_target: bool = False) -> None:
    """Put a legend of colored patches above a panel, below its title unless it fits next to it."""
    named = named_colors(colors)
    handles: list[Any] = [Patch(color=color, label=name) for name, color in named.items()]
    if with_target:
        handles.append(Line2D([], [], color="black", linewidth=1.1, linestyle=(0, (2, 1)), label="target"))
    n_characters = sum(len(handle.get_label()) + _PATCH for handle in handles)
    small: dict[str, Any] = {"fontsize": 9, "columnspacing": 1.0} if n_characters > 85 else {}
    n_rows = -(-n_characters // _LEGEND_ROW)
    ncols = -(-len(handles) // n_rows)
    axes.legend(handles=handles, ncols=ncols, loc="lower right", bbox_to_anchor=(1, 0.98), handlelength=1.2, **small)
    title = axes.get_title(loc="left")
    if n_characters + len(title) > _LEGEND_ROW - _PATCH:
        axes.set_title(title, pad=10 + 15 * n_rows)


def legend_of_dots(axes: Axes, colors: dict[str, str]) -> None:
    """Put a legend of colored dots below a panel."""
    named = named_colors(colors)
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
