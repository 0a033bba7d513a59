"""Mutants with wrong keys of random numbers: each is the reference with one mistake, which its docstring names."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch

from viscy_sampling_testkit.mutants.reference import ReferenceSampler


class _Key(ReferenceSampler):
    """Seed and epoch enter the key in another way; subclasses say in which."""

    def key(self, epoch: int) -> list[int]:
        """Return the numbers that replace seed and epoch."""
        raise NotImplementedError

    def generator(self, epoch: int, block: int, purpose: int, item: int = 0) -> np.random.Generator:
        return np.random.default_rng([*self.key(epoch), block, purpose, item])


class SeedParity(_Key):
    """Only the parity of the seed is used."""

    def key(self, epoch: int) -> list[int]:
        return [self.seed % 2, epoch]


class SeedByte(_Key):
    """Only the lowest byte of the seed is used."""

    def key(self, epoch: int) -> list[int]:
        return [self.seed & 0xFF, epoch]


class SeedTwoBytes(_Key):
    """Only the two lowest bytes of the seed are used."""

    def key(self, epoch: int) -> list[int]:
        return [self.seed & 0xFFFF, epoch]


class SeedFourBytes(_Key):
    """Only the four lowest bytes of the seed are used."""

    def key(self, epoch: int) -> list[int]:
        return [self.seed & 0xFFFFFFFF, epoch]


class SeedAsFloat(_Key):
    """Large seeds are rounded to the precision of a float."""

    def key(self, epoch: int) -> list[int]:
        return [int(float(self.seed)), epoch]


class SeedModuloThousand(_Key):
    """The seed is reduced modulo 1000."""

    def key(self, epoch: int) -> list[int]:
        return [self.seed % 1000, epoch]


class SeedTimesThousandPlusEpoch(_Key):
    """Epoch 1000 of a seed equals epoch 0 of the next seed."""

    def key(self, epoch: int) -> list[int]:
        return [self.seed * 1000 + epoch, 0]


class SeedXorEpoch(_Key):
    """Seed 2 in epoch 1 equals seed 3 in epoch 0."""

    def key(self, epoch: int) -> list[int]:
        return [self.seed ^ epoch, 0]


class SeedTimesEpoch(_Key):
    """Seed 1 in epoch 2 equals seed 3 in epoch 0."""

    def key(self, epoch: int) -> list[int]:
        return [(self.seed + 1) * (epoch + 1), 0]


class SeedAndEpochSwap(_Key):
    """Seed 3 in epoch 1 equals seed 1 in epoch 3."""

    def key(self, epoch: int) -> list[int]:
        return sorted([self.seed, epoch])


class EpochModuloFour(_Key):
    """Epoch 4 equals epoch 0."""

    def key(self, epoch: int) -> list[int]:
        return [self.seed, epoch % 4]


class EpochModuloHundred(_Key):
    """Epoch 100 equals epoch 0."""

    def key(self, epoch: int) -> list[int]:
        return [self.seed, epoch % 100]


class EpochByte(_Key):
    """Epoch 256 equals epoch 0."""

    def key(self, epoch: int) -> list[int]:
        return [self.seed, epoch & 0xFF]


class HashSeedInKey(_Key):
    """The key contains the hash of a string, which differs between processes."""

    def key(self, epoch: int) -> list[int]:
        return [self.seed, epoch, hash("ReferenceSampler") & 0xFFFF]


class SetOrderInKey(_Key):
    """The key contains the first element of a set of strings, which differs between processes."""

    def key(self, epoch: int) -> list[int]:
        return [self.seed, epoch, int(next(iter({str(number) for number in range(50)})))]


class HashSeedVariableInKey(_Key):
    """The key contains the environment variable PYTHONHASHSEED."""

    def key(self, epoch: int) -> list[int]:
        return [self.seed, epoch, *os.environ.get("PYTHONHASHSEED", "unset").encode()]


class ProcessIdInKey(_Key):
    """The key contains the process id."""

    def key(self, epoch: int) -> list[int]:
        return [self.seed, epoch, os.getpid()]


class DayInKey(_Key):
    """The key contains the day."""

    def key(self, epoch: int) -> list[int]:
        return [self.seed, epoch, int(time.time() // 86_400)]


class ConsumesNumpyGenerator(_Key):
    """A number is drawn from NumPy's global generator and not used."""

    def key(self, epoch: int) -> list[int]:
        np.random.random()  # noqa: NPY002
        return [self.seed, epoch]


class SeedsNumpyGenerator(_Key):
    """NumPy's global generator is seeded."""

    def key(self, epoch: int) -> list[int]:
        np.random.seed(self.seed % 2**32)  # noqa: NPY002
        return [self.seed, epoch]


class ConsumesTorchGenerator(_Key):
    """A number is drawn from torch's global generator and not used."""

    def key(self, epoch: int) -> list[int]:
        torch.rand(1)
        return [self.seed, epoch]


class ThreadInKey(ReferenceSampler):
    """The key holds the name of the thread, unless that is the main thread."""

    def generator(self, epoch: int, block: int, purpose: int, item: int = 0) -> np.random.Generator:
        is_main = threading.current_thread() is threading.main_thread()
        self.last_plan = None
        return np.random.default_rng([self.seed, epoch, block, purpose, item, *([] if is_main else [1])])


class ThreadsCountEpochs(ReferenceSampler):
    """Each thread counts the epochs that it has drawn."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self.threads: dict[int, int] = {}

    def __iter__(self) -> Iterator[list[int]]:
        thread = threading.get_ident()
        if self.threads and thread not in self.threads:
            self.next = (0, 0)
        self.threads[thread] = self.next[0]
        yield from super().__iter__()
