"""Learned section: what the embeddings reveal, each number with how many it is of, its interval and chance."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from viscy_train.report.formatting import percent, thousands

if TYPE_CHECKING:
    from collections.abc import Sequence

    from viscy_train.evaluation.embeddings import Probe
    from viscy_train.evaluation.probes import ColumnProbe
    from viscy_train.evaluation.retrieval import Recall

CHANCE = "indistinguishable from chance"
PROBE_HEADINGS = ["tested on other", "anchors", "chance", "before training", "after training", "permuted", "verdict"]
"""Headings of the last columns of both tables of probes."""
RECALL_HEADINGS = [
    "time to the later timepoint",
    "queries",
    "chance",
    "chance within the position",
    "before training",
    "after training",
]
# Rows of a table of which the first ones are shown.
_MAX_ROWS = 200


def recall_rows(recall: Sequence[Recall]) -> list[list[str]]:
    """Return a row for each recall@1, see `RECALL_HEADINGS`."""
    return [
        [
            one.time,
            f"{thousands(one.n_queries)} of {one.n_units} {one.unit}s",
            percent(one.chance, 1),
            "" if one.chance_in_position is None else percent(one.chance_in_position, 1),
            _with_interval(one.untrained, one.untrained_interval),
            _with_interval(one.trained, one.trained_interval),
        ]
        for one in recall
    ]


def probe_rows(probes: Sequence[Probe]) -> list[list[str]]:
    """Return a row for each probe: the hours, and see `PROBE_HEADINGS`."""
    return [[f"{probe.from_hours:.1f} to {probe.to_hours:.1f}", *_cells(probe)] for probe in probes]


def column_probe_rows(probes: Sequence[ColumnProbe]) -> list[list[Any]]:
    """Return a row for each probe of a column: column and number of values, and see `PROBE_HEADINGS`."""
    return [[f"{probe.column} ({probe.n_values} values)", *_cells(probe)] for probe in probes[:_MAX_ROWS]]


def verdict_of(probe: Probe | ColumnProbe) -> str:
    """Return whether an accuracy is distinguishable from that of permuted labels, and p."""
    if probe.permuted is None:
        return "not compared with chance"
    if probe.permuted.explains:
        return f"{CHANCE} (p = {probe.permuted.p:.2g})"
    return f"above chance (p = {probe.permuted.p:.2g})"


def _cells(probe: Probe | ColumnProbe) -> list[str]:
    return [
        f"{probe.n_units} {probe.held_out}s",
        thousands(probe.n_anchors),
        percent(probe.chance),
        str(probe.untrained),
        str(probe.trained),
        "" if probe.permuted is None else str(probe.permuted),
        verdict_of(probe),
    ]


def _with_interval(share: float, interval: tuple[float, float] | None) -> str:
    return percent(share) if interval is None else f"{share:.0%} ({interval[0]:.0%} to {interval[1]:.0%})"
