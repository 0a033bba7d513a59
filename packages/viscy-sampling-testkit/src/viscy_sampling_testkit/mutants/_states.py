"""Mutants with wrong states or copies: each is the reference with one mistake, which its docstring names."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, ClassVar

import numpy as np

from viscy_sampling_testkit.mutants.reference import Plan, ReferenceSampler


class StateForgetsEpoch(ReferenceSampler):
    """A state in the middle of an epoch resumes in the middle of the first epoch."""

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        super().load_state_dict({**state, "epoch": 0 if state["position"] else state["epoch"]})


class StateForgetsLateEpoch(ReferenceSampler):
    """A state of an epoch after the eighth resumes in the eighth."""

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        super().load_state_dict({**state, "epoch": min(state["epoch"], 7)})


class StateOfOneByte(ReferenceSampler):
    """A state holds the lowest byte of the epoch."""

    def state_dict(self) -> dict[str, Any]:
        state = super().state_dict()
        return {**state, "epoch": state["epoch"] & 255}


class StateIgnoresSetEpoch(ReferenceSampler):
    """A state saved after `set_epoch`, before a batch is drawn, is that of the epoch before."""

    def set_epoch(self, epoch: int) -> None:
        cursor = self.cursor
        super().set_epoch(epoch)
        self.cursor = cursor


class LoadsOnlyWhenNew(ReferenceSampler):
    """A sampler that was used before ignores a state that it loads."""

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        if self.next == (0, 0):
            super().load_state_dict(state)


class SavingAdvances(ReferenceSampler):
    """Saving a state changes the order in which the epochs follow each other."""

    def state_dict(self) -> dict[str, Any]:
        state = super().state_dict()
        self.next = (self.next[0] + 1, 0)
        return state


class SavingDraws(ReferenceSampler):
    """A batch that is drawn after a state was saved is skipped."""

    skip = 0

    def state_dict(self) -> dict[str, Any]:
        self.skip = 1
        return super().state_dict()

    def steps(self, epoch: int, start: int) -> Iterator[list[int]]:
        for first in range(start, self.total, self.num_replicas):
            self.cursor = self.advance(epoch, first)
            yield self.batch(first + self.rank + self.skip, epoch)


class LoadedStateAliases(ReferenceSampler):
    """A loaded state is kept and read later, so changing it changes the sampler."""

    loaded: Mapping[str, Any] | None = None

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        super().load_state_dict(state)
        self.loaded = state

    def steps(self, epoch: int, start: int) -> Iterator[list[int]]:
        if self.loaded is not None:
            epoch, start = self.loaded.get("epoch", 0), self.loaded.get("position", 0)
            self.loaded, self.next = None, (epoch + 1, 0)
        yield from super().steps(epoch, start)


class StateOfArrays(ReferenceSampler):
    """A state holds NumPy values."""

    def state_dict(self) -> dict[str, Any]:
        return {**super().state_dict(), "position": np.int64(self.cursor[1])}


class StateGrows(ReferenceSampler):
    """A state holds all batches drawn so far."""

    def state_dict(self) -> dict[str, Any]:
        epoch, position = self.cursor
        return {**super().state_dict(), "drawn": [self.batch(k, epoch) for k in range(position)]}


class StateOfAnySeed(ReferenceSampler):
    """A state of another seed is accepted."""

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        super().load_state_dict({name: value for name, value in state.items() if name != "fingerprint"})


class StateOfAnyOptions(ReferenceSampler):
    """The fingerprint of a state holds the seed only."""

    def fingerprint(self) -> str:
        return str(self.seed)


class StateDiffersByRank(ReferenceSampler):
    """The state of a rank holds the index of its own batch."""

    def state_dict(self) -> dict[str, Any]:
        state = super().state_dict()
        return {**state, "position": state["position"] + self.rank if state["position"] else 0}


class NextEpochLostOnOtherRanks(ReferenceSampler):
    """The epoch after one that was resumed on another number of ranks is skipped."""

    def state_dict(self) -> dict[str, Any]:
        return {**super().state_dict(), "ranks": self.num_replicas}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        super().load_state_dict(state)
        self.skips = state.get("ranks", self.num_replicas) != self.num_replicas

    def steps(self, epoch: int, start: int) -> Iterator[list[int]]:
        if start and getattr(self, "skips", False):
            self.next = (epoch + 2, 0)
        yield from super().steps(epoch, start)


class SecondResumeCountsTwice(ReferenceSampler):
    """A state counts from where its sampler was resumed, which is wrong from the second stop on."""

    start = 0

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        super().load_state_dict(state)
        self.start = state["position"]

    def state_dict(self) -> dict[str, Any]:
        state = super().state_dict()
        skipped = self.start if state["position"] > self.start else 0
        return {**state, "position": state["position"] - skipped}


class ResumesByDrawing(ReferenceSampler):
    """Resuming draws all batches again that were drawn before."""

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        super().load_state_dict(state)
        for k in range(state["position"]):
            self.batch(k, state["epoch"])


class OneListForAll(ReferenceSampler):
    """All batches are one list, whose contents change."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self.list: list[int] = []

    def steps(self, epoch: int, start: int) -> Iterator[list[int]]:
        for batch in super().steps(epoch, start):
            self.list[:] = batch
            yield self.list


class TwoListsInTurn(ReferenceSampler):
    """Batches are two lists in turn, whose contents change."""

    def steps(self, epoch: int, start: int) -> Iterator[list[int]]:
        lists: list[list[int]] = [[], []]
        for step, batch in enumerate(super().steps(epoch, start)):
            lists[step % 2][:] = batch
            yield lists[step % 2]


class CachesBatches(ReferenceSampler):
    """Batches are cached and handed out, so a batch that is changed by its user is changed in the next epoch, too."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self.cache: dict[tuple[int, int | None], list[int]] = {}

    def batch(self, k: int, epoch: int | None = None) -> list[int]:
        key = (k, self.next[0] if epoch is None else epoch)
        if key not in self.cache:
            self.cache[key] = super().batch(*key)
        return self.cache[key]


class CopyStartsAgain(ReferenceSampler):
    """A copy, by pickle or deepcopy, is at the start of the first epoch."""

    def __getstate__(self) -> dict[str, Any]:
        return {**vars(self), "cursor": (0, 0), "next": (0, 0)}


class CopySharesCursor(ReferenceSampler):
    """A deep copy shares its cursor with the original."""

    cursors: ClassVar[dict[int, tuple[int, int]]] = {}

    def __deepcopy__(self, memo: dict[int, Any]) -> CopySharesCursor:
        return self


class CopyForgetsSeed(ReferenceSampler):
    """A pickled sampler has the default seed."""

    def __getstate__(self) -> dict[str, Any]:
        return {**vars(self), "seed": 0, "last_plan": None}


class CannotBePickled(ReferenceSampler):
    """A sampler holds a function that cannot be pickled."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self.identity = lambda batch: batch


class ChangesTable(ReferenceSampler):
    """Each sampler changes a column of its table."""

    def __init__(self, table: Any, *args: Any, **options: Any) -> None:
        super().__init__(table, *args, **options)
        table["samplers"] = table.get("samplers", 0) + 1


class PlanChanges(ReferenceSampler):
    """Arranging a batch changes the plan, so a batch is another one when it is requested again."""

    def arrange(self, rows: np.ndarray, plan: Plan, j: int) -> list[int]:
        plan.permutations[0] = np.roll(plan.permutations[0], 1)
        return super().arrange(rows, plan, j)


class StateOfAnyTable(ReferenceSampler):
    """A state of another table with the same number of rows is accepted."""

    def fingerprint(self) -> str:
        options = self.batch_size, self.leaky, self.drop_last, self.seed, sorted(self.group_shares.tolist())
        return f"{len(self.groups)} {options!r}"


class StateOfAnyRowOrder(StateOfAnyTable):
    """A state of a table with the same rows in another order is accepted."""

    def fingerprint(self) -> str:
        return f"{sorted(map(len, self.strata))} {super().fingerprint()}"
