"""A choice of conditions: how often a condition is chosen for a batch, and how many slots it then has.

If batches must have several anchors of each of their conditions, most batches have no slots for some conditions. A
condition is then chosen with a probability in proportion to its share, and the chosen conditions split the slots of the
batch equally. A condition whose share is so large that it is in every batch has more slots than the others. Sampling
with probabilities that are proportional to size, where some units are certain: C.-E. Saerndal, B. Swensson and
J. Wretman, "Model Assisted Survey Sampling" (1992), section 3.6.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

# Shares are sums and quotients of floating-point numbers: a comparison of equals may be off by a few units.
_ALMOST = 1 - 1e-12


@dataclass(frozen=True, slots=True, eq=False)
class Choice:
    """How conditions are chosen for a batch of each group; arrays of shape (n_groups, n_conditions)."""

    at_least: int
    """Slots that a chosen condition has at least, if the batch has as many."""
    n_chosen: NDArray[np.int64]
    """Number of conditions of a batch, shape (n_groups,)."""
    probability: NDArray[np.float64]
    """Probability that a batch has the condition. Rows add up to `n_chosen`."""
    slots: NDArray[np.float64]
    """Slots that the condition is due in a batch that has it, at least as many as required; 0 if it is never chosen."""
    leaky: NDArray[np.float64]
    """Fraction of these slots that come from other groups."""

    @classmethod
    def from_shares(
        cls, share: NDArray[np.float64], n_slots: int, at_least: int, leaky: NDArray[np.float64] | float = 0.0
    ) -> Choice:
        """Choose as many conditions for a batch as can have the required number of slots.

        Parameters
        ----------
        share
            Share of each condition, 0 if it is absent, shape (n_groups, n_conditions).
        n_slots
            Slots of a batch.
        at_least
            Slots that a chosen condition has at least, if the batch has as many.
        leaky
            Fraction of a chosen condition's slots that leak, in the shape of `share`.
        """
        order = np.argsort(-share, axis=1, kind="stable")
        descending = np.take_along_axis(share, order, axis=1)
        n_chosen = np.minimum((share > 0).sum(axis=1), max(1, n_slots // at_least))
        rest = np.cumsum(descending[:, ::-1], axis=1)[:, ::-1]  # the share of the condition and of all smaller ones
        left = n_chosen[:, None] - np.arange(share.shape[1])  # how many are chosen in addition to all larger ones
        is_certain = np.cumprod((left > 0) & (descending * left >= rest * _ALMOST), axis=1, dtype=bool)
        n_certain = is_certain.sum(axis=1)
        others = (n_chosen - n_certain)[:, None]
        rest_of_others = np.where(is_certain, 0, descending).sum(axis=1)[:, None]
        per_share = np.divide(others, rest_of_others, out=np.zeros_like(rest_of_others), where=others > 0)
        probability = np.where(is_certain, 1.0, descending * per_share)
        part = np.divide(descending, probability, out=np.zeros_like(descending), where=probability > 0)
        slots = _slots(part, probability > 0, is_certain, n_chosen, n_slots, min(at_least, n_slots))
        leaky = np.where(share > 0, leaky, 0.0)
        return cls(at_least, n_chosen, _unsorted(probability, order), _unsorted(slots, order), leaky)

    @property
    def primary(self) -> NDArray[np.float64]:
        """Primary slots of each condition on average over batches."""
        return self.probability * self.slots * (1 - self.leaky)

    @property
    def leak(self) -> NDArray[np.float64]:
        """Leak slots of each condition on average over batches."""
        return self.probability * self.slots * self.leaky

    @property
    def rounds_totals(self) -> NDArray[np.bool_]:
        """Whether a condition's slots are rounded before they are split into primary and leak slots, shape (n_groups,).

        If both parts were rounded on their own, their sum could be one slot short.
        """
        return self.leaves_out | (self.leak > 0).any(axis=1)

    @property
    def leaves_out(self) -> NDArray[np.bool_]:
        """Whether batches of a group leave out some of its conditions, shape (n_groups,)."""
        return ((self.probability > 0) & (self.probability < 1)).any(axis=1)


def _slots(
    part: NDArray[np.float64],
    can_be_chosen: NDArray[np.bool_],
    is_certain: NDArray[np.bool_],
    n_chosen: NDArray[np.int64],
    n_slots: int,
    at_least: int,
) -> NDArray[np.float64]:
    """Split the slots of a batch over the chosen conditions, in proportion to their parts, with a lower bound.

    Arrays are sorted by descending share, and the parts of the chosen conditions add up to 1. Where parts are too
    small, the largest conditions alone split what is left by all others with the required number of slots.
    """
    slots = n_slots * part
    is_short = (can_be_chosen & (slots < at_least * _ALMOST)).any(axis=1)
    if not is_short.any():
        return slots
    n_larger = 1 + np.arange(part.shape[1])
    scale = (n_slots - (n_chosen[:, None] - n_larger) * at_least) / np.cumsum(part, axis=1)
    is_enough = is_certain & (scale * part >= at_least * _ALMOST)
    n_free = np.where(is_enough, n_larger, 1).max(axis=1)
    bounded = np.where(n_larger <= n_free[:, None], np.take_along_axis(scale, n_free[:, None] - 1, axis=1) * part, 0)
    bounded = np.where(can_be_chosen & (n_larger > n_free[:, None]), float(at_least), bounded)
    return np.where(is_short[:, None], bounded, slots)


def _unsorted(values: NDArray[np.float64], order: NDArray[np.intp]) -> NDArray[np.float64]:
    result = np.empty_like(values)
    np.put_along_axis(result, order, values, axis=1)
    return result
