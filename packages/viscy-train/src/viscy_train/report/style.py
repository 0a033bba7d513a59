"""Drawing: what all pictures share: their style, the colours of names, labels and legends."""

from __future__ import annotations

import io
import warnings
from typing import TYPE_CHECKING, Any

import matplotlib as mpl
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

if TYPE_CHECKING:
    from collections.abc import Mapping

    import pandas as pd
    from matplotlib.axes import Axes

# Experiments and conditions have hues of their own, the first six told apart with the common colour blindnesses.
_EXPERIMENT_COLORS = ["#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#8C6D31"]
_EXPERIMENT_COLORS += ["#D55E00", "#5B4B8A", "#A6BF4B", "#1B3A57", "#F3B6C6", "#7FB7A4"]
_CONDITION_COLORS = ["#7A8794", "#D1495B", "#6A4C93", "#2A9D8F", "#F4A259", "#3D405B"]
_CONDITION_COLORS += ["#B5838D", "#98C1D9", "#606C38", "#FFCB69", "#9D4EDD", "#264653"]
MOST_NAMES = 12
OTHERS_GREY = "#CBD2D9"
_LONGEST_NAME = 24
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
WIDTH = 10.5


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


def new_figure(width: float, height: float) -> Figure:
    """Return a figure that belongs to no window."""
    figure = Figure(figsize=(width, height))
    FigureCanvasAgg(figure)
    return figure


def _colors(column: pd.Series, palette: list[str]) -> dict[str, str]:
    names = column.unique().tolist()
    own = names
    if len(names) > MOST_NAMES:
        most = set(column.value_counts().index[: MOST_NAMES - 1])
        own = [name for name in names if name in most]
    hue = dict(zip(own, palette, strict=False))
    return {name: hue.get(name, OTHERS_GREY) for name in names}


def label_of(name: object, longest: int = _LONGEST_NAME) -> str:
    """Return a name as a label: short, in one line, and none that matplotlib leaves out for its first character."""
    text = " ".join(str(name).split())
    text = text if len(text) <= longest else f"{text[: longest - 1]}…"
    return f" {text}" if text.startswith("_") else text


def named_colors(colors: Mapping[str, str]) -> dict[str, str]:
    """Return the labels of a legend and their colours; those that are grey become one."""
    own = {label_of(name): color for name, color in colors.items() if color != OTHERS_GREY}
    n_others = sum(color == OTHERS_GREY for color in colors.values())
    return own | ({f"and {n_others} more": OTHERS_GREY} if n_others else {})


def percent(share: float, _: float) -> str:
    """Return a share as the label of a tick, as matplotlib asks for it."""
    return f"{share:.0%}"


def legend_of_patches(axes: Axes, colors: Mapping[str, str], *, with_dashes: bool = False) -> None:
    """Put a legend of coloured patches over a panel, smaller where there are many names."""
    named = named_colors(colors)
    handles: list[Any] = [Patch(color=color, label=name) for name, color in named.items()]
    if with_dashes:
        handles.append(Line2D([], [], color="black", linewidth=1.1, linestyle=(0, (2, 1)), label="asked for"))
    letters = sum(len(name) + 5 for name in named)
    small: dict[str, Any] = {"fontsize": 9, "columnspacing": 1.0} if letters > 85 else {}
    ncols = len(handles) if letters <= 110 else -(-len(handles) // 2)
    axes.legend(handles=handles, ncols=ncols, loc="lower right", bbox_to_anchor=(1, 0.98), handlelength=1.2, **small)


def legend_of_dots(axes: Axes, colors: dict[str, str]) -> None:
    """Put a legend of coloured dots under a panel."""
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
