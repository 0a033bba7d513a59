"""Mutants with wrong slices of a step: each is the reference with one mistake, which its docstring names."""

from __future__ import annotations

from typing import Any

import numpy as np

from viscy_sampling_testkit.mutants.reference import Plan, ReferenceSampler


class SlicesOverlap(ReferenceSampler):
    """Each rank but the first starts with the last slot of the rank before it."""

    def own_slice(self, k: int, epoch: int) -> list[int]:
        size = self.batch_size // self.num_replicas
        start = max(0, self.rank * size - 1)
        return self.batch(k, epoch)[start : start + size]


class SlicesOfOwnBatches(ReferenceSampler):
    """Each rank has a slice of a batch of its own."""

    def own_slice(self, k: int, epoch: int) -> list[int]:
        return super().own_slice(k * self.num_replicas + self.rank, epoch)


class SlicesDependOnRanks(ReferenceSampler):
    """The batch of a step depends on the number of ranks."""

    def own_slice(self, k: int, epoch: int) -> list[int]:
        return super().own_slice((k * self.num_replicas) % self.total, epoch)


class SlicesUneven(ReferenceSampler):
    """The first rank has a slot of the last rank."""

    def own_slice(self, k: int, epoch: int) -> list[int]:
        own = super().own_slice(k, epoch)
        if self.num_replicas == 1:
            return own
        is_last = self.rank == self.num_replicas - 1
        return [*own, self.batch(k, epoch)[-1]] if self.rank == 0 else own[:-1] if is_last else own


class SlicesOfEightRanksOverlap(ReferenceSampler):
    """If there are eight ranks, the last one has the slice of the one before it."""

    def own_slice(self, k: int, epoch: int) -> list[int]:
        if (self.rank, self.num_replicas) != (7, 8):
            return super().own_slice(k, epoch)
        size = self.batch_size // 8
        return self.batch(k, epoch)[6 * size : 7 * size]


class _SortedSlices(ReferenceSampler):
    """The slots of a step are sorted before they are cut into slices; subclasses say by what."""

    def own_slice(self, k: int, epoch: int) -> list[int]:
        rows, size = np.array(self.batch(k, epoch)), self.batch_size // self.num_replicas
        order = np.argsort(self.sort_keys(rows), kind="stable")
        return rows[order][self.rank * size : (self.rank + 1) * size].tolist()

    def sort_keys(self, rows: np.ndarray) -> np.ndarray:
        """Return the keys by which the rows of a batch are sorted."""
        raise NotImplementedError


class SlicesByCondition(_SortedSlices):
    """The first rank has the first condition."""

    def sort_keys(self, rows: np.ndarray) -> np.ndarray:
        return self.conditions[rows]


class SlicesByParity(_SortedSlices):
    """The first ranks have the rows of even number."""

    def sort_keys(self, rows: np.ndarray) -> np.ndarray:
        return rows % 2


class SlicesWithLeakLast(_SortedSlices):
    """The last rank has the leak."""

    def sort_keys(self, rows: np.ndarray) -> np.ndarray:
        return self.groups[rows] != np.bincount(self.groups[rows]).argmax()


class SplitStateCountsRanks(ReferenceSampler):
    """A state counts a step as many batches as there are ranks."""

    def state_dict(self) -> dict[str, Any]:
        state = super().state_dict()
        return {**state, "position": state["position"] * self.num_replicas}


class SplitStateOfRank(ReferenceSampler):
    """The state of a rank counts its own rank."""

    def state_dict(self) -> dict[str, Any]:
        state = super().state_dict()
        return {**state, "position": state["position"] + self.rank if state["position"] else 0}


class EvenSlotsOfFirstCondition(ReferenceSampler):
    """In a third of the batches, a row of the first condition in the second slot changes places with the first slot."""

    def arrange(self, rows: np.ndarray, plan: Plan, j: int) -> list[int]:
        if j % 3 == 0 and self.conditions[rows[1]] == 0:
            rows[[0, 1]] = rows[[1, 0]]
        return rows.tolist()


class LastSlotPrimary(ReferenceSampler):
    """The last slot is never of the leak."""

    def arrange(self, rows: np.ndarray, plan: Plan, j: int) -> list[int]:
        own = np.flatnonzero(self.groups[rows] == plan.homes[j])
        rows[[own[-1], -1]] = rows[[-1, own[-1]]]
        return rows.tolist()
