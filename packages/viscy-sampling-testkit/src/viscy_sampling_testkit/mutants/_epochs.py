"""Mutants with wrong epochs, padding or random access: each is the reference with one mistake, see its docstring."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from viscy_sampling_testkit.mutants.reference import ReferenceSampler


class EpochStays(ReferenceSampler):
    """Without `set_epoch`, each iteration is the same epoch again."""

    def steps(self, epoch: int, start: int) -> Iterator[list[int]]:
        yield from super().steps(epoch, start)
        self.next = (epoch, 0)


class EpochsSkip(ReferenceSampler):
    """Without `set_epoch`, each iteration is the epoch after the next one."""

    def steps(self, epoch: int, start: int) -> Iterator[list[int]]:
        self.next = (epoch + 2, 0)
        yield from super().steps(epoch, start)


class AbandonedEpochContinues(ReferenceSampler):
    """An iteration that is abandoned is continued by the next one, as if a state had been loaded."""

    def steps(self, epoch: int, start: int) -> Iterator[list[int]]:
        for batch in super().steps(epoch, start):
            self.next = self.cursor
            yield batch


class IteratorsShareCursor(ReferenceSampler):
    """Two iterators of a sampler advance a common cursor."""

    def steps(self, epoch: int, start: int) -> Iterator[list[int]]:
        self.cursor = (epoch, start)
        for _ in range(start, self.total, self.num_replicas):
            epoch, first = self.cursor
            self.cursor = self.advance(epoch, first)
            yield self.batch(first + self.rank, epoch)


class EpochFixedAtIter(ReferenceSampler):
    """The epoch is looked up when the iterator is made, so `set_epoch` between that and the first draw is ignored."""

    def __iter__(self) -> Iterator[list[int]]:
        epoch, start = self.cursor = self.next
        self.next = (epoch + 1, 0)
        return self.steps(epoch, start)


class SetEpochIsOneLate(ReferenceSampler):
    """`set_epoch(e)` chooses epoch e + 1, except for 0."""

    def set_epoch(self, epoch: int) -> None:
        super().set_epoch(epoch + (epoch > 0))


class SetEpochRestarts(ReferenceSampler):
    """`set_epoch` with the epoch of a loaded state starts that epoch again."""

    def set_epoch(self, epoch: int) -> None:
        self.cursor = self.next = (epoch, 0)


class SetEpochContinues(ReferenceSampler):
    """`set_epoch` with another epoch than that of a loaded state keeps the index of the state."""

    def set_epoch(self, epoch: int) -> None:
        self.cursor = self.next = (epoch, self.next[1])


class _Padded(ReferenceSampler):
    """The last step is completed in another way; subclasses say in which."""

    def steps(self, epoch: int, start: int) -> Iterator[list[int]]:
        for step, batch in enumerate(super().steps(epoch, start)):
            k = start + step * self.num_replicas + self.rank
            yield batch if k < self.total else self.pad(k, epoch)

    def pad(self, k: int, epoch: int) -> list[int]:
        """Return the batch with index k, beyond the end of the epoch."""
        raise NotImplementedError


class PaddingRepeatsFirst(_Padded):
    """The last step is completed with batch 0 and its successors."""

    def pad(self, k: int, epoch: int) -> list[int]:
        return self.batch(k - self.total, epoch)


class PaddingRepeatsLast(_Padded):
    """The last step is completed with the last batch."""

    def pad(self, k: int, epoch: int) -> list[int]:
        return self.batch(self.total - 1, epoch)


class PaddingFromNextEpoch(_Padded):
    """The last step is completed with batches of the next epoch."""

    def pad(self, k: int, epoch: int) -> list[int]:
        return self.batch(k - self.total, epoch + 1)


class PaddingFromEpochBefore(_Padded):
    """The last step is completed with batches of the epoch before."""

    def pad(self, k: int, epoch: int) -> list[int]:
        return self.batch(k - self.total, max(0, epoch - 1)) if epoch else self.batch(k, epoch)


class PaddingSameOnAllRanks(_Padded):
    """All ranks complete the last step with the same batch."""

    def pad(self, k: int, epoch: int) -> list[int]:
        return self.batch(self.total, epoch)


class PaddingReordered(_Padded):
    """The last step is completed with batch 0 and its successors, whose slots are in another order."""

    def pad(self, k: int, epoch: int) -> list[int]:
        return np.random.default_rng(k).permutation(self.batch(k - self.total, epoch)).tolist()


class PaddingShort(_Padded):
    """The last step is completed with batches of half as many slots."""

    def pad(self, k: int, epoch: int) -> list[int]:
        return self.batch(k, epoch)[: self.batch_size // 2]


class PaddingEmpty(_Padded):
    """The last step is completed with empty batches."""

    def pad(self, k: int, epoch: int) -> list[int]:
        return []


class PaddingOfRowsAtRandom(_Padded):
    """The last step is completed with rows of the table, whatever their group and condition."""

    def pad(self, k: int, epoch: int) -> list[int]:
        rng = np.random.default_rng([self.seed, epoch, k])
        return rng.permutation(len(self.groups))[: self.batch_size].tolist()


class PaddingDependsOnRanks(_Padded):
    """The last step is completed with fresh batches that depend on the number of ranks."""

    def pad(self, k: int, epoch: int) -> list[int]:
        return self.batch(k + self.num_replicas * self.total, epoch)


class PaddingMostlyOfLargestGroup(_Padded):
    """The last step is completed with batches of the group with the most batches."""

    def pad(self, k: int, epoch: int) -> list[int]:
        plan = self.plan(epoch, 1)
        of_largest = np.flatnonzero(plan.homes == self.group_shares.argmax())
        return self.batch(self.total + int(of_largest[(k - self.total) % len(of_largest)]), epoch)


class PaddingIgnoresWindow(ReferenceSampler):
    """Batches beyond the end of an epoch ignore the temporal window, also if they are requested by index."""

    def batch(self, k: int, epoch: int | None = None) -> list[int]:
        if k < self.total:
            return super().batch(k, epoch)
        hours, self.window_hours = self.window_hours, float("inf")
        batch = super().batch(k, epoch)
        self.window_hours = hours
        return batch


class PaddingInWindowOnly(ReferenceSampler):
    """Batches beyond the end of an epoch have no global slots, also if they are requested by index."""

    def batch(self, k: int, epoch: int | None = None) -> list[int]:
        if k < self.total:
            return super().batch(k, epoch)
        fraction, self.global_fraction = self.global_fraction, 0.0
        batch = super().batch(k, epoch)
        self.global_fraction = fraction
        return batch


class ManyRanksOverlap(ReferenceSampler):
    """With more than four ranks, the fifth has the batches of the first."""

    def steps(self, epoch: int, start: int) -> Iterator[list[int]]:
        own_rank, self.rank = self.rank, self.rank % 4
        yield from super().steps(epoch, start)
        self.rank = own_rank


class ManyRanksUneven(ReferenceSampler):
    """If there are more ranks than batches, those without a batch of the epoch have none."""

    def steps(self, epoch: int, start: int) -> Iterator[list[int]]:
        return super().steps(epoch, start) if self.rank < self.total else iter(())


class LengthRoundedDown(ReferenceSampler):
    """The length is rounded down if there are more than four ranks."""

    def __len__(self) -> int:
        return super().__len__() if self.num_replicas <= 4 else self.total // self.num_replicas


class ReplayRaisesBeyondTheEnd(ReferenceSampler):
    """Requesting a batch beyond the end of the epoch raises, although ranks draw such batches."""

    def batch(self, k: int, epoch: int | None = None) -> list[int]:
        if epoch is None and k >= self.total:
            raise IndexError(f"batch {k} is out of range")
        return super().batch(k, epoch)


class ReplayStartsAgainBeyondTheEnd(ReferenceSampler):
    """Requesting a batch beyond the end of the epoch returns one of the epoch, although ranks draw others."""

    def batch(self, k: int, epoch: int | None = None) -> list[int]:
        return super().batch(k % self.total if epoch is None else k, epoch)


class SequenceRepeats(ReferenceSampler):
    """The global sequence repeats after two epochs' worth of batches."""

    def batch(self, k: int, epoch: int | None = None) -> list[int]:
        return super().batch(k % (2 * self.total), epoch)


class ReplayIgnoresEpoch(ReferenceSampler):
    """The epoch of a requested batch is ignored, except by iterators."""

    def steps(self, epoch: int, start: int) -> Iterator[list[int]]:
        for first in range(start, self.total, self.num_replicas):
            self.cursor = self.advance(epoch, first)
            yield super().batch(first + self.rank, epoch)

    def batch(self, k: int, epoch: int | None = None) -> list[int]:
        return super().batch(k, 0)


class ReplayDependsOnIteration(ReferenceSampler):
    """A requested batch depends on how many batches were drawn."""

    def steps(self, epoch: int, start: int) -> Iterator[list[int]]:
        for first in range(start, self.total, self.num_replicas):
            self.cursor = self.advance(epoch, first)
            yield super().batch(first + self.rank, epoch)

    def batch(self, k: int, epoch: int | None = None) -> list[int]:
        return super().batch(k + self.cursor[1] // self.num_replicas, epoch)


class ReplayDisturbsIteration(ReferenceSampler):
    """Requesting a batch while the sampler is iterated changes what the iterator draws next."""

    def steps(self, epoch: int, start: int) -> Iterator[list[int]]:
        self.requested = 0
        for first in range(start, self.total, self.num_replicas):
            self.cursor = self.advance(epoch, first)
            yield super().batch(first + self.rank + self.requested, epoch)

    def batch(self, k: int, epoch: int | None = None) -> list[int]:
        self.requested = 1
        return super().batch(k, epoch)


class ReplayWalks(ReferenceSampler):
    """Requesting a batch builds all batches before it."""

    def batch(self, k: int, epoch: int | None = None) -> list[int]:
        batches: Any = [super(ReplayWalks, self).batch(i, epoch) for i in range(k + 1)]
        return batches[k]


class EightRanksOverlap(ReferenceSampler):
    """If there are eight ranks, the last one has the batches of the one before it."""

    def steps(self, epoch: int, start: int) -> Iterator[list[int]]:
        own_rank = self.rank
        self.rank = 6 if (self.rank, self.num_replicas) == (7, 8) else self.rank
        yield from super().steps(epoch, start)
        self.rank = own_rank


class LengthOfRest(ReferenceSampler):
    """After a state was loaded, the length is the number of batches that remain."""

    start = 0

    def load_state_dict(self, state: Any) -> None:
        super().load_state_dict(state)
        self.start = state["position"]

    def __len__(self) -> int:
        return super().__len__() - self.start // self.num_replicas


class LengthCountsDown(ReferenceSampler):
    """The length is the number of batches that were not drawn yet."""

    def __len__(self) -> int:
        return super().__len__() - self.cursor[1] // self.num_replicas
