"""Step plan: the expected composition of a step, from the plan of the sampler."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from viscy_data import ComposedBatches
from viscy_train.composition.step import StepComposition, share_of_others
from viscy_train.composition.targets import batch_targets, encode, group_shares, group_word

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from viscy_data import PlannedComposition
    from viscy_train.composition.step import StepSettings

# Batches from which the expected composition of a step is computed, to within about half a percent.
_N_BATCHES = 8192
_LEAST_STEPS = 64
_NO_PAIR = 1e-6


def plan_step(anchors: pd.DataFrame, planned: PlannedComposition, settings: StepSettings) -> StepComposition:
    """Return the expected composition of a step.

    Parameters
    ----------
    anchors : pandas.DataFrame
        The sampler's table.
    planned : viscy_data.PlannedComposition
        The sampler's plan.
    settings : StepSettings
        The processes and the loss.

    Returns
    -------
    StepComposition
        Expected shares. Pairs of slots of one batch follow from its quotas, rounded to whole slots: a part of q slots
        has f(f - 1) + 2f(q - f) ordered pairs on average, with f the whole part of q. Slots of two batches are
        independent, given their groups, which are those of steps of a sampler with the same schedule. Anchors of one
        lineage, which are few, count as negatives here, and batches choose their conditions independently.
    """
    batch = _Batch(batch_targets(anchors, planned), planned, by_condition=settings.positives == "condition")
    shares = group_shares(planned).to_numpy()
    in_batch = shares @ batch.pairs_within
    pairs, without_negative = in_batch, shares @ (batch.pairs_within[:, 0] < _NO_PAIR)
    if settings.n_compared > 1:
        groups = _groups_of_steps(shares, planned.n_batches, settings.n_compared)
        of_steps = batch.pairs_within[groups].sum(axis=1) + [batch.pairs_between(step) for step in groups]
        pairs, without_negative = of_steps.mean(axis=0), (of_steps[:, 0] < _NO_PAIR).mean()
    return StepComposition(
        settings=settings,
        batch_size=batch.size,
        from_others=share_of_others(*pairs),
        from_others_in_batch=share_of_others(*in_batch),
        without_positive=_plan_without_positive(batch, shares, settings) if batch.by_condition else 0.0,
        without_negative=float(without_negative) if batch.by_condition else 0.0,
        group=group_word(planned),
    )


class _Batch:
    """The expected pairs of slots in a batch of each group, given the shares of its slots by stratum."""

    def __init__(self, shares: pd.DataFrame, planned: PlannedComposition, *, by_condition: bool) -> None:
        options = planned.options
        self.size, self.by_condition = options["batch_size"], by_condition
        self.is_balanced, self._least = options["condition_balanced"], options["anchors_per_condition"]
        self._shares = shares.to_numpy()
        self.experiment, experiments = encode(shares.columns.get_level_values(0).to_series())
        self.condition = encode(shares.columns.get_level_values(1).to_series())[0]
        self.by_name = [_sum_by(self._shares, self.experiment), _sum_by(self._shares, self.condition)]
        is_aware = options["experiment_aware"]
        self._own = [experiments.index(group) if is_aware else -1 for group in shares.index]
        self.pairs_within = np.array([self._pairs_within(group) for group in range(len(shares))])

    def _pairs_within(self, group: int) -> tuple[float, float]:
        """Return the ordered pairs of an anchor and a negative, and those of them from one experiment."""
        shares, size = self._shares[group], self.size
        own = shares[self.experiment == self._own[group]]
        leak = np.where(self.experiment == self._own[group], 0.0, shares)
        same_in_leak, alike_in_leak = self._pairs_of_leak(leak)
        same = _pairs(size * own.sum()) + same_in_leak
        if not self.by_condition:
            return size * (size - 1.0), float(same)
        of_conditions = self._pairs_of_parts(self.by_name[1][group])
        in_both = self._pairs_of_parts(own) + alike_in_leak
        return float(size * (size - 1.0) - of_conditions), float(same - in_both)

    def _pairs_of_leak(self, shares: NDArray[np.float64]) -> tuple[float, float]:
        """Return the ordered pairs of leaked slots of one experiment, and those of them of one stratum.

        Within a condition, the experiments are random, in proportion to the shares.
        """
        of_experiments, of_conditions = (_sum_by(shares[None], code)[0] for code in (self.experiment, self.condition))
        n_pairs = _pairs(self.size * shares.sum())
        if not self.is_balanced:
            return float(n_pairs * _alike(of_experiments)), float(n_pairs * _alike(shares))
        within = np.divide(shares, of_conditions[self.condition], out=np.zeros_like(shares), where=shares > 0)
        probability, slots = self.presence(of_conditions)
        of_one_condition = probability * _pairs(slots)
        in_stratum = float(of_one_condition @ _sum_by(within[None] ** 2, self.condition)[0])
        # Pairs of two conditions: their number follows from the others, and their experiments are independent.
        possible = of_conditions.sum() ** 2 - (of_conditions**2).sum()
        alike = (of_experiments**2).sum() - (shares**2).sum()
        of_two = (n_pairs - of_one_condition.sum()) * alike / possible if possible > 1e-12 else 0.0
        return float(in_stratum + of_two), in_stratum

    def _pairs_of_parts(self, shares: NDArray[np.float64]) -> float:
        """Return the ordered pairs of slots of one condition, given the share of each."""
        if not self.is_balanced:
            return float(_pairs(self.size * shares.sum()) * _alike(shares))
        probability, slots = self.presence(shares)
        return float((probability * _pairs(slots)).sum())

    def presence(self, shares: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Return the probability that a batch has each part, and its number of slots if it has it."""
        present = shares > 0
        quota = self.size * shares
        probability = np.minimum(present, 1.0)
        if self._least is not None and present.sum() > (n_chosen := max(1, self.size // self._least)):
            probability = np.minimum(1.0, n_chosen * shares / max(shares.sum(), 1e-12))
        return probability, np.divide(quota, probability, out=np.zeros_like(quota), where=present)

    def pairs_between(self, groups: NDArray[np.int64]) -> tuple[float, float]:
        """Return what `pairs_within` has for pairs of slots of different batches, of the given groups."""
        total = len(groups) * (len(groups) - 1) * self.size**2
        same = _products(self.by_name[0][groups] * self.size)
        if not self.by_condition:
            return total, same
        of_conditions, of_strata = (_products(shares[groups] * self.size) for shares in (self.by_name[1], self._shares))
        return total - of_conditions, same - of_strata


def _plan_without_positive(batch: _Batch, shares: NDArray[np.float64], settings: StepSettings) -> float:
    """Return the expected share of anchors that are the only one of their condition among those compared."""
    alone, present = np.transpose([_alone_and_present(batch, group) for group in range(len(shares))], (1, 0, 2))
    absent_elsewhere = (1 - shares @ present) ** (settings.n_compared - 1)
    return float((shares @ alone * absent_elsewhere).sum() / batch.size)


def _alone_and_present(batch: _Batch, group: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return, for each condition, the expected slots that have it alone, and the probability that a batch has it."""
    shares, size = batch.by_name[1][group], batch.size
    if not batch.is_balanced:
        return size * shares * (1 - shares) ** (size - 1), 1 - (1 - shares) ** size
    probability, slots = batch.presence(shares)
    # A part of less than two slots has a single one sometimes; one of less than one slot is missing sometimes.
    present = probability * np.minimum(slots, 1.0)
    return np.where(slots < 1, present, probability * np.clip(2 - slots, 0, None)), present


def _groups_of_steps(shares: NDArray[np.float64], n_batches: int, n_in_step: int) -> NDArray[np.int64]:
    """Return the groups of the batches of some steps, as numbers, shape (n_steps, n_in_step).

    They are those of a sampler with the same shares of batches, in as long an epoch, but with batches of one anchor.
    """
    table = pd.DataFrame({"group": np.arange(len(shares))})
    sampler = ComposedBatches(
        table,
        batch_size=1,
        experiment_by="group",
        experiment_weights=dict(enumerate(shares.tolist())),
        condition_balanced=False,
        num_replicas=1,
        epoch_batches=n_batches,
        as_arrays=True,
    )
    n_steps = -(-n_batches // n_in_step)
    n_epochs = -(-max(_N_BATCHES // n_in_step, _LEAST_STEPS) // n_steps)
    return np.concatenate([_draw_groups(sampler, epoch, n_steps, n_in_step) for epoch in range(n_epochs)])


def _draw_groups(sampler: Any, epoch: int, n_steps: int, n_in_step: int) -> NDArray[np.int64]:
    """Return the anchors of an epoch of batches of one anchor, and of those that complete its last step."""
    sampler.set_epoch(epoch)
    drawn = [int(rows[0]) for _, rows in zip(range(max(_N_BATCHES, n_in_step)), sampler, strict=False)]
    if len(drawn) == len(sampler):
        drawn += [int(sampler.batch(k, epoch)[0]) for k in range(len(drawn), n_steps * n_in_step)]
    return np.array(drawn[: len(drawn) // n_in_step * n_in_step]).reshape(-1, n_in_step)


def _pairs(quota: Any) -> Any:
    """Return the expected ordered pairs of a part that has the floor or the ceiling of a quota."""
    whole = np.floor(np.asarray(quota) + 1e-9)
    return whole * (whole - 1) + 2 * whole * np.maximum(quota - whole, 0.0)


def _alike(shares: NDArray[np.float64]) -> float:
    """Return the probability that two independent slots are of the same part."""
    return float((shares**2).sum() / max(shares.sum() ** 2, 1e-300))


def _products(slots: NDArray[np.float64]) -> float:
    """Return the ordered pairs of slots of different batches in the same part; slots by batch and part."""
    return float((slots.sum(axis=0) ** 2).sum() - (slots**2).sum())


def _sum_by(shares: NDArray[np.float64], codes: NDArray[np.int64]) -> NDArray[np.float64]:
    """Sum the columns with the same code."""
    order = np.argsort(codes, kind="stable")
    first = np.searchsorted(codes[order], np.arange(int(codes.max()) + 1))
    return np.add.reduceat(shares[:, order], first, axis=1)
