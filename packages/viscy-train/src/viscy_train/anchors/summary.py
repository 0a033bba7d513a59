"""Index view: what an anchor table holds, and what was left out of it, on a terminal."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from rich.text import Text

from viscy_train.console import make_table

if TYPE_CHECKING:
    from rich.console import Console

    from viscy_train.anchors.table import AnchorTable


def describe(table: AnchorTable, console: Console) -> None:
    """Show what a table holds, and what was left out of it.

    Parameters
    ----------
    table : AnchorTable
        The cells.
    console : rich.console.Console
        Where to.
    """
    shown = make_table(["experiment", "condition"], ["positions", "tracks", "divided", "cells", "anchors", "hours"])
    parts: Any = table.observations.groupby(["experiment", "condition"], observed=True, sort=False)
    for (experiment, condition), cells in parts:
        tracks = cells.drop_duplicates(["position", "track_id"])
        daughters = (
            tracks[tracks["parent_track_id"] >= 0].groupby(["position", "parent_track_id"], observed=True).size()
        )
        hours = cells["hours_post_infection"]
        counts = [
            cells["position"].nunique(),
            len(tracks),
            int((daughters > 1).sum()),
            len(cells),
            int(cells["has_positive"].sum()),
        ]
        span = f"{hours.min():.4g} to {hours.max():.4g}"
        shown.add_row(Text(str(experiment)), Text(str(condition)), *(f"{count:,}" for count in counts), span)
    console.print(shown)
    for experiment in table.experiments:
        for channel, (_, deviation) in zip(experiment.channels, table.brightness[experiment.name], strict=True):
            if not deviation:
                note = f"Note: channel {channel!r} of {experiment.name!r} is the same everywhere"
                console.print(note, highlight=False, soft_wrap=True, markup=False)
    if not table.dropped:
        return
    lost = make_table(["experiment", "condition"], ["cells"], sentence="no anchors")
    for one in table.dropped:
        lost.add_row(Text(one["experiment"]), Text(one["condition"]), one["reason"], f"{one['cells']:,}")
    console.print(lost)
