"""Quotas: which share of an epoch's batches each group is due, and which share of its batches each condition."""

from __future__ import annotations

import difflib
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from viscy_data._options import SamplerOptions
    from viscy_data.index import AnchorIndex


@dataclass(frozen=True, slots=True, eq=False)
class Quotas:
    """Shares, as fractions of 1.

    Attributes
    ----------
    group_share
        Of the epoch's batches, shape (n_groups,), adding up to 1.
    leaky
        Of each group's slots, those that come from other groups: `leaky`, or 0 where there is nothing to leak,
        shape (n_groups,).
    primary, leak
        Of each group's primary and leak slots, the share of each condition, shape (n_groups, n_conditions); rows add
        up to 1 where there are rows to draw, else they are 0.
    ratio
        Share of each condition where none is absent, shape (n_conditions,), adding up to 1.
    leak_source
        Rows of each stratum that may leak into other groups, shape (n_groups, n_conditions). A group of weight 0 is
        excluded on purpose, so nothing leaks from it either.
    leak_pool
        Rows of each condition that may leak into a group: `leak_source` summed over the other groups, shape (n_groups,
        n_conditions).
    """

    group_share: NDArray[np.float64]
    leaky: NDArray[np.float64]
    primary: NDArray[np.float64]
    leak: NDArray[np.float64]
    ratio: NDArray[np.float64]
    leak_source: NDArray[np.int64]
    leak_pool: NDArray[np.int64]

    @classmethod
    def of(cls, index: AnchorIndex, options: SamplerOptions) -> Quotas:
        """Work out the quotas of a table; ValueError where weights or ratio do not fit it."""
        share = _group_share(index, options)
        ratio = _condition_ratio(index, options)
        check_groups_can_be_drawn(index, share, ratio)
        leak_source = index.cell_size * (share > 0)[:, None]
        leak_pool = leak_source.sum(axis=0) - leak_source
        leak = _split(ratio, leak_pool)
        return cls(
            group_share=share,
            leaky=np.where(leak.any(axis=1), options.leaky, 0.0),
            primary=_split(ratio, index.cell_size),
            leak=leak,
            ratio=_split(ratio, np.ones((1, len(ratio)), np.int64))[0],
            leak_source=leak_source,
            leak_pool=leak_pool,
        )

    @property
    def shared(self) -> NDArray[np.intp]:
        """The conditions that have a share at all."""
        return np.flatnonzero((self.primary + self.leak).any(axis=0))

    @property
    def has_even_leak(self) -> NDArray[np.bool_]:
        """Whether a group leaks, and all conditions have equal shares of its primary and of its leak slots.

        Not asked of one or two conditions, where the order of the parts sees to all sums; shape (n_groups,).
        """
        shared = self.shared
        if len(shared) < 3:
            return np.zeros(len(self.leaky), bool)
        even = [np.ptp(part[:, shared], axis=1) == 0 for part in (self.primary, self.leak)]
        return (self.leaky > 0) & even[0] & even[1]

    def primary_slots(self, n_slots: int) -> NDArray[np.float64]:
        """Return the primary slots each condition is due in a batch of each group, shape (n_groups, n_conditions)."""
        return n_slots * (1 - self.leaky)[:, None] * self.primary

    def leak_slots(self, n_slots: int) -> NDArray[np.float64]:
        """Return the leak slots each condition is due in a batch of each group, shape (n_groups, n_conditions)."""
        return n_slots * self.leaky[:, None] * self.leak

    def batch_shares(self, group: int) -> NDArray[np.float64]:
        """Return the share of each stratum in a batch of a group, shape (n_groups, n_conditions)."""
        shares = self.leak_source * self._leak_per_row()[group]
        shares[group] = self.primary_slots(1)[group]
        return shares

    def epoch_shares(self) -> NDArray[np.float64]:
        """Return the share of each stratum in an epoch, shape (n_groups, n_conditions).

        It is the mean of `batch_shares` over all groups, weighted by their shares of the batches. A stratum receives
        leak slots of every other group at the same rate per row, so the sum over groups is taken before rows come in.
        """
        weight = self.group_share[:, None]
        return weight * self.primary_slots(1) + self.leak_source * _sum_of_others(weight * self._leak_per_row())

    def _leak_per_row(self) -> NDArray[np.float64]:
        """Return the share of a batch of each group that one leaking row of each condition is due."""
        leak = self.leak_slots(1)
        return np.divide(leak, self.leak_pool, out=np.zeros_like(leak), where=self.leak_pool > 0)


def _sum_of_others(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return for each row the sum of the other rows; subtracting it from the total could cancel all digits."""
    before, after = np.zeros_like(values), np.zeros_like(values)
    np.cumsum(values[:-1], axis=0, out=before[1:])
    np.cumsum(values[:0:-1], axis=0, out=after[-2::-1])
    return before + after


def _group_share(index: AnchorIndex, options: SamplerOptions) -> NDArray[np.float64]:
    rows = index.cell_size.sum(axis=1)
    given = options.experiment_weights if options.experiment_aware else None
    if isinstance(given, Mapping):
        weight = weight_of_each("experiment_weights", given, index.groups)
    elif given == "uniform":
        weight = np.ones(len(rows))
    elif given == "sqrt":
        weight = np.sqrt(rows)
    else:
        weight = rows
    weight = weight / weight.max()  # before the sum, which could overflow
    return weight / np.cumsum(weight)[-1]  # added in order, not as the release of NumPy sees fit


def _condition_ratio(index: AnchorIndex, options: SamplerOptions) -> NDArray[np.float64]:
    if options.condition_balanced and options.condition_ratio is not None:
        return weight_of_each("condition_ratio", options.condition_ratio, index.conditions)
    return np.ones(len(index.conditions))


def _split(ratio: NDArray[np.float64], rows: NDArray[np.int64]) -> NDArray[np.float64]:
    """Split 1 over the conditions that have rows, in proportion to their ratio."""
    present = ratio / ratio.max() * (rows > 0)
    total = np.cumsum(present, axis=1)[:, -1:]
    return np.divide(present, total, out=np.zeros_like(present), where=total > 0)


def weight_of_each(name: str, given: Mapping[Any, float], labels: Collection[Any]) -> NDArray[np.float64]:
    """Return the weight of each label, shape (n_labels,); ValueError where the keys are not the labels."""
    known = set(labels)
    for key in given:
        if key not in known:
            raise ValueError(f"{name} must name labels of the table, got {key!r}; {suggest_label(key, labels)}")
    left_out = [label for label in labels if label not in given]
    if left_out:
        raise ValueError(
            f"{name} must name every label of the table, {list_labels(left_out)} left out; give a weight of 0 to "
            "exclude one on purpose"
        )
    return np.array([given[label] for label in labels], np.float64)


def check_groups_can_be_drawn(index: AnchorIndex, share: NDArray[np.float64], ratio: NDArray[np.float64]) -> None:
    """Raise ValueError where a group that is to be drawn has anchors only of conditions that are excluded."""
    rows = index.cell_size @ (ratio > 0)
    unfit = [index.groups[g] for g in np.flatnonzero((share > 0) & (rows == 0))]
    if unfit:
        raise ValueError(
            f"condition_ratio must leave every group anchors to draw, got none for {list_labels(unfit)}; give such a "
            "group weight 0 in experiment_weights, or one of its conditions a ratio above 0"
        )


def suggest_label(key: Any, labels: Collection[Any]) -> str:
    """Return the remedy for a key that is not a label: the nearest label, if one is near, and the labels there are."""
    near = difflib.get_close_matches(repr(key), list(map(repr, labels)), n=1, cutoff=0.4)
    hint = f"did you mean {near[0]}? " if near else ""
    return f"{hint}There are {list_labels(labels)}"


def list_labels(labels: Collection[Any]) -> str:
    """Return labels as a message shows them, at most ten."""
    shown = ", ".join(map(repr, list(labels)[:10]))
    return f"{shown} and {len(labels) - 10} more" if len(labels) > 10 else shown
