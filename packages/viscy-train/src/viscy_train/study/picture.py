"""Picture: the paired differences of each arm to plain shuffling, with intervals, for every judged measure."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import matplotlib as mpl
import numpy as np
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from viscy_train.report.palette import OTHERS_GRAY, WORLD_COLORS, label_of
from viscy_train.report.style import WIDTH, new_figure, style
from viscy_train.study.arms import BASELINE, REFERENCES
from viscy_train.study.measures import MEASURES
from viscy_train.study.outcome import JUDGED

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# Of the space between two arms, the part that their points take.
_SPREAD = 0.7
_MAX_TICKS = 4
_DARK = "#52606D"
_INCHES_PER_ARM, _INCHES_AROUND = 0.62, 1.5


def plot_differences(summary: pd.DataFrame) -> Figure:
    """Plot the differences of a study.

    Parameters
    ----------
    summary : pandas.DataFrame
        Columns `viscy_train.study.results.SUMMARY_COLUMNS`.

    Returns
    -------
    matplotlib.figure.Figure
        A panel for each judged measure, with a row for each arm and a color for each world: the mean paired difference
        and its 95 % interval. A point is filled where the interval excludes 0. A gray band has the differences that are
        too small to matter.
    """
    compared = summary[~summary["arm"].isin([BASELINE, *REFERENCES]) & summary["difference"].notna()]
    arms, worlds = (list(dict.fromkeys(compared[name])) for name in ("arm", "world"))
    colors = {world: WORLD_COLORS[number % len(WORLD_COLORS)] for number, world in enumerate(worlds)}
    with mpl.rc_context(style()):
        figure = new_figure(WIDTH, _INCHES_AROUND + _INCHES_PER_ARM * max(len(arms), 1))
        panels = np.atleast_1d(figure.subplots(1, len(JUDGED), sharey=True))
        for axes, name in zip(panels, JUDGED, strict=True):
            _plot_measure(axes, compared[compared["measure"] == name], arms, colors)
            axes.set(title=MEASURES[name].label, xlabel="difference to plain (right: better)")
            axes.xaxis.set_major_locator(MaxNLocator(_MAX_TICKS, min_n_ticks=3))
            _mark_threshold(axes, MEASURES[name].threshold or 0.0)
        panels[0].set_yticks(range(len(arms)), [label_of(arm) for arm in arms])
        panels[0].set_ylim(len(arms) - 0.5, -0.5)
        n = compared.groupby("world", sort=False)["n"].max()
        handles = [_line(color, label=f"{label_of(world)} (n = {n[world]})") for world, color in colors.items()]
        handles += [_dot("interval excludes 0", filled=True), _dot("interval includes 0", filled=False)]
        figure.legend(handles=handles, loc="outside lower center", ncols=4)
    return figure


def _plot_measure(axes: Axes, rows: pd.DataFrame, arms: list[str], colors: dict[str, str]) -> None:
    offsets = _SPREAD * (np.arange(len(colors)) - (len(colors) - 1) / 2) / max(len(colors), 1)
    places = dict(zip(colors, offsets, strict=True))
    for row in rows.to_dict("records"):
        height, color = arms.index(row["arm"]) + places[row["world"]], colors[row["world"]]
        excludes_0 = row["low"] > 0 or row["high"] < 0
        if not np.isnan(row["low"]):
            axes.plot([row["low"], row["high"]], [height, height], color=color, linewidth=1.6, solid_capstyle="butt")
        face = color if excludes_0 else "white"
        axes.plot(row["difference"], height, "o", color=color, markerfacecolor=face, markersize=5)
    if rows.empty:
        axes.text(0.5, 0.5, "not measured", transform=axes.transAxes, ha="center", va="center", color=_DARK)
    for edge in range(1, len(arms)):
        axes.axhline(edge - 0.5, color=OTHERS_GRAY, linewidth=0.6)


def _mark_threshold(axes: Axes, threshold: float) -> None:
    axes.axvspan(-threshold, threshold, color=OTHERS_GRAY, alpha=0.45, linewidth=0, zorder=0)
    axes.axvline(0, color=_DARK, linewidth=0.8, zorder=1)


def _line(color: str, label: str) -> Any:
    return Line2D([], [], color=color, linewidth=3, label=label)


def _dot(label: str, *, filled: bool) -> Any:
    face = _DARK if filled else "white"
    return Line2D([], [], color=_DARK, marker="o", markerfacecolor=face, linewidth=0, markersize=5, label=label)
