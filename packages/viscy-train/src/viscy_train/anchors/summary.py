"""Summary: what an anchor table contains and what was excluded from it, printed to a terminal."""

from __future__ import annotations

from itertools import islice
from typing import TYPE_CHECKING, Any

from rich.text import Text

from viscy_train.console import MAX_ROWS, get_console, make_table
from viscy_train.experiments.typed_columns import shown

if TYPE_CHECKING:
    from rich.console import Console

    from viscy_train.anchors.table import AnchorTable

_MAX_EXAMPLES, _MAX_LENGTH = 3, 20
# Headings of a table that is too wide otherwise.
_HYPHENATED = {"positions": "posi-\ntions", "divisions": "divi-\nsions"}


def print_summary(table: AnchorTable, console: Console | None = None) -> None:
    """Print the counts of each stratum, further columns, and what was excluded.

    Parameters
    ----------
    table : AnchorTable
        The anchor table.
    console : rich.console.Console, optional
        Where to print; by default, the console of this process.
    """
    console = console or get_console()
    _print_strata(table, console)
    _print_extra_columns(table, console)
    if not table.excluded:
        return
    excluded = make_table(["experiment", "condition"], ["not anchors"], sentence="reason")
    for one in table.excluded:
        excluded.add_row(Text(one.experiment), Text(one.condition), one.reason, f"{one.n_observations:,}")
    console.print(excluded)


def _print_strata(table: AnchorTable, console: Console) -> None:
    counts = ["positions", "tracks", "divisions", "rows", "anchors", "hours"]
    strata_table = make_table(["experiment", "condition"], counts)
    strata: Any = table.observations.groupby(["experiment", "condition"], observed=True, sort=False)
    for (experiment, condition), observations in islice(strata, MAX_ROWS):
        tracks = observations.drop_duplicates(["position", "track_id"])
        daughters = tracks[tracks["parent_track_id"] >= 0]
        n_daughters = daughters.groupby(["position", "parent_track_id"], observed=True).size()
        hours = observations["hours_post_infection"]
        numbers = [
            observations["position"].nunique(),
            len(tracks),
            int((n_daughters > 1).sum()),
            len(observations),
            int(observations["has_positive"].sum()),
        ]
        span = f"{hours.min():.3g} to {hours.max():.3g}"
        strata_table.add_row(Text(str(experiment)), Text(str(condition)), *(f"{number:,}" for number in numbers), span)
    if (n_more := len(strata) - MAX_ROWS) > 0:
        strata_table.add_row(f"and {n_more:,} more")
    if console.measure(strata_table, options=console.options.update(max_width=1000)).maximum > console.width:
        for column in strata_table.columns:
            column.header = _HYPHENATED.get(str(column.header), column.header)
    console.print(strata_table)


def _print_extra_columns(table: AnchorTable, console: Console) -> None:
    """Print the number of values of each column of channels, metadata and annotations, and of missing ones."""
    if not table.extra_columns:
        return
    columns = make_table(["column"], ["values", "missing"], sentence="for example")
    for name in table.extra_columns:
        values: Any = table.observations[name]
        counts = values.value_counts()
        counts = counts[counts > 0]
        examples = [label[:_MAX_LENGTH] for label in map(shown, counts.index[:_MAX_EXAMPLES])]
        listed = ", ".join(examples) + (", ..." if len(counts) > len(examples) else "")
        columns.add_row(Text(name), Text(listed), f"{len(counts):,}", f"{int(values.isna().sum()):,}")
    console.print(columns)
