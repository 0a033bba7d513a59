"""Mutants that repeat values: each is the reference with one mistake, which its docstring names."""

from __future__ import annotations

from typing import Any

import numpy as np

from viscy_sampling_testkit.mutants._exchange import PrimarySlots
from viscy_sampling_testkit.mutants.reference import Plan, ReferenceSampler


class ValuesIgnored(ReferenceSampler):
    """Values are ignored."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self.values = None


class ValuesDistinctWithinConditions(ReferenceSampler):
    """Rows of different conditions can share a value."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        assert self.values is not None
        self.values = self.values * len(self.condition_shares) + self.conditions


class ValuesDistinctInPrimarySlots(ReferenceSampler):
    """Rows of the leak can share a value."""

    def draw_distinct(self, rng: np.random.Generator, pool: np.ndarray, n: int) -> np.ndarray:
        return rng.permutation(pool)[:n]


class ValuesDistinctInWindow(ReferenceSampler):
    """A row of the global slots can have the value of a row in the window."""

    def draw_around(
        self, rng: np.random.Generator, rows: np.ndarray, focal: float, n: int, n_in_window: int
    ) -> np.ndarray:
        near = self.draw(rng, rows[self.in_window(rows, focal)], n_in_window)
        others = rng.permutation(rows[~np.isin(rows, near)])
        return np.concatenate([near, others[: n - len(near)]])


class FirstRowOfValue(ReferenceSampler):
    """Of the rows of a stratum with one value, always the first one in the table is drawn."""

    def arrange(self, rows: np.ndarray, plan: Plan, j: int) -> list[int]:
        assert self.values is not None
        n_values, n_conditions = int(self.values.max()) + 1, len(self.condition_shares)
        codes = (self.groups * n_conditions + self.conditions) * n_values + self.values
        first = np.full(int(codes.max()) + 1, len(codes))
        np.minimum.at(first, codes, np.arange(len(codes)))
        return first[codes[rows]].tolist()


class ReplacesSharedValues(ReferenceSampler):
    """A row that shares its value is replaced by any row of its stratum, so some rows are never drawn."""

    def separate(
        self, rng: np.random.Generator, strata: np.ndarray, elements: np.ndarray, permutations: list[np.ndarray]
    ) -> list[np.ndarray]:
        assert self.values is not None
        slots = PrimarySlots.of(strata, elements, permutations, self.order_rounds, self.values)
        for stratum, i in slots.clashes():
            slots.replace(rng, stratum, i, self.strata[stratum])
        return slots.orders


class ExchangesWithAnyRound(ReferenceSampler):
    """A row that shares its value changes places with a row of any round."""

    def separate(
        self, rng: np.random.Generator, strata: np.ndarray, elements: np.ndarray, permutations: list[np.ndarray]
    ) -> list[np.ndarray]:
        assert self.values is not None
        slots = PrimarySlots.of(strata, elements, permutations, self.order_rounds, self.values)
        slots.lengths = [len(order) for order in slots.orders]
        for place in slots.clashes():
            slots.exchange(rng, place)
        return slots.orders
