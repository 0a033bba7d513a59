"""Targets: the composition that batches and epochs should have, by experiment and condition."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from viscy_train.row_slices import mapped_arrays, row_slices

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from viscy_data import PlannedComposition

STRATUM = ["experiment", "condition"]
ALL_EXPERIMENTS = "all"
"""The group of every batch when the sampler is not experiment-aware."""
# In slots: allows for the rounding error of shares.
SLOT_TOLERANCE = 1e-6


def encode(column: pd.Series) -> tuple[NDArray[np.int64], list[Any]]:
    """Encode a column as integers, which are faster to count than strings.

    Parameters
    ----------
    column : pandas.Series
        Values, none of them missing.

    Returns
    -------
    codes : numpy.ndarray
        Index of each row's value in `values`, shape (n_rows,).
    values : list
        The distinct values, in order of first appearance.
    """
    codes, values = pd.factorize(column)
    return codes.astype(np.int64), list(values)


def group_word(planned: PlannedComposition) -> str:
    """Return what a batch is restricted to, in one word: an ``experiment``, or a ``group`` of other columns."""
    return "experiment" if planned.options["experiment_by"] in (None, "experiment") else "group"


def count_strata(anchors: pd.DataFrame) -> pd.Series:
    """Count the anchors of each (experiment, condition), in order of first appearance."""
    counts: dict[tuple[Any, Any], int] = {}
    for rows in row_slices(len(anchors), *mapped_arrays(anchors[STRATUM])):
        for name, n in _count_strata(anchors["experiment"].iloc[rows], anchors["condition"].iloc[rows]):
            counts[name] = counts.get(name, 0) + n
    return pd.Series(list(counts.values()), index=pd.MultiIndex.from_tuples(list(counts), names=STRATUM))


def _count_strata(experiment: Any, condition: Any) -> list[tuple[tuple[Any, Any], int]]:
    """Return the strata of some rows, in order of first appearance, with the number of rows of each."""
    experiment_code, experiments = encode(experiment)
    condition_code, conditions = encode(condition)
    stratum = experiment_code * len(conditions) + condition_code
    present, counts = pd.unique(stratum), np.bincount(stratum).tolist()
    return [((experiments[one // len(conditions)], conditions[one % len(conditions)]), counts[one]) for one in present]


def group_shares(planned: PlannedComposition) -> pd.Series:
    """Return the share of an epoch's batches of each group that has batches.

    Parameters
    ----------
    planned : viscy_data.PlannedComposition
        The sampler's plan.

    Returns
    -------
    pandas.Series
        Shares by experiment, which sum to 1; a single 1 for `ALL_EXPERIMENTS` if the sampler is not experiment-aware.
    """
    if not planned.options["experiment_aware"]:
        return pd.Series({ALL_EXPERIMENTS: 1.0})
    return planned.group_shares[planned.group_shares > 0]


def batch_targets(anchors: pd.DataFrame, planned: PlannedComposition) -> pd.DataFrame:
    """Return the target composition of a batch, for each group.

    Parameters
    ----------
    anchors : pandas.DataFrame
        The sampler's table.
    planned : viscy_data.PlannedComposition
        The sampler's plan.

    Returns
    -------
    pandas.DataFrame
        Shares of the slots: a row for each group that has batches, as in `group_shares`, and a column for each
        (experiment, condition) of the table. Rows sum to 1.
    """
    counts = count_strata(anchors)
    is_aware = planned.options["experiment_aware"]
    position, parts = _parts_of_strata(counts, planned)
    groups = group_shares(planned).index
    shares = [planned.batch_shares(group if is_aware else None).to_numpy()[position] * parts for group in groups]
    return pd.DataFrame(np.stack(shares), index=groups, columns=counts.index)


def target_composition(anchors: pd.DataFrame, planned: PlannedComposition) -> pd.DataFrame:
    """Return the target composition of an epoch.

    Parameters
    ----------
    anchors, planned
        See `batch_targets`.

    Returns
    -------
    pandas.DataFrame
        By (experiment, condition): `anchors`, the number of anchors; `table_share`, their share of the table; `target`,
        their share of the epoch's slots.
    """
    counts = count_strata(anchors)
    position, parts = _parts_of_strata(counts, planned)
    target = planned.strata["epoch_share"].to_numpy()[position] * parts
    return pd.DataFrame({"anchors": counts, "table_share": counts / len(anchors), "target": target})


def _parts_of_strata(counts: pd.Series, planned: PlannedComposition) -> tuple[NDArray[np.intp], NDArray[np.float64]]:
    """Return, for each (experiment, condition), which of the sampler's strata it belongs to, and what part of it it is.

    If an axis of the sampler is off, one of its strata contains several experiments or conditions. All anchors of a
    stratum are equally likely to be drawn, so each (experiment, condition) gets a part in proportion to its anchors.
    """
    position = _positions_of_strata(counts.index, planned)
    return position, counts.to_numpy() / planned.strata["anchors"].to_numpy()[position]


def _positions_of_strata(names: pd.Index, planned: PlannedComposition) -> NDArray[np.intp]:
    """Return which of the sampler's strata each (experiment, condition) belongs to, shape (n_names,)."""
    is_on = planned.options["experiment_aware"], planned.options["condition_balanced"]
    axes = [axis for axis in (0, 1) if is_on[axis]]
    if not axes:
        return np.zeros(len(names), dtype=np.intp)
    known, wanted = (
        pd.MultiIndex.from_arrays([index.get_level_values(axis) for axis in axes])
        for index in (planned.strata.index, names)
    )
    return known.get_indexer(wanted)
