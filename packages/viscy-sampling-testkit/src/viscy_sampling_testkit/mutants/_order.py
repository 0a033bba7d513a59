"""Mutants whose batches depend on their index or on each other: each is the reference with one mistake."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from viscy_sampling_testkit.mutants.reference import Plan, ReferenceSampler, _count_earlier, _rounded


class _Homes(ReferenceSampler):
    """The home groups of an epoch are in another order; subclasses say in which."""

    def make_plan(self, rng: np.random.Generator, n_epochs: int = 1) -> Plan:
        plan = super().make_plan(rng, n_epochs)
        homes = self.order(rng, np.sort(plan.homes))
        strata = homes[:, None] * len(self.condition_shares) + plan.conditions
        strata[plan.leaks | (plan.conditions < 0)] = -1
        elements = _count_earlier(strata.ravel()).reshape(strata.shape)
        return replace(plan, homes=homes, elements=elements, focal_hours=self.choose_focal_hours(rng, homes))

    def order(self, rng: np.random.Generator, homes: np.ndarray) -> np.ndarray:
        """Return the sorted home groups in another order."""
        raise NotImplementedError


class GroupsInBlocks(_Homes):
    """All batches of a group follow each other; the groups are in random order."""

    def order(self, rng: np.random.Generator, homes: np.ndarray) -> np.ndarray:
        return np.concatenate([homes[homes == group] for group in rng.permutation(np.unique(homes))])


class GroupsInPairs(_Homes):
    """Two batches of a group often follow each other."""

    def order(self, rng: np.random.Generator, homes: np.ndarray) -> np.ndarray:
        pairs = homes[: len(homes) // 2 * 2].reshape(-1, 2)
        return np.r_[rng.permutation(pairs).ravel(), homes[len(homes) // 2 * 2 :]]


class GroupsTakeTurns(_Homes):
    """The groups take turns, as long as each has batches left."""

    def order(self, rng: np.random.Generator, homes: np.ndarray) -> np.ndarray:
        turns = np.concatenate([np.arange(n) for n in np.bincount(homes)])
        return homes[np.lexsort((rng.permutation(homes.max() + 1)[homes], turns))]


class LargestGroupFirst(_Homes):
    """The first batch of an epoch is of the group with the most batches."""

    def order(self, rng: np.random.Generator, homes: np.ndarray) -> np.ndarray:
        largest = np.bincount(homes).argmax()
        first = int(np.flatnonzero(homes == largest)[0])
        return np.r_[largest, rng.permutation(np.delete(homes, first))]


class RareGroupLast(_Homes):
    """The batches of the group with the fewest batches are in the second half of an epoch."""

    def order(self, rng: np.random.Generator, homes: np.ndarray) -> np.ndarray:
        keys = rng.random(len(homes))
        keys[homes == np.bincount(homes).argmin()] += 1
        return homes[np.argsort(keys)]


class SameOrderInEachEpoch(_Homes):
    """The order of the groups is the same in each epoch of a seed."""

    def order(self, rng: np.random.Generator, homes: np.ndarray) -> np.ndarray:
        return np.random.default_rng(self.seed).permutation(homes)


class SameOrderInEachSeed(_Homes):
    """The order of the groups is the same in each seed, but not in each epoch."""

    def make_plan(self, rng: np.random.Generator, n_epochs: int = 1) -> Plan:
        self.shared = np.random.default_rng(self.key[1:3])
        return super().make_plan(rng, n_epochs)

    def generator(self, epoch: int, block: int, purpose: int, item: int = 0) -> np.random.Generator:
        self.key = [self.seed, epoch, block]
        return super().generator(epoch, block, purpose, item)

    def order(self, rng: np.random.Generator, homes: np.ndarray) -> np.ndarray:
        return self.shared.permutation(homes)


class RoundedByIndex(ReferenceSampler):
    """The first two conditions are rounded up in turns, so the index of a batch decides."""

    def count_conditions(self, rng: np.random.Generator, sizes: np.ndarray) -> np.ndarray:
        offsets = (np.arange(len(sizes)) * 0.5 + 0.25 * rng.integers(2)) % 1
        return _rounded(sizes[:, None] * self.condition_shares, offsets[:, None])


class RoundedByGroup(ReferenceSampler):
    """The group of a batch decides which condition is rounded up."""

    def make_plan(self, rng: np.random.Generator, n_epochs: int = 1) -> Plan:
        plan, sizes = super().make_plan(rng, n_epochs), self.sizes()
        offsets = (plan.homes[:, None] + 0.5) / len(self.group_shares)
        counts = _rounded(sizes[:, None] * self.condition_shares, offsets)
        conditions = self.shuffle_slots(rng, counts, sizes)
        strata = plan.homes[:, None] * len(self.condition_shares) + conditions
        strata[plan.leaks | (conditions < 0)] = -1
        return replace(plan, conditions=conditions, elements=_count_earlier(strata.ravel()).reshape(strata.shape))


class LeakRoundedByIndex(ReferenceSampler):
    """The leak is rounded up in the same batches of each epoch."""

    def count_leaks(self, rng: np.random.Generator, sizes: np.ndarray) -> np.ndarray:
        return _rounded(sizes * self.leaky, 0.5)


class GroupSharesRoundedTheSameWay(ReferenceSampler):
    """The number of batches of a group is rounded the same way in each epoch."""

    def count_batches(self, rng: np.random.Generator) -> np.ndarray:
        return _rounded(self.total * self.group_shares, 0.5)


class PairsShareDraws(ReferenceSampler):
    """Batches 2 k and 2 k + 1 draw from the same stream of random numbers."""

    def generator(self, epoch: int, block: int, purpose: int, item: int = 0) -> np.random.Generator:
        return super().generator(epoch, block, purpose, item // 2)


class BatchesShareDraws(ReferenceSampler):
    """Every fourth batch draws from the same stream of random numbers."""

    def generator(self, epoch: int, block: int, purpose: int, item: int = 0) -> np.random.Generator:
        return super().generator(epoch, block, purpose, item % 4)


class AllBatchesShareDraws(ReferenceSampler):
    """All batches of an epoch draw from the same stream of random numbers."""

    def generator(self, epoch: int, block: int, purpose: int, item: int = 0) -> np.random.Generator:
        return super().generator(epoch, block, purpose, 0)


class EpochsShareDraws(ReferenceSampler):
    """Plans differ between epochs, but the draws of a batch are the same in each epoch."""

    def generator(self, epoch: int, block: int, purpose: int, item: int = 0) -> np.random.Generator:
        return super().generator(epoch if purpose == 0 else 0, block, purpose, item)


class SlotsOrderedTheSameWay(ReferenceSampler):
    """The conditions of the slots are the same in all batches with the same counts."""

    def shuffle_slots(self, rng: np.random.Generator, counts: np.ndarray, sizes: np.ndarray) -> np.ndarray:
        order = np.random.default_rng(self.seed).permutation(self.batch_size)
        conditions = np.stack([np.r_[np.repeat(np.arange(len(row)), row)] for row in counts])
        return (
            conditions[:, order]
            if conditions.shape[1] == self.batch_size
            else super().shuffle_slots(rng, counts, sizes)
        )


class SecondRoundMixed(ReferenceSampler):
    """The first and the second round of a stratum are mixed: both are complete only at the end of the second."""

    def take(self, rng: np.random.Generator, permutation: np.ndarray, elements: np.ndarray) -> np.ndarray:
        n = len(permutation)
        rounds = np.random.default_rng([self.seed, n]).permutation(2 * n)
        return permutation[rounds[elements % (2 * n)] % n]


class DrawnTwiceInTurn(ReferenceSampler):
    """Each row is drawn twice before the next one: even in total, but not round after round."""

    def take(self, rng: np.random.Generator, permutation: np.ndarray, elements: np.ndarray) -> np.ndarray:
        return permutation[(elements // 2) % len(permutation)]


class CarriesRowOver(ReferenceSampler):
    """A slot often holds a row of the batch before, if that was of the same group."""

    def arrange(self, rows: np.ndarray, plan: Plan, j: int) -> list[int]:
        order: Any = rows
        before, self.before = getattr(self, "before", None), (j, plan.homes[j], rows)
        if before is not None and before[0] == j - 1 and before[1] == plan.homes[j]:
            candidates = np.setdiff1d(before[2], rows)
            same = [(i, row) for i, mine in enumerate(rows) for row in candidates if self._alike(mine, row)]
            if same:
                i, row = same[len(same) // 2]
                order = np.r_[rows[:i], row, rows[i + 1 :]]
        return [int(row) for row in order]

    def _alike(self, a: int, b: int) -> bool:
        return bool(self.groups[a] == self.groups[b] and self.conditions[a] == self.conditions[b])


class RoundsInTheSameOrder(ReferenceSampler):
    """Each round of a stratum has the same order, so its batches repeat those of the round before."""

    def order_rounds(self, permutation: np.ndarray, n: int) -> list[np.ndarray]:
        return [permutation] * n
