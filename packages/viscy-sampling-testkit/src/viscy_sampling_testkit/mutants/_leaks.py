"""Mutants with a wrong leak: each is the reference with one mistake, which its docstring names."""

from __future__ import annotations

from typing import Any

import numpy as np

from viscy_sampling_testkit.mutants.reference import Plan, ReferenceSampler


class LeakFromOneGroup(ReferenceSampler):
    """The leak of a batch comes from one other group, drawn for each batch."""

    def batch(self, k: int, epoch: int | None = None) -> list[int]:
        self.drawn = np.random.default_rng([self.seed, k, epoch or 0, 7])
        self.source: dict[int, int] = {}
        return super().batch(k, epoch)

    def leak_pool(self, home: int, condition: int) -> np.ndarray:
        others = np.setdiff1d(np.unique(self.groups), [home])
        source = self.source.setdefault(home, int(self.drawn.choice(others)))
        return np.flatnonzero((self.groups == source) & (self.conditions == condition))


class LeakFromNextGroup(ReferenceSampler):
    """The leak comes from the next group only."""

    def leak_pool(self, home: int, condition: int) -> np.ndarray:
        source = (home + 1) % len(self.group_shares)
        return np.flatnonzero((self.groups == source) & (self.conditions == condition))


class LeakFromOneGroupAnEpoch(ReferenceSampler):
    """The leak comes from one other group in even epochs and from another one in odd epochs."""

    def batch(self, k: int, epoch: int | None = None) -> list[int]:
        self.parity = (self.next[0] if epoch is None else epoch) % 2
        return super().batch(k, epoch)

    def leak_pool(self, home: int, condition: int) -> np.ndarray:
        source = (home + 1 + self.parity) % len(self.group_shares)
        return np.flatnonzero((self.groups == source) & (self.conditions == condition))


class _WeightedLeak(ReferenceSampler):
    """The rows of a group leak with a weight, as a row that is repeated in the pool does."""

    def weights(self) -> np.ndarray:
        """Return the number of times that each group is in the pool."""
        raise NotImplementedError

    def draw(self, rng: np.random.Generator, pool: np.ndarray, n: int) -> np.ndarray:
        if not self.is_leak_pool(pool):
            return super().draw(rng, pool, n)
        weight = self.weights()[self.groups[pool]]
        return rng.choice(pool, n, replace=False, p=weight / weight.sum())

    def is_leak_pool(self, pool: np.ndarray) -> bool:
        """Return whether a pool is the one that was last returned by `leak_pool`."""
        return pool is getattr(self, "last_pool", None)

    def leak_pool(self, home: int, condition: int) -> np.ndarray:
        self.last_pool = super().leak_pool(home, condition)
        return self.last_pool


class LeakByGroup(_WeightedLeak):
    """Groups leak equally often, whatever their number of rows."""

    def weights(self) -> np.ndarray:
        return 1 / np.bincount(self.groups)


class LeakByShares(_WeightedLeak):
    """Groups leak in proportion to their shares of the batches."""

    def weights(self) -> np.ndarray:
        return self.group_shares / np.bincount(self.groups)


class LeakOfLargeGroups(_WeightedLeak):
    """The rows of a large group leak more often."""

    def weights(self) -> np.ndarray:
        return np.bincount(self.groups) ** 1.0


class LeakOfFirstRows(ReferenceSampler):
    """The second half of the rows never leaks."""

    def leak_pool(self, home: int, condition: int) -> np.ndarray:
        pool = super().leak_pool(home, condition)
        return pool[: -(-len(pool) // 2)]


class LeakOfOneCondition(ReferenceSampler):
    """Only slots of the condition with the largest share leak."""

    def make_plan(self, rng: np.random.Generator, n_epochs: int = 1) -> Plan:
        plan = super().make_plan(rng, n_epochs)
        largest = plan.conditions == self.condition_shares.argmax()
        for j, leaks in enumerate(plan.leaks):
            n, first = leaks.sum(), np.flatnonzero(largest[j])
            leaks[:] = False
            leaks[rng.permutation(first)[:n]] = True
        return plan


class LeakIgnoresConditions(ReferenceSampler):
    """Leak slots are drawn from all conditions."""

    def leak_pool(self, home: int, condition: int) -> np.ndarray:
        return np.flatnonzero(self.groups != home)


class LeakInWindow(ReferenceSampler):
    """The leak comes from the temporal window of the batch."""

    def batch(self, k: int, epoch: int | None = None) -> list[int]:
        number = self.next[0] if epoch is None else epoch
        block, j = divmod(k, self.total)
        self.focal = float(self.plan(number, block).focal_hours[j])
        return super().batch(k, epoch)

    def leak_pool(self, home: int, condition: int) -> np.ndarray:
        pool = super().leak_pool(home, condition)
        near = pool[self.in_window(pool, self.focal)]
        return near if len(near) > 2 else pool


class LeakRepeated(ReferenceSampler):
    """Every batch of a group leaks the same rows in an epoch."""

    def draw(self, rng: np.random.Generator, pool: np.ndarray, n: int) -> np.ndarray:
        if pool is not getattr(self, "last_pool", None):
            return super().draw(rng, pool, n)
        return super().draw(np.random.default_rng([self.seed, self.cursor[0], len(pool)]), pool, n)

    def leak_pool(self, home: int, condition: int) -> np.ndarray:
        self.last_pool = super().leak_pool(home, condition)
        return self.last_pool


class LeakOnlyInSomeGroups(ReferenceSampler):
    """The largest group never leaks; the others leak more."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self.has_leak = np.arange(len(self.group_shares)) != self.group_shares.argmax()

    def make_plan(self, rng: np.random.Generator, n_epochs: int = 1) -> Plan:
        plan = super().make_plan(rng, n_epochs)
        plan.leaks[~self.has_leak[plan.homes]] = False
        return plan
