"""Palette: the colors of names in all figures, and names as labels."""

from __future__ import annotations

from typing import TYPE_CHECKING

from viscy_train.palette import CONDITION_COLORS, EXPERIMENT_COLORS

if TYPE_CHECKING:
    from collections.abc import Mapping

    import pandas as pd

WORLD_COLORS = EXPERIMENT_COLORS
"""Colors of the worlds of a study."""
MAX_COLORS = 12
OTHERS_GRAY = "#CBD2D9"
_MAX_LABEL = 24


def experiment_colors(anchors: pd.DataFrame) -> dict[str, str]:
    """Return the color of each experiment, in the table's order; if there are more than twelve, the rarest are gray."""
    return _colors(anchors["experiment"], EXPERIMENT_COLORS)


def condition_colors(anchors: pd.DataFrame) -> dict[str, str]:
    """Return the color of each condition, in the table's order; if there are more than twelve, the rarest are gray."""
    return _colors(anchors["condition"], CONDITION_COLORS)


def category_colors(column: pd.Series) -> dict[str, str]:
    """Return the color of each value of a column of names, such as wells; of more than twelve, the rarest are gray."""
    return _colors(column, EXPERIMENT_COLORS)


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


def percent(share: float, _: float = 0) -> str:
    """Format a share as a tick label; matplotlib also passes the position of the tick."""
    return f"{round(100 * share, 2):g}%"
