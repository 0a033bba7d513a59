"""Samplers whose ranks, epochs or states are wrong: each is the reference but for one mistake."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, ClassVar

import numpy as np

from viscy_sampling_testkit.mutants.reference import Plan, ReferenceSampler


class SeedPlusEpoch(ReferenceSampler):
    """Epoch 1 of a seed is epoch 0 of the next."""

    def generator(self, epoch: int, block: int, purpose: int, item: int = 0) -> np.random.Generator:
        return np.random.default_rng([self.seed + epoch, 0, block, purpose, item])


class SeedIgnored(ReferenceSampler):
    """All seeds give the same sequence."""

    def generator(self, epoch: int, block: int, purpose: int, item: int = 0) -> np.random.Generator:
        return np.random.default_rng([0, epoch, block, purpose, item])


class PlanSharedByAllSeeds(ReferenceSampler):
    """Plans are kept by epoch for all samplers, whatever their seed."""

    plans: ClassVar[dict[tuple[int, int, int], Plan]] = {}

    def plan(self, epoch: int, block: int) -> Plan:
        return self.plans.setdefault((epoch, block, len(self.groups)), super().plan(epoch, block))


class EpochRepeats(ReferenceSampler):
    """All epochs are the first."""

    def batch(self, k: int, epoch: int | None = None) -> list[int]:
        return super().batch(k, 0)


class EpochsShiftByOne(ReferenceSampler):
    """Each epoch is the one before without its first batch."""

    def batch(self, k: int, epoch: int | None = None) -> list[int]:
        return super().batch(k + (self.next[0] if epoch is None else epoch), 0)


class EpochsAddUp(ReferenceSampler):
    """The epoch that is set is added to the one that would be next."""

    def set_epoch(self, epoch: int) -> None:
        self.next = (self.next[0] + epoch, 0)


class UnevenRanks(ReferenceSampler):
    """Ranks stop where the epoch does, so some have a batch less."""

    def steps(self, epoch: int, start: int) -> Iterator[list[int]]:
        n_own = len(range(start + self.rank, self.total, self.num_replicas))
        for _, batch in zip(range(n_own), super().steps(epoch, start), strict=False):
            yield batch


class RanksInBlocks(ReferenceSampler):
    """Each rank has a stretch of the sequence, in place of taking turns."""

    def steps(self, epoch: int, start: int) -> Iterator[list[int]]:
        for step, _ in enumerate(super().steps(epoch, start)):
            yield self.batch(start + self.rank * len(self) + step, epoch)


class RanksOverlap(ReferenceSampler):
    """The last rank has the batches of the one before."""

    def steps(self, epoch: int, start: int) -> Iterator[list[int]]:
        mine = self.rank
        self.rank = min(self.rank, max(0, self.num_replicas - 2))
        yield from super().steps(epoch, start)
        self.rank = mine


class RanksIncomplete(ReferenceSampler):
    """Where there are several ranks, each leaves out its last batch."""

    def steps(self, epoch: int, start: int) -> Iterator[list[int]]:
        n_own = len(self) - (self.num_replicas > 1)
        for _, batch in zip(range(n_own), super().steps(epoch, start), strict=False):
            yield batch


class RankBuildsAll(ReferenceSampler):
    """A rank builds the batches of all ranks and throws away those of the others."""

    def steps(self, epoch: int, start: int) -> Iterator[list[int]]:
        for step, _ in enumerate(super().steps(epoch, start)):
            first = start + step * self.num_replicas
            yield [self.batch(k, epoch) for k in range(first, first + self.num_replicas)][self.rank]


class RankBuildsAllAhead(ReferenceSampler):
    """A rank builds the batches of the whole epoch before it yields the first of its own."""

    def steps(self, epoch: int, start: int) -> Iterator[list[int]]:
        built = [self.batch(k, epoch) for k in range(start, self.total + self.num_replicas)]
        for step, _ in enumerate(range(start, self.total, self.num_replicas)):
            position = start + (step + 1) * self.num_replicas
            self.at = (epoch, position) if position < self.total else (epoch + 1, 0)
            yield built[step * self.num_replicas + self.rank]


class RankHoldsAll(ReferenceSampler):
    """A rank keeps memory for every other one."""

    def steps(self, epoch: int, start: int) -> Iterator[list[int]]:
        plans = [bytearray(1_000_000) for _ in range(self.num_replicas)]
        for batch in super().steps(epoch, start):
            yield batch[: len(plans) * self.batch_size]


class LengthOfAllRanks(ReferenceSampler):
    """The length is that of all ranks together."""

    def __len__(self) -> int:
        return self.total


class NeverEnds(ReferenceSampler):
    """An epoch goes on and on."""

    def steps(self, epoch: int, start: int) -> Iterator[list[int]]:
        while True:
            yield from super().steps(epoch, start)


class RaisesAtTheEnd(ReferenceSampler):
    """The last batch of an epoch raises an exception."""

    def batch(self, k: int, epoch: int | None = None) -> list[int]:
        if k >= self.total - 1:
            raise IndexError(f"batch {k} is out of range")
        return super().batch(k, epoch)


class StartsOverAfterResume(ReferenceSampler):
    """A state holds the epoch and forgets the place in it."""

    def load_state_dict(self, state: Mapping[str, int]) -> None:
        super().load_state_dict({**state, "position": 0})


class SkipsABatchAfterResume(ReferenceSampler):
    """The batch after the stop is taken for one that was drawn."""

    def load_state_dict(self, state: Mapping[str, int]) -> None:
        position = state["position"]
        super().load_state_dict({**state, "position": position + self.num_replicas if position else 0})


class ReplaysTheEpochAfterResume(ReferenceSampler):
    """When a resumed epoch has ended, it comes again."""

    def __iter__(self) -> Iterator[list[int]]:
        was_resumed = self.next[1] > 0
        batches = super().__iter__()
        if was_resumed:
            self.next = (self.next[0] - 1, 0)
        return batches


class StaysAtTheEnd(ReferenceSampler):
    """The state of an epoch's end resumes there, with nothing left to yield."""

    def state_dict(self) -> dict[str, int]:
        epoch, position = self.at
        return {"epoch": epoch - 1, "position": self.total} if epoch and not position else super().state_dict()


class StateAliases(ReferenceSampler):
    """A state changes after it was taken."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self.state: dict[str, int] = {}

    def state_dict(self) -> dict[str, int]:
        self.state.update(super().state_dict())
        return self.state

    def steps(self, epoch: int, start: int) -> Iterator[list[int]]:
        for batch in super().steps(epoch, start):
            self.state_dict()
            yield batch


class StateCountsItsOwnSteps(ReferenceSampler):
    """A state holds the number of steps, which is another place with other ranks."""

    def state_dict(self) -> dict[str, int]:
        return {"epoch": self.at[0], "position": self.at[1] // self.num_replicas}

    def load_state_dict(self, state: Mapping[str, int]) -> None:
        super().load_state_dict({**state, "position": state["position"] * self.num_replicas})


class ReplayMovesOn(ReferenceSampler):
    """A batch that is asked for by its number is where iteration goes on."""

    def batch(self, k: int, epoch: int | None = None) -> list[int]:
        if epoch is None:
            self.next = (self.next[0], k)
        return super().batch(k, epoch)


class ReplayCountsFromOne(ReferenceSampler):
    """Batch k, when asked for, is the one before batch k."""

    def batch(self, k: int, epoch: int | None = None) -> list[int]:
        return super().batch(max(k - 1, 0) if epoch is None else k, epoch)


class DrawsFromTheGlobalGenerator(ReferenceSampler):
    """Slots are drawn from the global generator of NumPy."""

    def generator(self, epoch: int, block: int, purpose: int, item: int = 0) -> np.random.Generator:
        entropy = np.random.randint(2**31)  # noqa: NPY002
        return np.random.default_rng([int(entropy), self.seed, epoch, block, purpose, item])


class SharesItsPlace(ReferenceSampler):
    """Samplers of one process share the place in the epoch."""

    place: ClassVar[dict[str, int]] = {"k": 0}

    def steps(self, epoch: int, start: int) -> Iterator[list[int]]:
        self.place["k"] = start
        for _ in super().steps(epoch, start):
            yield self.batch(self.place["k"] + self.rank, epoch)
            self.place["k"] += self.num_replicas


class AnotherStream(ReferenceSampler):
    """Random numbers come from another bit generator than when the digest was recorded."""

    def generator(self, epoch: int, block: int, purpose: int, item: int = 0) -> np.random.Generator:
        return np.random.Generator(np.random.SFC64([self.seed, epoch, block, purpose, item]))
