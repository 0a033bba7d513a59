"""Mutants with wrong rounds of short epochs: each is the reference with one mistake, which its docstring names."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from viscy_sampling_testkit.mutants.reference import ReferenceSampler, _rounded


class _Relocated(ReferenceSampler):
    """Batches of an epoch are others of its round, or of other rounds; subclasses say which."""

    def locate(self, k: int, epoch: int) -> tuple[int, int, int]:
        first, block, j = super().locate(k, epoch)
        if block:
            return first, block, j
        return self.relocate(first, epoch - first, k)

    def relocate(self, first: int, number: int, k: int) -> tuple[int, int, int]:
        """Return first epoch, block and index of batch k of an epoch, the number of which in its round is given."""
        raise NotImplementedError


class RoundStartsAnew(_Relocated):
    """Each short epoch starts a round of its own."""

    def relocate(self, first: int, number: int, k: int) -> tuple[int, int, int]:
        return first + number, 0, k


class EpochsOfRoundRepeat(_Relocated):
    """All epochs of a round are its first one."""

    def relocate(self, first: int, number: int, k: int) -> tuple[int, int, int]:
        return first, 0, k


class EpochsOfRoundOverlap(_Relocated):
    """Each epoch of a round starts with the last batch of the one before."""

    def relocate(self, first: int, number: int, k: int) -> tuple[int, int, int]:
        return first, 0, number * (self.total - 1) + k


class EpochsOfRoundSkip(_Relocated):
    """Each epoch of a round starts one batch late."""

    def relocate(self, first: int, number: int, k: int) -> tuple[int, int, int]:
        return first, 0, (number * (self.total + 1) + k) % (self.total * self.round_epochs)


class RoundsTheSame(_Relocated):
    """All rounds are the first one."""

    def relocate(self, first: int, number: int, k: int) -> tuple[int, int, int]:
        return 0, 0, number * self.total + k


class RoundsShift(_Relocated):
    """Each round is the one before it, from its second epoch on."""

    def relocate(self, first: int, number: int, k: int) -> tuple[int, int, int]:
        return 0, 0, (number + first // self.round_epochs) % self.round_epochs * self.total + k


class RoundLostOnResume(_Relocated):
    """After a state was loaded, each short epoch starts a round of its own."""

    resumed = False

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        super().load_state_dict(state)
        self.resumed, self.last_plan = True, None

    def relocate(self, first: int, number: int, k: int) -> tuple[int, int, int]:
        return (first + number, 0, k) if self.resumed else (first, 0, number * self.total + k)


class EpochsRoundedTheSameWay(ReferenceSampler):
    """The shares of the groups are rounded the same way in each epoch of a round."""

    def count_epoch(self, rng: np.random.Generator, left: np.ndarray, n_left: int) -> np.ndarray:
        return _rounded(self.total * self.group_shares, 0.5)


class LastEpochOfRoundShort(ReferenceSampler):
    """The last epoch of a round has as many batches as are left of the table."""

    def steps(self, epoch: int, start: int) -> Iterator[list[int]]:
        n_left = len(self.groups) // self.batch_size % self.total
        is_last = epoch % self.round_epochs == self.round_epochs - 1
        for number, batch in enumerate(super().steps(epoch, start)):
            if is_last and start + number * self.stride >= n_left:
                return
            yield batch


class PaddingFromRound(ReferenceSampler):
    """Batches beyond the end of a short epoch are those of the next epoch of its round."""

    def batch(self, k: int, epoch: int | None = None) -> list[int]:
        number = self.next[0] if epoch is None else epoch
        return super().batch(k % self.total, number + k // self.total)
