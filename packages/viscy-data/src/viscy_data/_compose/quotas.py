"""A quota: the share of an epoch's batches that a group is due, and the share of its slots that a condition is due."""

from __future__ import annotations

import difflib
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from viscy_data._compose.choice import Choice

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from viscy_data._options import SamplerOptions
    from viscy_data.index import AnchorIndex

ALL_OTHERS = "..."
"""Key of a mapping that gives a weight to all labels that the mapping does not name."""


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Quotas:
    """The quotas of a sampler, as fractions of 1.

    Attributes
    ----------
    group_share
        Share of the epoch's batches for each group, shape (n_groups,), adding up to 1.
    leaky
        Fraction of each group's slots that come from other groups: the option `leaky`, or 0 where there is nothing to
        leak; shape (n_groups,).
    primary, leak
        Share of each condition among the primary and the leak slots of each group, shape (n_groups, n_conditions). Rows
        add up to 1 where there are anchors to draw, and are 0 elsewhere.
    ratio
        Share of each condition if none is absent, shape (n_conditions,), adding up to 1.
    leak_source
        Number of anchors of each stratum that may leak into other groups, shape (n_groups, n_conditions). A group of
        weight 0 is excluded on purpose, so nothing leaks from it either.
    leak_pool
        Number of anchors of each condition that may leak into each group: `leak_source` summed over the other groups,
        shape (n_groups, n_conditions).
    choice
        How conditions are chosen for a batch; None if batches have all conditions of their group.
    """

    group_share: NDArray[np.float64]
    leaky: NDArray[np.float64]
    primary: NDArray[np.float64]
    leak: NDArray[np.float64]
    ratio: NDArray[np.float64]
    leak_source: NDArray[np.int64]
    leak_pool: NDArray[np.int64]
    choice: Choice | None = None

    @classmethod
    def from_options(cls, index: AnchorIndex, options: SamplerOptions) -> Quotas:
        """Compute the quotas of a table; ValueError if weights or ratio do not fit it."""
        share = _group_share(index, options)
        ratio = _condition_ratio(index, options)
        check_groups_can_be_drawn(index, share, ratio)
        leak_source = index.stratum_size * (share > 0)[:, None]
        leak_pool = leak_source.sum(axis=0) - leak_source
        primary, leak = _split(ratio, index.stratum_size), _split(ratio, leak_pool)
        leaky, choice = np.where(leak.any(axis=1), options.leaky, 0.0), None
        if options.anchors_per_condition is not None and options.condition_balanced:
            can_leak = np.where(leak_pool > 0, options.leaky, 0.0)
            choice = Choice.from_shares(primary, options.batch_size, options.anchors_per_condition, can_leak)
            leaky = np.cumsum(choice.leak, axis=1)[:, -1] / options.batch_size
            primary, leak = _split_by(choice.primary), _split_by(choice.leak)
        return cls(
            group_share=share,
            leaky=leaky,
            primary=primary,
            leak=leak,
            choice=choice,
            ratio=_split(ratio, np.ones((1, len(ratio)), np.int64))[0],
            leak_source=leak_source,
            leak_pool=leak_pool,
        )

    @property
    def conditions_with_share(self) -> NDArray[np.intp]:
        """Codes of the conditions that have a share in any group."""
        return np.flatnonzero((self.primary + self.leak).any(axis=0))

    @property
    def has_even_leak(self) -> NDArray[np.bool_]:
        """Whether a group leaks and all conditions have equal shares of its primary and of its leak slots.

        Always False with one or two conditions, where the order of the parts already makes all sums right; shape
        (n_groups,).
        """
        shared = self.conditions_with_share
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

    def total_shares(self) -> NDArray[np.float64]:
        """Return the share of each condition in the batches of a group, leak included, (n_groups, n_conditions)."""
        return self.primary_slots(1) + self.leak_slots(1)

    def most_primary_slots(self, n_slots: int) -> NDArray[np.float64]:
        """Return the primary slots of each condition in a batch that has it, shape (n_groups, n_conditions)."""
        return self._of_batches_with_it(self.primary_slots(n_slots))

    def most_leak_slots(self, n_slots: int) -> NDArray[np.float64]:
        """Return the leak slots of each condition in a batch that has it, shape (n_groups, n_conditions)."""
        return self._of_batches_with_it(self.leak_slots(n_slots))

    def batch_shares(self, group: int) -> NDArray[np.float64]:
        """Return the share of each stratum in a batch of a group, shape (n_groups, n_conditions)."""
        shares = self.leak_source * self._leak_per_anchor()[group]
        shares[group] = self.primary_slots(1)[group]
        return shares

    def epoch_shares(self) -> NDArray[np.float64]:
        """Return the share of each stratum in an epoch, shape (n_groups, n_conditions).

        It is the mean of `batch_shares` over all groups, weighted by their shares of the batches. All anchors of a
        condition are equally likely to leak into a batch of another group, so one sum over groups serves all strata:
        no array of groups by groups is needed.
        """
        weight = self.group_share[:, None]
        return weight * self.primary_slots(1) + self.leak_source * _sum_of_others(weight * self._leak_per_anchor())

    def _of_batches_with_it(self, slots: NDArray[np.float64]) -> NDArray[np.float64]:
        if self.choice is None:
            return slots
        probability = self.choice.probability
        return np.divide(slots, probability, out=np.zeros_like(slots), where=probability > 0)

    def _leak_per_anchor(self) -> NDArray[np.float64]:
        """Return the share of a batch of each group that goes to one leaking anchor of each condition."""
        leak = self.leak_slots(1)
        return np.divide(leak, self.leak_pool, out=np.zeros_like(leak), where=self.leak_pool > 0)


def _sum_of_others(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return for each row the sum of all other rows; the total minus the row could lose all digits to cancellation."""
    before, after = np.zeros_like(values), np.zeros_like(values)
    np.cumsum(values[:-1], axis=0, out=before[1:])
    np.cumsum(values[:0:-1], axis=0, out=after[-2::-1])
    return before + after


def _split_by(parts: NDArray[np.float64]) -> NDArray[np.float64]:
    total = np.cumsum(parts, axis=1)[:, -1:]
    return np.divide(parts, total, out=np.zeros_like(parts), where=total > 0)


def _group_share(index: AnchorIndex, options: SamplerOptions) -> NDArray[np.float64]:
    rows = index.stratum_size.sum(axis=1)
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
    return (
        weight / np.cumsum(weight)[-1]
    )  # cumsum adds in order; the order in which sum adds depends on NumPy's release


def _condition_ratio(index: AnchorIndex, options: SamplerOptions) -> NDArray[np.float64]:
    if options.condition_balanced and options.condition_ratio is not None:
        return weight_of_each("condition_ratio", options.condition_ratio, index.conditions)
    return np.ones(len(index.conditions))


def _split(ratio: NDArray[np.float64], rows: NDArray[np.int64]) -> NDArray[np.float64]:
    """Split 1 over the conditions that have rows, in proportion to their ratio."""
    return _split_by(ratio / ratio.max() * (rows > 0))


def weight_of_each(name: str, given: Mapping[Any, float], labels: Collection[Any]) -> NDArray[np.float64]:
    """Return the weight of each label, shape (n_labels,); ValueError if the keys do not match the labels.

    The key `ALL_OTHERS` gives a weight to all labels that are not keys.
    """
    known, for_others = set(labels), {}
    if ALL_OTHERS in given and ALL_OTHERS not in known:
        for_others = dict.fromkeys(labels, given[ALL_OTHERS])
    for key in given:
        if key not in known and not (for_others and key == ALL_OTHERS):
            raise ValueError(f"{name} must name labels of the table, got {key!r}; {suggest_label(key, labels)}")
    weights = for_others | {key: weight for key, weight in given.items() if key in known}
    left_out = [label for label in labels if label not in weights]
    if left_out:
        raise ValueError(
            f"{name} must name every label of the table, {list_labels(left_out)} left out; give a weight of 0 to "
            f"exclude one on purpose, or one to all others with the key {ALL_OTHERS!r}"
        )
    if not any(weights.values()):
        raise ValueError(
            f"{name} must give at least one label of the table a weight above 0, got {dict(given)!r} for "
            f"{list_labels(labels)}"
        )
    return np.array([weights[label] for label in labels], np.float64)


def check_groups_can_be_drawn(index: AnchorIndex, share: NDArray[np.float64], ratio: NDArray[np.float64]) -> None:
    """Raise ValueError if a group that has batches has anchors only of excluded conditions."""
    rows = index.stratum_size @ (ratio > 0)
    without_rows = [index.groups[g] for g in np.flatnonzero((share > 0) & (rows == 0))]
    if without_rows:
        raise ValueError(
            f"condition_ratio must leave every group anchors to draw, got none for {list_labels(without_rows)}; give "
            "such a group weight 0 in experiment_weights, or one of its conditions a ratio above 0"
        )


def suggest_label(key: Any, labels: Collection[Any]) -> str:
    """Return the remedy for a key that is not a label: the most similar label, if any, and the labels of the table."""
    near = difflib.get_close_matches(repr(key), list(map(repr, labels)), n=1, cutoff=0.4)
    start = f"did you mean {near[0]}? The" if near else "the"
    return f"{start} labels are {list_labels(labels)}"


def list_labels(labels: Collection[Any]) -> str:
    """Return the first ten labels as a message shows them, and how many more there are."""
    shown = ", ".join(map(repr, list(labels)[:10]))
    return f"{shown} and {len(labels) - 10} more" if len(labels) > 10 else shown
