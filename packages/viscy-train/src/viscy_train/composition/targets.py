"""Composition: which share of a batch each part was to have, and which share it had."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

    from viscy_train.config.schema import SamplerConfig

CELL = ["experiment", "condition"]
WHOLE_TABLE = "all"
# Of numbers of slots, for the rounding of floating-point shares.
_TOLERANCE = 1e-6


@dataclass(frozen=True, kw_only=True)
class Promise:
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


def coded(column: pd.Series) -> tuple[NDArray[np.int64], list[Any]]:
    """Return a column as numbers, which are counted faster than names.

    Parameters
    ----------
    column : pandas.Series
        Without missing values.

    Returns
    -------
    codes : numpy.ndarray
        Which of the values each row has, shape (n_rows,).
    values : list
        The distinct values, in the order in which they come first.
    """
    codes, values = pd.factorize(column)
    return codes.astype(np.int64), list(values)


def cell_counts(anchors: pd.DataFrame) -> pd.Series:
    """Return how many anchors each (experiment, condition) has, in the order in which they come first."""
    experiment, experiments = coded(anchors["experiment"])
    condition, conditions = coded(anchors["condition"])
    cell = experiment * len(conditions) + condition
    present = pd.unique(cell)
    names = [(experiments[one // len(conditions)], conditions[one % len(conditions)]) for one in present]
    return pd.Series(np.bincount(cell)[present], index=pd.MultiIndex.from_tuples(names, names=CELL))


def asked_of_batches(anchors: pd.DataFrame, options: SamplerConfig) -> pd.DataFrame:
    """Return what a batch is to hold, for each experiment it may be of.

    Parameters
    ----------
    anchors, options
        As in `promises`.

    Returns
    -------
    pandas.DataFrame
        Shares of the slots; a row for each experiment that gets batches, or one for all of them where batches are not
        of one experiment; a column for each (experiment, condition). Rows add up to 1.
    """
    counts = cell_counts(anchors)
    groups = group_shares(anchors, options)
    active = counts[counts.index.get_level_values(0).isin(groups.index)] if options.experiment_aware else counts
    leak = options.leaky if options.experiment_aware and len(groups) > 1 else 0.0
    rows = {}
    for group in groups.index:
        own = active.index.get_level_values(0) == group if options.experiment_aware else np.full(len(active), True)
        share = (1 - leak) * _spread(active[own], options)
        if leak:
            share = share.add(leak * _spread(active[~own], options), fill_value=0)
        rows[group] = share.reindex(counts.index, fill_value=0.0)
    return pd.DataFrame(rows).T


def group_shares(anchors: pd.DataFrame, options: SamplerConfig) -> pd.Series:
    """Return the share of the batches that each experiment gets.

    Parameters
    ----------
    anchors, options
        As in `promises`.

    Returns
    -------
    pandas.Series
        By experiment, without those that get none, adding up to 1; a single one named `WHOLE_TABLE` where batches are
        not of one experiment.
    """
    if not options.experiment_aware:
        return pd.Series({WHOLE_TABLE: 1.0})
    rows = cell_counts(anchors).groupby(level="experiment", sort=False).sum()
    weights = options.experiment_weights
    if weights == "sqrt":
        rows = np.sqrt(rows)
    elif weights == "uniform":
        rows = rows * 0 + 1
    elif weights is not None and not isinstance(weights, str):
        rows = pd.Series({name: float(weights[name]) for name in rows.index})
    shares = rows / rows.sum()
    return shares[shares > 0]


def planned_composition(anchors: pd.DataFrame, options: SamplerConfig) -> pd.DataFrame:
    """Return what an epoch is to hold.

    Parameters
    ----------
    anchors, options
        As in `promises`.

    Returns
    -------
    pandas.DataFrame
        By (experiment, condition): `anchors`, their number; `of_table`, their share of the table; `asked`, their share
        of the slots.
    """
    counts = cell_counts(anchors)
    asked = group_shares(anchors, options) @ asked_of_batches(anchors, options)
    return pd.DataFrame({"anchors": counts, "of_table": counts / len(anchors), "asked": asked})


def drawn_composition(batches: pd.DataFrame, anchors: pd.DataFrame) -> pd.Series:
    """Return what batches held.

    Parameters
    ----------
    batches, anchors
        As in `promises`.

    Returns
    -------
    pandas.Series
        Share of the slots by (experiment, condition).
    """
    counts = cell_counts(anchors)
    drawn = cell_counts(anchors[CELL].iloc[batches["row"]])
    return drawn.reindex(counts.index, fill_value=0) / len(batches)


def shares_of_batches(batches: pd.DataFrame, anchors: pd.DataFrame, column: str) -> pd.DataFrame:
    """Return the share that each value of a column has in each batch.

    Parameters
    ----------
    batches, anchors
        As in `promises`.
    column : str
        Of the anchor table.

    Returns
    -------
    pandas.DataFrame
        A row for each (epoch, batch) in order, a column for each value in the table's order; rows add up to 1.
    """
    codes, values = coded(anchors[column])
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
        As in `promises`.

    Returns
    -------
    pandas.Series
        Experiment, or `WHOLE_TABLE`, by (epoch, batch): of those whose own part has its number of slots, the one whose
        asked shares the batch is nearest to.
    """
    drawn = shares_of_batches(batches, anchors, "experiment")
    asked = asked_of_batches(anchors, options).T.groupby(level=0, sort=False).sum().T[drawn.columns]
    distance = np.abs(drawn.to_numpy()[:, None] - asked.to_numpy())
    total = distance.sum(axis=2)
    if options.experiment_aware:
        slots = batches.groupby(["epoch", "batch"]).size().to_numpy()
        own = distance[:, np.arange(len(asked)), drawn.columns.get_indexer(asked.index)]
        # No two distributions are further apart than 2.
        total = total + 2.0 * (own * slots[:, None] > 1 - _TOLERANCE)
    return pd.Series(asked.index[total.argmin(axis=1)], index=drawn.index)


def promises(batches: pd.DataFrame, anchors: pd.DataFrame, options: SamplerConfig) -> list[Promise]:
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
    list of Promise
        For each axis that is on.
    """
    own = own_experiments(batches, anchors, options)
    asked = asked_of_batches(anchors, options).loc[own]
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


def _spread(counts: pd.Series, options: SamplerConfig) -> pd.Series:
    """Spread one unit over cells of the table: over conditions as asked, within one in proportion to rows."""
    if not options.condition_balanced:
        return counts / counts.sum()
    condition = counts.index.get_level_values("condition")
    ratio: Mapping[str, float] = options.condition_ratio or dict.fromkeys(condition, 1.0)
    present = {name: float(ratio[name]) for name in condition.unique()}
    part: NDArray[np.float64] = np.array([present[name] for name in condition]) / sum(present.values())
    return counts / counts.groupby(level="condition").transform("sum") * part


def _promise(
    what: str, asked: NDArray[np.float64], drawn: NDArray[np.float64], slots: NDArray[np.int64], slack: int
) -> Promise:
    off = np.abs(drawn - asked) * slots
    return Promise(
        what=what,
        asked=float(asked.mean()),
        drawn=float(drawn.mean()),
        lowest=float(drawn.min()),
        highest=float(drawn.max()),
        off=float((off >= slack - _TOLERANCE).mean()),
    )
