"""Learned section: what the embeddings reveal, each number with how many it is of, its interval and chance."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from viscy_train.report.formatting import percent, thousands

if TYPE_CHECKING:
    from collections.abc import Sequence

    from viscy_train.evaluation.embeddings import Probe
    from viscy_train.evaluation.neighbors import NeighborShare
    from viscy_train.evaluation.probes import ColumnProbe
    from viscy_train.evaluation.retrieval import Recall
    from viscy_train.evaluation.smoothness import Smoothness

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
NEIGHBOR_HEADINGS = [
    "neighbors share the anchor's",
    "neighbors are of other",
    "anchors",
    "before training",
    "after training",
    "permuted",
    "verdict",
]
"""Headings of the table of what neighbors share."""
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


def neighbor_rows(shares: Sequence[NeighborShare]) -> list[list[str]]:
    """Return a row for each share, see `NEIGHBOR_HEADINGS`."""
    return [
        [
            one.label,
            f"{one.among}s",
            f"{thousands(one.n_queries)} of {one.n_units} {one.unit}s",
            _with_interval(one.untrained, one.untrained_interval),
            _with_interval(one.trained, one.trained_interval),
            "" if one.permuted is None else str(one.permuted),
            verdict_of(one),
        ]
        for one in shares
    ]


def describe_smoothness(smoothness: Smoothness | None) -> str:
    """Return how far tracks move from frame to frame, with its interval and what chance gives, in a sentence."""
    if smoothness is None:
        return ""
    low, high = smoothness.interval
    over = f"{smoothness.n_units} {smoothness.unit}s" if smoothness.n_units > 1 else f"one {smoothness.unit}"
    interval = f"95% interval {low:.2g} to {high:.2g} over {over}" if smoothness.n_units > 1 else f"of {over}"
    return (
        f"From frame to frame, the embedding of a track moves {smoothness.trained:.2g} times as far as two anchors of "
        f"its experiment are apart on average ({interval}; {smoothness.n_steps:,} pairs of frames; "
        f"{smoothness.untrained:.2g} before training; by chance 1), by cosine distance in all dimensions."
    )


def verdict_of(probe: Probe | ColumnProbe | NeighborShare) -> str:
    """Return whether an accuracy or a share is distinguishable from that of permuted labels, and p."""
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
