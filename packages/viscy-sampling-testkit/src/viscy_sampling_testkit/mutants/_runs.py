"""Mutants with wrong ranks, epochs or states: each is the reference with one mistake, which its docstring names."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, ClassVar

import numpy as np

from viscy_sampling_testkit.mutants.reference import Plan, ReferenceSampler


class SeedPlusEpoch(ReferenceSampler):
    """Epoch 1 of a seed equals epoch 0 of the next seed."""

    def generator(self, epoch: int, block: int, purpose: int, item: int = 0) -> np.random.Generator:
        return np.random.default_rng([self.seed + epoch, 0, block, purpose, item])


class SeedIgnored(ReferenceSampler):
    """All seeds give the same sequence."""

    def generator(self, epoch: int, block: int, purpose: int, item: int = 0) -> np.random.Generator:
        return np.random.default_rng([0, epoch, block, purpose, item])


class PlanSharedByAllSeeds(ReferenceSampler):
    """Plans are cached by epoch for all samplers, whatever their seed."""

    plans: ClassVar[dict[tuple[int, int, int], Plan]] = {}

    def plan(self, epoch: int, block: int) -> Plan:
        return self.plans.setdefault((epoch, block, len(self.groups)), super().plan(epoch, block))


class EpochRepeats(ReferenceSampler):
    """Every epoch equals the first."""

    def batch(self, k: int, epoch: int | None = None) -> list[int]:
        return super().batch(k, 0)


class EpochsShiftByOne(ReferenceSampler):
    """Each epoch is the previous one without its first batch."""

    def batch(self, k: int, epoch: int | None = None) -> list[int]:
        return super().batch(k + (self.next[0] if epoch is None else epoch), 0)


class EpochsAddUp(ReferenceSampler):
    """The epoch that is set is added to the next one instead of replacing it."""

    def set_epoch(self, epoch: int) -> None:
        self.next = (self.next[0] + epoch, 0)


class UnevenRanks(ReferenceSampler):
    """Ranks stop at the end of the epoch, so some have one batch fewer."""

    def steps(self, epoch: int, start: int) -> Iterator[list[int]]:
        n_own = len(range(start + self.rank, self.total, self.num_replicas))
        for _, batch in zip(range(n_own), super().steps(epoch, start), strict=False):
            yield batch


class RanksInBlocks(ReferenceSampler):
    """Each rank has a contiguous block of the sequence instead of every R-th batch."""

    def steps(self, epoch: int, start: int) -> Iterator[list[int]]:
        for step, _ in enumerate(super().steps(epoch, start)):
            yield self.batch(start + self.rank * len(self) + step, epoch)


class RanksOverlap(ReferenceSampler):
    """The last rank has the batches of the rank before it."""

    def steps(self, epoch: int, start: int) -> Iterator[list[int]]:
        own_rank = self.rank
        self.rank = min(self.rank, max(0, self.num_replicas - 2))
        yield from super().steps(epoch, start)
        self.rank = own_rank


class RanksIncomplete(ReferenceSampler):
    """If there are several ranks, each leaves out its last batch."""

    def steps(self, epoch: int, start: int) -> Iterator[list[int]]:
        n_own = len(self) - (self.num_replicas > 1)
        for _, batch in zip(range(n_own), super().steps(epoch, start), strict=False):
            yield batch


class RankBuildsAll(ReferenceSampler):
    """A rank builds the batches of all ranks and discards those of the others."""

    def steps(self, epoch: int, start: int) -> Iterator[list[int]]:
        for step, _ in enumerate(super().steps(epoch, start)):
            first = start + step * self.num_replicas
            yield [self.batch(k, epoch) for k in range(first, first + self.num_replicas)][self.rank]


class RankBuildsAllInAdvance(ReferenceSampler):
    """A rank builds the batches of the complete epoch before it yields its first one."""

    def steps(self, epoch: int, start: int) -> Iterator[list[int]]:
        built = [self.batch(k, epoch) for k in range(start, self.total + self.num_replicas)]
        for first in range(start, self.total, self.num_replicas):
            self.cursor = self.advance(epoch, first)
            yield built[first - start + self.rank]


class RankHoldsAll(ReferenceSampler):
    """A rank allocates memory for every rank."""

    def steps(self, epoch: int, start: int) -> Iterator[list[int]]:
        buffers = [bytearray(1_000_000) for _ in range(self.num_replicas)]
        for batch in super().steps(epoch, start):
            yield batch[: len(buffers) * self.batch_size]


class LengthOfAllRanks(ReferenceSampler):
    """The length is the number of batches of all ranks together."""

    def __len__(self) -> int:
        return self.total


class NeverEnds(ReferenceSampler):
    """An epoch repeats forever."""

    def steps(self, epoch: int, start: int) -> Iterator[list[int]]:
        while True:
            yield from super().steps(epoch, start)


class RaisesAtTheEnd(ReferenceSampler):
    """The last batch of an epoch raises an exception."""

    def batch(self, k: int, epoch: int | None = None) -> list[int]:
        if k >= self.total - 1:
            raise IndexError(f"batch {k} is out of range")
        return super().batch(k, epoch)


class RestartsAfterResume(ReferenceSampler):
    """A resumed epoch starts from its first batch."""

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        super().load_state_dict({**state, "position": 0})


class SkipsBatchAfterResume(ReferenceSampler):
    """A resumed epoch skips a batch."""

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        position = state["position"]
        super().load_state_dict({**state, "position": position + self.num_replicas if position else 0})


class RepeatsEpochAfterResume(ReferenceSampler):
    """The epoch after a resumed one is the same epoch again."""

    def __iter__(self) -> Iterator[list[int]]:
        was_resumed = self.next[1] > 0
        batches = super().__iter__()
        if was_resumed:
            self.next = (self.next[0] - 1, 0)
        return batches


class StaysAtTheEnd(ReferenceSampler):
    """A state saved at the end of an epoch resumes as an epoch without batches."""

    def state_dict(self) -> dict[str, Any]:
        epoch, position = self.cursor
        return {"epoch": epoch - 1, "position": self.total} if epoch and not position else super().state_dict()


class StateAliases(ReferenceSampler):
    """A state changes after it was saved."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self.state: dict[str, int] = {}

    def state_dict(self) -> dict[str, Any]:
        self.state.update(super().state_dict())
        return self.state

    def steps(self, epoch: int, start: int) -> Iterator[list[int]]:
        for batch in super().steps(epoch, start):
            self.state_dict()
            yield batch


class StateCountsItsOwnSteps(ReferenceSampler):
    """A state holds the number of steps, which means another batch on another number of ranks."""

    def state_dict(self) -> dict[str, Any]:
        return {"epoch": self.cursor[0], "position": self.cursor[1] // self.num_replicas}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        super().load_state_dict({**state, "position": state["position"] * self.num_replicas})


class ReplayMovesCursor(ReferenceSampler):
    """Requesting a batch by index moves the cursor to it."""

    def batch(self, k: int, epoch: int | None = None) -> list[int]:
        if epoch is None:
            self.next = (self.next[0], k)
        return super().batch(k, epoch)


class ReplayCountsFromOne(ReferenceSampler):
    """Requesting batch k returns batch k - 1."""

    def batch(self, k: int, epoch: int | None = None) -> list[int]:
        return super().batch(max(k - 1, 0) if epoch is None else k, epoch)


class DrawsFromGlobalGenerator(ReferenceSampler):
    """Random numbers depend on NumPy's global generator."""

    def generator(self, epoch: int, block: int, purpose: int, item: int = 0) -> np.random.Generator:
        entropy = np.random.randint(2**31)  # noqa: NPY002
        return np.random.default_rng([int(entropy), self.seed, epoch, block, purpose, item])


class SharesCursor(ReferenceSampler):
    """Samplers of one process share their cursor."""

    shared: ClassVar[dict[str, int]] = {"k": 0}

    def steps(self, epoch: int, start: int) -> Iterator[list[int]]:
        self.shared["k"] = start
        for _ in super().steps(epoch, start):
            yield self.batch(self.shared["k"] + self.rank, epoch)
            self.shared["k"] += self.num_replicas


class AnotherBitGenerator(ReferenceSampler):
    """The bit generator differs from the one with which the digest was recorded."""

    def generator(self, epoch: int, block: int, purpose: int, item: int = 0) -> np.random.Generator:
        return np.random.Generator(np.random.SFC64([self.seed, epoch, block, purpose, item]))
