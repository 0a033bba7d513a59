"""Check: the observed composition of each batch against its target."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from viscy_train.composition.targets import SLOT_TOLERANCE, STRATUM, batch_targets, count_strata, encode, group_word
from viscy_train.wording import count

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from viscy_data import PlannedComposition


@dataclass(frozen=True, kw_only=True)
class TargetCheck:
    """One target of all batches, and how well they matched it.

    Parameters
    ----------
    name : str
        What the shares are of, for example ``condition mock``.
    target : float
        Target share of a batch, mean over the batches.
    observed : float
        Observed share of a batch, mean over the batches.
    lowest, highest : float
        Lowest and highest observed share of a batch.
    off_target : float
        Fraction of the batches that differ from their target by more than the rounding to whole slots.
    """

    name: str
    target: float
    observed: float
    lowest: float
    highest: float
    off_target: float

    @property
    def matched(self) -> bool:
        """Whether every batch matched its target."""
        return self.off_target == 0


def observed_composition(batches: pd.DataFrame, anchors: pd.DataFrame) -> pd.Series:
    """Return the observed composition of all batches together.

    Parameters
    ----------
    batches, anchors
        See `check_targets`.

    Returns
    -------
    pandas.Series
        Share of the slots by (experiment, condition).
    """
    counts = count_strata(anchors)
    observed = count_strata(anchors[STRATUM].iloc[batches["row"]])
    return observed.reindex(counts.index, fill_value=0) / len(batches)


def shares_of_batches(batches: pd.DataFrame, anchors: pd.DataFrame, column: str) -> pd.DataFrame:
    """Return the share of each value of a column in each batch.

    Parameters
    ----------
    batches, anchors
        See `check_targets`.
    column : str
        A column of `anchors`.

    Returns
    -------
    pandas.DataFrame
        A row for each (epoch, batch) in order, and a column for each value in order of first appearance in the table.
        Rows sum to 1.
    """
    codes, values = encode(anchors[column])
    number, index = number_batches(batches)
    key = number * len(values) + codes[batches["row"].to_numpy()]
    counts = np.bincount(key, minlength=len(index) * len(values)).reshape(len(index), -1)
    return pd.DataFrame(counts / counts.sum(axis=1, keepdims=True), index=index, columns=pd.Index(values, dtype=object))


def number_batches(batches: pd.DataFrame) -> tuple[NDArray[np.int64], pd.MultiIndex]:
    """Return the batch number of each slot, counted in order from 0, and the (epoch, batch) of each number."""
    keys = pd.MultiIndex.from_frame(batches[["epoch", "batch"]])
    order = keys.unique().sort_values()
    return order.get_indexer(keys).astype(np.int64), order


def own_experiments(batches: pd.DataFrame, anchors: pd.DataFrame, planned: PlannedComposition) -> pd.Series:
    """Infer the own experiment of each batch from its composition.

    Parameters
    ----------
    batches, anchors, planned
        See `check_targets`.

    Returns
    -------
    pandas.Series
        Experiment, or `ALL_EXPERIMENTS`, by (epoch, batch). Among the experiments whose number of primary slots the
        batch has, it is the one with the target nearest to the batch's composition.
    """
    observed = shares_of_batches(batches, anchors, "experiment")
    targets = batch_targets(anchors, planned).T.groupby(level=0, sort=False).sum().T[observed.columns]
    distance = np.abs(observed.to_numpy()[:, None] - targets.to_numpy())
    total = distance.sum(axis=2)
    if planned.options["experiment_aware"]:
        slots = batches.groupby(["epoch", "batch"]).size().to_numpy()
        own = distance[:, np.arange(len(targets)), observed.columns.get_indexer(targets.index)]
        # Two distributions differ by at most 2.
        total = total + 2.0 * (own * slots[:, None] > 1 - SLOT_TOLERANCE)
    return pd.Series(targets.index[total.argmin(axis=1)], index=observed.index)


def check_targets(batches: pd.DataFrame, anchors: pd.DataFrame, planned: PlannedComposition) -> list[TargetCheck]:
    """Compare the observed composition of each batch with its target.

    Parameters
    ----------
    batches : pandas.DataFrame
        A row for each slot: `epoch`, `batch` and `row`, the row number in `anchors`.
    anchors : pandas.DataFrame
        The sampler's table.
    planned : viscy_data.PlannedComposition
        The sampler's plan.

    Returns
    -------
    list of TargetCheck
        One for the batch's own experiment and one for each condition, if the sampler has that axis on.
    """
    own = own_experiments(batches, anchors, planned)
    targets = batch_targets(anchors, planned).loc[own]
    slots = batches.groupby(["epoch", "batch"]).size().to_numpy()
    checks = []
    if planned.options["experiment_aware"]:
        observed = shares_of_batches(batches, anchors, "experiment")
        by_experiment = targets.T.groupby(level=0, sort=False).sum().T[observed.columns].to_numpy()
        own_column = np.arange(len(own)), observed.columns.get_indexer(own)
        name = f"the batch's own {group_word(planned)}"
        checks.append(_check(name, by_experiment[own_column], observed.to_numpy()[own_column], slots, tolerance=1))
    if planned.options["condition_balanced"]:
        observed = shares_of_batches(batches, anchors, "condition")
        by_condition = targets.T.groupby(level=1, sort=False).sum().T
        if conditions_are_chosen(by_condition, planned):
            return [*checks, _check_least(observed.to_numpy(), slots, planned.options["anchors_per_condition"])]
        # With a leak and at least three conditions, both parts of a condition may be rounded in the same direction.
        tolerance = 2 if len(observed.columns) > 2 and planned.options["leaky"] else 1
        checks += [
            _check(f"condition {name}", by_condition[name].to_numpy(), observed[name].to_numpy(), slots, tolerance)
            for name in observed.columns
        ]
    return checks


def shorten_checks(checks: list[TargetCheck], most: int = 40) -> tuple[list[TargetCheck], str]:
    """Return the checks to show, and what the others found.

    Parameters
    ----------
    checks : list of TargetCheck
        The checks of all targets, one for each condition.
    most : int, default 40
        How many to show. Of more, those that did not match come first.

    Returns
    -------
    shown : list of TargetCheck
        At most `most` checks.
    others : str
        Such as ``and 960 more, all matched``; empty if all are shown.
    """
    if len(checks) <= most:
        return checks, ""
    ordered = sorted(checks, key=lambda check: check.matched)
    n_missed = sum(not check.matched for check in ordered[most:])
    verdict = f"{n_missed:,} off target" if n_missed else "all matched"
    return ordered[:most], f"and {len(checks) - most:,} more, {verdict}"


def conditions_are_chosen(targets: pd.DataFrame, planned: PlannedComposition) -> bool:
    """Return whether batches have some of the conditions only, so that a target is that of many batches together.

    Parameters
    ----------
    targets : pandas.DataFrame
        Target share of each condition, a row for each batch or group.
    planned : viscy_data.PlannedComposition
        The sampler's plan.
    """
    least = planned.options["anchors_per_condition"]
    return least is not None and bool((targets > 0).sum(axis=1).max() > planned.options["batch_size"] // least)


def _check_least(observed: NDArray[np.float64], slots: NDArray[np.int64], least: int) -> TargetCheck:
    """Check that each condition of a batch has at least so many anchors, given the shares of all conditions."""
    rarest = np.where(observed > 0, observed, 1.0).min(axis=1)
    return TargetCheck(
        name=f"rarest condition in the batch (at least {count(least, 'anchor')})",
        target=float((least / slots).mean()),
        observed=float(rarest.mean()),
        lowest=float(rarest.min()),
        highest=float(rarest.max()),
        off_target=float((rarest * slots < least - SLOT_TOLERANCE).mean()),
    )


def _check(
    name: str, target: NDArray[np.float64], observed: NDArray[np.float64], slots: NDArray[np.int64], tolerance: int
) -> TargetCheck:
    """Compare shares of batches, shape (n_batches,); differences below `tolerance` slots are due to rounding."""
    difference = np.abs(observed - target) * slots
    return TargetCheck(
        name=name,
        target=float(target.mean()),
        observed=float(observed.mean()),
        lowest=float(observed.min()),
        highest=float(observed.max()),
        off_target=float((difference >= tolerance - SLOT_TOLERANCE).mean()),
    )
