"""Check: the target composition of each batch against the observed one."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from viscy_train.composition.targets import SLOT_TOLERANCE, STRATUM, batch_targets, encode, stratum_counts

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from viscy_train.config.schema import SamplerConfig


@dataclass(frozen=True, kw_only=True)
class TargetCheck:
    """One thing asked of every batch, and what the batches held.

    Parameters
    ----------
    what : str
        In words.
    asked : float
        Share of a batch, the mean over the batches.
    drawn : float
        Share of a batch, the mean over the batches.
    lowest, highest : float
        Share in the batch that had least and most.
    off : float
        Share of the batches that are further from what they were to have than the rounding to whole slots.
    """

    what: str
    asked: float
    drawn: float
    lowest: float
    highest: float
    off: float

    @property
    def kept(self) -> bool:
        """Whether every batch is as asked."""
        return self.off == 0


def observed_composition(batches: pd.DataFrame, anchors: pd.DataFrame) -> pd.Series:
    """Return what batches held.

    Parameters
    ----------
    batches, anchors
        As in `check_targets`.

    Returns
    -------
    pandas.Series
        Share of the slots by (experiment, condition).
    """
    counts = stratum_counts(anchors)
    drawn = stratum_counts(anchors[STRATUM].iloc[batches["row"]])
    return drawn.reindex(counts.index, fill_value=0) / len(batches)


def shares_of_batches(batches: pd.DataFrame, anchors: pd.DataFrame, column: str) -> pd.DataFrame:
    """Return the share that each value of a column has in each batch.

    Parameters
    ----------
    batches, anchors
        As in `check_targets`.
    column : str
        Of the anchor table.

    Returns
    -------
    pandas.DataFrame
        A row for each (epoch, batch) in order, a column for each value in the table's order; rows add up to 1.
    """
    codes, values = encode(anchors[column])
    number, index = numbered(batches)
    cell = number * len(values) + codes[batches["row"].to_numpy()]
    counts = np.bincount(cell, minlength=len(index) * len(values)).reshape(len(index), -1)
    return pd.DataFrame(counts / counts.sum(axis=1, keepdims=True), index=index, columns=pd.Index(values, dtype=object))


def numbered(batches: pd.DataFrame) -> tuple[NDArray[np.int64], pd.MultiIndex]:
    """Return which batch each slot is of, counted in order, and the (epoch, batch) of each."""
    keys = pd.MultiIndex.from_frame(batches[["epoch", "batch"]])
    order = keys.unique().sort_values()
    return order.get_indexer(keys).astype(np.int64), order


def own_experiments(batches: pd.DataFrame, anchors: pd.DataFrame, options: SamplerConfig) -> pd.Series:
    """Find which experiment each batch is of, from what it holds.

    Parameters
    ----------
    batches, anchors, options
        As in `check_targets`.

    Returns
    -------
    pandas.Series
        Experiment, or `WHOLE_TABLE`, by (epoch, batch): of those whose own part has its number of slots, the one whose
        asked shares the batch is nearest to.
    """
    drawn = shares_of_batches(batches, anchors, "experiment")
    asked = batch_targets(anchors, options).T.groupby(level=0, sort=False).sum().T[drawn.columns]
    distance = np.abs(drawn.to_numpy()[:, None] - asked.to_numpy())
    total = distance.sum(axis=2)
    if options.experiment_aware:
        slots = batches.groupby(["epoch", "batch"]).size().to_numpy()
        own = distance[:, np.arange(len(asked)), drawn.columns.get_indexer(asked.index)]
        # No two distributions are further apart than 2.
        total = total + 2.0 * (own * slots[:, None] > 1 - SLOT_TOLERANCE)
    return pd.Series(asked.index[total.argmin(axis=1)], index=drawn.index)


def check_targets(batches: pd.DataFrame, anchors: pd.DataFrame, options: SamplerConfig) -> list[TargetCheck]:
    """Hold what was drawn against what was asked of each batch.

    Parameters
    ----------
    batches : pandas.DataFrame
        A row for each slot: `epoch`, `batch`, `row` of the anchor table.
    anchors : pandas.DataFrame
        The anchor table.
    options : SamplerConfig
        Composition.

    Returns
    -------
    list of TargetCheck
        For each axis that is on.
    """
    own = own_experiments(batches, anchors, options)
    asked = batch_targets(anchors, options).loc[own]
    slots = batches.groupby(["epoch", "batch"]).size().to_numpy()
    made = []
    if options.experiment_aware:
        drawn = shares_of_batches(batches, anchors, "experiment")
        part = asked.T.groupby(level=0, sort=False).sum().T[drawn.columns].to_numpy()
        place = np.arange(len(own)), drawn.columns.get_indexer(own)
        made.append(_promise("the batch's own experiment", part[place], drawn.to_numpy()[place], slots, slack=1))
    if options.condition_balanced:
        drawn = shares_of_batches(batches, anchors, "condition")
        part = asked.T.groupby(level=1, sort=False).sum().T
        # Of three or more conditions with a leak, both parts of one can be rounded the same way.
        slack = 2 if len(drawn.columns) > 2 and options.leaky else 1
        made += [
            _promise(f"condition {name}", part[name].to_numpy(), drawn[name].to_numpy(), slots, slack)
            for name in drawn.columns
        ]
    return made


def _promise(
    what: str, asked: NDArray[np.float64], drawn: NDArray[np.float64], slots: NDArray[np.int64], slack: int
) -> TargetCheck:
    off = np.abs(drawn - asked) * slots
    return TargetCheck(
        what=what,
        asked=float(asked.mean()),
        drawn=float(drawn.mean()),
        lowest=float(drawn.min()),
        highest=float(drawn.max()),
        off=float((off >= slack - SLOT_TOLERANCE).mean()),
    )
