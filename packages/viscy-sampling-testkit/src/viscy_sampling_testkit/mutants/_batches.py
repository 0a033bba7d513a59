"""Mutants with wrong batches: each is the reference with one mistake, which its docstring names."""

from __future__ import annotations

from typing import Any

import numpy as np

from viscy_sampling_testkit.mutants.reference import Plan, ReferenceSampler


class RunsOfRows(ReferenceSampler):
    """The window, global and leak rows of a batch are runs of rows, in the order of the table."""

    def draw(self, rng: np.random.Generator, pool: np.ndarray, n: int) -> np.ndarray:
        if not 4 <= len(pool) > n:
            return super().draw(rng, pool, n)
        return np.roll(pool, -int(rng.integers(len(pool))))[:n]


class RunsOfGlobalRows(ReferenceSampler):
    """The global rows of a batch are runs of rows, in the order of the table."""

    def draw_around(
        self, rng: np.random.Generator, rows: np.ndarray, focal: float, n: int, n_in_window: int
    ) -> np.ndarray:
        near = super().draw_around(rng, rows, focal, n_in_window, n_in_window)
        others = rows[~np.isin(rows, near)]
        return np.concatenate([near, np.roll(others, -int(rng.integers(len(others))))[: n - len(near)]])


class RunsOfTwo(ReferenceSampler):
    """The rows of a stratum are drawn in runs of two, in the order of their number."""

    def permute_strata(self, rng: np.random.Generator) -> list[np.ndarray]:
        return [_in_runs(rng, rows) for rows in self.strata]


class WindowOneFrameTooLong(ReferenceSampler):
    """The temporal window is half an hour longer at its end."""

    def in_window(self, rows: np.ndarray, focal: float) -> np.ndarray:
        return super().in_window(rows, focal) | super().in_window(rows, focal + 0.5)


class WindowIgnored(ReferenceSampler):
    """All rows are drawn from all times."""

    def in_window(self, rows: np.ndarray, focal: float) -> np.ndarray:
        return np.ones(len(rows), bool)


class RemainderToLastCondition(ReferenceSampler):
    """Quotas are rounded down; the last condition gets the remainder."""

    def count_conditions(self, rng: np.random.Generator, sizes: np.ndarray) -> np.ndarray:
        counts = np.floor(sizes[:, None] * self.condition_shares).astype(np.int64)
        counts[:, -1] += sizes - counts.sum(axis=1)
        return counts


class RoundedTheSameWay(ReferenceSampler):
    """Quotas are rounded the same way in every batch."""

    def count_conditions(self, rng: np.random.Generator, sizes: np.ndarray) -> np.ndarray:
        return np.tile(super().count_conditions(np.random.default_rng(0), sizes)[:1], (len(sizes), 1))


class RatioIgnored(ReferenceSampler):
    """Conditions have equal shares, whatever the target shares are."""

    def __init__(self, *args: Any, **options: Any) -> None:
        options["condition_shares"] = None
        super().__init__(*args, **options)


class RareConditionDropped(ReferenceSampler):
    """The condition with the smallest share never occurs."""

    def count_conditions(self, rng: np.random.Generator, sizes: np.ndarray) -> np.ndarray:
        counts = super().count_conditions(rng, sizes)
        rare = self.condition_shares.argmin()
        counts[:, self.condition_shares.argmax()] += counts[:, rare]
        counts[:, rare] = 0
        return counts


class DrawnWithReplacement(ReferenceSampler):
    """Every slot is drawn independently, with replacement."""

    def take(self, rng: np.random.Generator, permutation: np.ndarray, elements: np.ndarray) -> np.ndarray:
        return rng.choice(permutation, len(elements))


class ReshuffledEachBatch(ReferenceSampler):
    """Every batch uses a new permutation, so an epoch draws some rows often and a third of them never."""

    def take(self, rng: np.random.Generator, permutation: np.ndarray, elements: np.ndarray) -> np.ndarray:
        return self.draw(rng, permutation, len(elements))


class RowNeverDrawn(ReferenceSampler):
    """One row is in no permutation."""

    def permute_strata(self, rng: np.random.Generator) -> list[np.ndarray]:
        missing = self.strata[0][0]
        return [permutation[permutation != missing] for permutation in super().permute_strata(rng)]


class RowDrawnTwiceAsOften(ReferenceSampler):
    """One row is in its permutation twice."""

    def permute_strata(self, rng: np.random.Generator) -> list[np.ndarray]:
        first, *others = self.strata
        return [rng.permutation(rows) for rows in (np.append(first, first[:1]), *others)]


class LeakFromOwnGroup(ReferenceSampler):
    """The leak is drawn from the batch's own group instead of other groups."""

    def leak_pool(self, home: int, condition: int) -> np.ndarray:
        return np.flatnonzero((self.groups == home) & (self.conditions == condition))


class LeakRoundedDown(ReferenceSampler):
    """The leak is always rounded down: `int(n * leaky)`."""

    def count_leaks(self, rng: np.random.Generator, sizes: np.ndarray) -> np.ndarray:
        return np.floor(sizes * self.leaky).astype(np.int64)


class LeakRoundedUp(ReferenceSampler):
    """The leak is always rounded up."""

    def count_leaks(self, rng: np.random.Generator, sizes: np.ndarray) -> np.ndarray:
        return np.ceil(sizes * self.leaky).astype(np.int64)


class LeakTwice(ReferenceSampler):
    """The leak is twice as large as its target."""

    def count_leaks(self, rng: np.random.Generator, sizes: np.ndarray) -> np.ndarray:
        return 2 * super().count_leaks(rng, sizes)


class GroupsMixed(ReferenceSampler):
    """One slot of each batch is filled from another group."""

    def arrange(self, rows: np.ndarray, plan: Plan, j: int) -> list[int]:
        foreign = np.flatnonzero(self.groups != plan.homes[j])
        return [int(foreign[j % len(foreign)]), *rows[1:].tolist()]


class GroupSharesIgnored(ReferenceSampler):
    """All groups have equal shares of the batches, whatever the target shares are."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self.group_shares = np.full(len(self.group_shares), 1 / len(self.group_shares))


class SortedByCondition(ReferenceSampler):
    """Slots are sorted by condition."""

    def arrange(self, rows: np.ndarray, plan: Plan, j: int) -> list[int]:
        return rows[np.argsort(self.conditions[rows], kind="stable")].tolist()


class SortedByRow(ReferenceSampler):
    """Slots are sorted by row."""

    def arrange(self, rows: np.ndarray, plan: Plan, j: int) -> list[int]:
        return np.sort(rows).tolist()


class WindowFirst(ReferenceSampler):
    """Slots in the temporal window come first."""

    def arrange(self, rows: np.ndarray, plan: Plan, j: int) -> list[int]:
        return rows[np.argsort(~self.in_window(rows, plan.focal_hours[j]), kind="stable")].tolist()


class PrimaryFirst(ReferenceSampler):
    """The first slot is never a leak slot."""

    def arrange(self, rows: np.ndarray, plan: Plan, j: int) -> list[int]:
        order = np.arange(len(rows))
        first = int(plan.leaks[j, : len(rows)].argmin())
        order[[0, first]] = first, 0
        return rows[order].tolist()


class IndexLabels(ReferenceSampler):
    """Batches hold labels of the table's index instead of row numbers."""

    def arrange(self, rows: np.ndarray, plan: Plan, j: int) -> list[int]:
        return (rows + 10_000).tolist()


class NumpyInts(ReferenceSampler):
    """Batches hold NumPy integers."""

    def arrange(self, rows: np.ndarray, plan: Plan, j: int) -> list[int]:
        return list(rows)


class OneSlotShort(ReferenceSampler):
    """The last batch of an epoch lacks a slot."""

    def arrange(self, rows: np.ndarray, plan: Plan, j: int) -> list[int]:
        return rows[: -1 if j == self.total - 1 else None].tolist()


class DropLastIgnored(ReferenceSampler):
    """Anchors that do not fill a batch are left out, even with ``drop_last=False``."""

    def __init__(self, *args: Any, **options: Any) -> None:
        options["drop_last"] = True
        super().__init__(*args, **options)


class TinyPoolDrawnUnevenly(ReferenceSampler):
    """If a pool has fewer rows than slots, the slots are drawn independently, with replacement."""

    def take(self, rng: np.random.Generator, permutation: np.ndarray, elements: np.ndarray) -> np.ndarray:
        if len(permutation) < len(elements):
            return rng.choice(permutation, len(elements))
        return super().take(rng, permutation, elements)


class EvenRowsPreferred(ReferenceSampler):
    """A row of odd number is replaced by its neighbor in a tenth of the cases."""

    def permute_strata(self, rng: np.random.Generator) -> list[np.ndarray]:
        return [
            np.where((np.arange(len(rows)) % 5 == 0) & (rows % 2 == 1), rows - 1, rows)
            for rows in super().permute_strata(rng)
        ]


def _in_runs(rng: np.random.Generator, rows: np.ndarray) -> np.ndarray:
    """Return the rows in runs of two, in random order."""
    runs = np.array_split(rows, -(-len(rows) // 2))
    return np.concatenate([runs[i] for i in rng.permutation(len(runs))])
