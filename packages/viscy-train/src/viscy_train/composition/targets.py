"""Composition: which share of a batch each part was to have, and which share it had."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

    from viscy_train.config.schema import SamplerConfig

STRATUM = ["experiment", "condition"]
WHOLE_TABLE = "all"
# Of numbers of slots, for the rounding of floating-point shares.
SLOT_TOLERANCE = 1e-6


def encode(column: pd.Series) -> tuple[NDArray[np.int64], list[Any]]:
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


def stratum_counts(anchors: pd.DataFrame) -> pd.Series:
    """Return how many anchors each (experiment, condition) has, in the order in which they come first."""
    experiment, experiments = encode(anchors["experiment"])
    condition, conditions = encode(anchors["condition"])
    cell = experiment * len(conditions) + condition
    present = pd.unique(cell)
    names = [(experiments[one // len(conditions)], conditions[one % len(conditions)]) for one in present]
    return pd.Series(np.bincount(cell)[present], index=pd.MultiIndex.from_tuples(names, names=STRATUM))


def batch_targets(anchors: pd.DataFrame, options: SamplerConfig) -> pd.DataFrame:
    """Return what a batch is to hold, for each experiment it may be of.

    Parameters
    ----------
    anchors, options
        As in `check_targets`.

    Returns
    -------
    pandas.DataFrame
        Shares of the slots; a row for each experiment that gets batches, or one for all of them where batches are not
        of one experiment; a column for each (experiment, condition). Rows add up to 1.
    """
    counts = stratum_counts(anchors)
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
        As in `check_targets`.

    Returns
    -------
    pandas.Series
        By experiment, without those that get none, adding up to 1; a single one named `WHOLE_TABLE` where batches are
        not of one experiment.
    """
    if not options.experiment_aware:
        return pd.Series({WHOLE_TABLE: 1.0})
    rows = stratum_counts(anchors).groupby(level="experiment", sort=False).sum()
    weights = options.experiment_weights
    if weights == "sqrt":
        rows = np.sqrt(rows)
    elif weights == "uniform":
        rows = rows * 0 + 1
    elif weights is not None and not isinstance(weights, str):
        rows = pd.Series({name: float(weights[name]) for name in rows.index})
    shares = rows / rows.sum()
    return shares[shares > 0]


def target_composition(anchors: pd.DataFrame, options: SamplerConfig) -> pd.DataFrame:
    """Return what an epoch is to hold.

    Parameters
    ----------
    anchors, options
        As in `check_targets`.

    Returns
    -------
    pandas.DataFrame
        By (experiment, condition): `anchors`, their number; `of_table`, their share of the table; `asked`, their share
        of the slots.
    """
    counts = stratum_counts(anchors)
    asked = group_shares(anchors, options) @ batch_targets(anchors, options)
    return pd.DataFrame({"anchors": counts, "of_table": counts / len(anchors), "asked": asked})


def _spread(counts: pd.Series, options: SamplerConfig) -> pd.Series:
    """Spread one unit over cells of the table: over conditions as asked, within one in proportion to rows."""
    if not options.condition_balanced:
        return counts / counts.sum()
    condition = counts.index.get_level_values("condition")
    ratio: Mapping[str, float] = options.condition_ratio or dict.fromkeys(condition, 1.0)
    present = {name: float(ratio[name]) for name in condition.unique()}
    part: NDArray[np.float64] = np.array([present[name] for name in condition]) / sum(present.values())
    return counts / counts.groupby(level="condition").transform("sum") * part
