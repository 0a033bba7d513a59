"""Addresses: every random choice has one, (seed, epoch, batch, purpose) and a slot, and is a function of it alone.

There is no generator whose state could differ between ranks, workers or runs: who needs words of randomness makes the
generator of an address and draws an array whose first axis is the slots of the batch. Words come one after the other,
so those of slot i do not depend on how many slots there are. This is the same idea as the sampler's own, a keyed
function of a counter (Salmon et al. 2011, "Parallel random numbers: as easy as 1, 2, 3").
"""

from __future__ import annotations

from enum import IntEnum
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray


class Purpose(IntEnum):
    """What a random choice is for. A number is never used for another purpose: that would change all runs."""

    POSITIVE = 0
    """Which other time, and which cell, an anchor is compared with."""
    AUGMENTED_ANCHOR = 1
    """How the anchors are turned, brightened and so on."""
    AUGMENTED_POSITIVE = 2
    """The same of the positives."""
    MODEL_NOISE = 3
    """What a model draws in its training step, as for dropout."""


def generator(seed: int, epoch: int, number: int, purpose: Purpose) -> np.random.Generator:
    """Return the generator of an address.

    Parameters
    ----------
    seed, epoch, number : int
        Of the run, and of the batch in the epoch's global sequence; each in [0, 2**32).
    purpose : Purpose
        What is chosen.

    Returns
    -------
    numpy.random.Generator
        A new one, in the same state each time. Draw arrays with the slots first.

    Raises
    ------
    ValueError
        If a number is out of its range.
    """
    return np.random.Generator(np.random.PCG64(_entropy(seed, epoch, number, purpose)))


def words(seed: int, epoch: int, number: int, purpose: Purpose, n_slots: int, n_words: int) -> NDArray[np.float64]:
    """Return uniform words of randomness for the slots of a batch.

    Parameters
    ----------
    seed, epoch, number, purpose
        As of `generator`.
    n_slots : int
        Slots of the batch.
    n_words : int
        Words a slot.

    Returns
    -------
    numpy.ndarray
        Shape (n_slots, n_words), in [0, 1).
    """
    return generator(seed, epoch, number, purpose).random((n_slots, n_words))


def torch_seed(seed: int, epoch: int, number: int, purpose: Purpose) -> int:
    """Return the seed of an address for a generator of torch or another that takes one integer.

    Parameters
    ----------
    seed, epoch, number, purpose
        As of `generator`.

    Returns
    -------
    int
        In [0, 2**63).
    """
    return int(_entropy(seed, epoch, number, purpose).generate_state(1, np.uint64)[0] >> np.uint64(1))


def _entropy(*address: int) -> np.random.SeedSequence:
    """Return the entropy of an address: four words of 32 bits, as many as the pool of a SeedSequence holds."""
    for part in address:
        if not 0 <= part < 2**32:
            raise ValueError(f"parts of an address must be in [0, 2**32), got {part}")
    return np.random.SeedSequence([int(part) for part in address])
