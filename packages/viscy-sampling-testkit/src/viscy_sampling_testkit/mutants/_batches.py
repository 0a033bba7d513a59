"""Samplers whose batches are wrong: each is the reference but for one mistake, which its first line names."""

from __future__ import annotations

from typing import Any

import numpy as np

from viscy_sampling_testkit.mutants.reference import Plan, ReferenceSampler


class WindowOneFrameTooLong(ReferenceSampler):
    """The focal window is half an hour longer at its end."""

    def in_window(self, cell: np.ndarray, focal: float) -> np.ndarray:
        assert self.hours is not None
        return super().in_window(cell, focal) | super().in_window(cell, focal + 0.5)


class WindowIgnored(ReferenceSampler):
    """All rows come from all times."""

    def in_window(self, cell: np.ndarray, focal: float) -> np.ndarray:
        return np.ones(len(cell), bool)


class RemainderToTheLastCondition(ReferenceSampler):
    """Quotas are rounded down; what is left goes to the last condition."""

    def count_conditions(self, rng: np.random.Generator, sizes: np.ndarray) -> np.ndarray:
        counts = np.floor(sizes[:, None] * self.condition_shares).astype(np.int64)
        counts[:, -1] += sizes - counts.sum(axis=1)
        return counts


class RoundedAlike(ReferenceSampler):
    """Quotas are rounded the same way in every batch."""

    def count_conditions(self, rng: np.random.Generator, sizes: np.ndarray) -> np.ndarray:
        return np.tile(super().count_conditions(np.random.default_rng(0), sizes)[:1], (len(sizes), 1))


class RatioIgnored(ReferenceSampler):
    """Conditions are balanced equally, whatever shares are asked for."""

    def __init__(self, *args: Any, **options: Any) -> None:
        options["condition_shares"] = None
        super().__init__(*args, **options)


class RareConditionDropped(ReferenceSampler):
    """The condition with the smallest share never comes."""

    def count_conditions(self, rng: np.random.Generator, sizes: np.ndarray) -> np.ndarray:
        counts = super().count_conditions(rng, sizes)
        rare = self.condition_shares.argmin()
        counts[:, self.condition_shares.argmax()] += counts[:, rare]
        counts[:, rare] = 0
        return counts


class DrawnWithReplacement(ReferenceSampler):
    """Every slot is drawn for itself."""

    def deal(self, rng: np.random.Generator, deck: np.ndarray, ordinals: np.ndarray) -> np.ndarray:
        return rng.choice(deck, len(ordinals))


class DeckReshuffledEachBatch(ReferenceSampler):
    """A deck is shuffled anew for every batch, so an epoch shows some rows often and a third never."""

    def deal(self, rng: np.random.Generator, deck: np.ndarray, ordinals: np.ndarray) -> np.ndarray:
        return self.draw(rng, deck, len(ordinals))


class RowNeverDrawn(ReferenceSampler):
    """One row is in no deck."""

    def shuffle_decks(self, rng: np.random.Generator) -> list[np.ndarray]:
        return [deck[deck != self.cells[0][0]] for deck in super().shuffle_decks(rng)]


class RowDrawnTwiceAsOften(ReferenceSampler):
    """One row is in its deck twice."""

    def shuffle_decks(self, rng: np.random.Generator) -> list[np.ndarray]:
        return [rng.permutation(np.append(cell, cell[:1]) if c == 0 else cell) for c, cell in enumerate(self.cells)]


class LeakFromTheOwnGroup(ReferenceSampler):
    """What should leak from other groups is drawn from the batch's own."""

    def leak_pool(self, home: int, condition: int) -> np.ndarray:
        return np.flatnonzero((self.groups == home) & (self.conditions == condition))


class LeakRoundedDown(ReferenceSampler):
    """The leak is the whole number below its quota: `int(n * leaky)`."""

    def count_leaks(self, rng: np.random.Generator, sizes: np.ndarray) -> np.ndarray:
        return np.floor(sizes * self.leaky).astype(np.int64)


class LeakRoundedUp(ReferenceSampler):
    """The leak is the whole number above its quota."""

    def count_leaks(self, rng: np.random.Generator, sizes: np.ndarray) -> np.ndarray:
        return np.ceil(sizes * self.leaky).astype(np.int64)


class LeakTwice(ReferenceSampler):
    """The leak is twice as large as asked for."""

    def count_leaks(self, rng: np.random.Generator, sizes: np.ndarray) -> np.ndarray:
        return 2 * super().count_leaks(rng, sizes)


class GroupsMixed(ReferenceSampler):
    """One slot of a batch comes from another group."""

    def arrange(self, rows: np.ndarray, plan: Plan, j: int) -> list[int]:
        foreign = np.flatnonzero(self.groups != plan.homes[j])
        return [int(foreign[j % len(foreign)]), *rows[1:].tolist()]


class GroupSharesIgnored(ReferenceSampler):
    """All groups have equally many batches, whatever shares are asked for."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self.group_shares = np.full(len(self.group_shares), 1 / len(self.group_shares))


class OrderBetraysTheCondition(ReferenceSampler):
    """Slots of one condition stand together."""

    def arrange(self, rows: np.ndarray, plan: Plan, j: int) -> list[int]:
        return rows[np.argsort(self.conditions[rows], kind="stable")].tolist()


class OrderBetraysTheRow(ReferenceSampler):
    """Slots are sorted."""

    def arrange(self, rows: np.ndarray, plan: Plan, j: int) -> list[int]:
        return np.sort(rows).tolist()


class OrderBetraysTheTime(ReferenceSampler):
    """Slots around the focal time come first."""

    def arrange(self, rows: np.ndarray, plan: Plan, j: int) -> list[int]:
        return rows[np.argsort(~self.in_window(rows, plan.focal_hours[j]), kind="stable")].tolist()


class PrimaryFirst(ReferenceSampler):
    """The first slot is never of the leak."""

    def arrange(self, rows: np.ndarray, plan: Plan, j: int) -> list[int]:
        order = np.arange(len(rows))
        first = int(plan.leaks[j, : len(rows)].argmin())
        order[[0, first]] = first, 0
        return rows[order].tolist()


class LabelsForPositions(ReferenceSampler):
    """Batches hold labels of the table's index, which here are far from its positions."""

    def arrange(self, rows: np.ndarray, plan: Plan, j: int) -> list[int]:
        return (rows + 10_000).tolist()


class NumpyInts(ReferenceSampler):
    """Batches hold NumPy's integers."""

    def arrange(self, rows: np.ndarray, plan: Plan, j: int) -> list[int]:
        return list(rows)


class OneSlotShort(ReferenceSampler):
    """The last batch of an epoch lacks a slot."""

    def arrange(self, rows: np.ndarray, plan: Plan, j: int) -> list[int]:
        return rows[: -1 if j == self.total - 1 else None].tolist()


class DropLastNeverRead(ReferenceSampler):
    """Anchors that do not fill a batch are left out, also where a short batch of them is asked for."""

    def __init__(self, *args: Any, **options: Any) -> None:
        options["drop_last"] = True
        super().__init__(*args, **options)


class TinyPoolDrawnUnevenly(ReferenceSampler):
    """Where a pool has fewer rows than slots, these are drawn for themselves."""

    def deal(self, rng: np.random.Generator, deck: np.ndarray, ordinals: np.ndarray) -> np.ndarray:
        return rng.choice(deck, len(ordinals)) if len(deck) < len(ordinals) else super().deal(rng, deck, ordinals)
