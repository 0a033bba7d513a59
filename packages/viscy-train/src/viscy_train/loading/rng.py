"""Counter-based RNG: every random number is a function of its key (seed, epoch, batch index, purpose) and slot.

No generator keeps state that could differ between ranks, workers or runs. To draw numbers for a batch, make the
generator of its key and draw an array whose first axis is the slots: numbers are drawn in order, so those of slot i do
not depend on the number of slots. The sampler uses the same idea, a keyed function of a counter (Salmon et al. 2011,
"Parallel random numbers: as easy as 1, 2, 3").
"""

from __future__ import annotations

from enum import IntEnum
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray


_STEP = np.uint64(0x9E3779B97F4A7C15)
_FACTORS = np.uint64(0xBF58476D1CE4E5B9), np.uint64(0x94D049BB133111EB)


class Purpose(IntEnum):
    """What random numbers are used for. Never reuse a value for another purpose: that would change every run."""

    POSITIVE = 0
    """Choice of the positive of an anchor."""
    AUGMENTED_ANCHOR = 1
    """Augmentation of the anchors."""
    AUGMENTED_POSITIVE = 2
    """Augmentation of the positives."""
    MODEL_NOISE = 3
    """Randomness of the model in a training step, such as dropout."""
    SLICES_OF_ANCHOR = 10
    """Choice of the slices of the anchors."""
    SLICES_OF_POSITIVE = 11
    """Choice of the slices of the positives."""
    FRAME_OF_POSITIVES = 12
    """Choice of a frame that the positives of a position share."""


def make_generator(seed: int, epoch: int, batch_index: int, purpose: Purpose) -> np.random.Generator:
    """Return the generator of a key.

    Parameters
    ----------
    seed : int
        Seed of the run, in [0, 2**32).
    epoch, batch_index : int
        Epoch, and index of the batch in the epoch's global sequence, each in [0, 2**32).
    purpose : Purpose
        What the numbers are used for.

    Returns
    -------
    numpy.random.Generator
        A new generator, always in the same state. Draw arrays whose first axis is the slots.

    Raises
    ------
    ValueError
        If a part of the key is out of range.
    """
    return np.random.Generator(np.random.PCG64(_seed_sequence(seed, epoch, batch_index, purpose)))


def random_uniform(
    seed: int, epoch: int, batch_index: int, purpose: Purpose, n_slots: int, n_per_slot: int
) -> NDArray[np.float64]:
    """Return uniform random numbers for the slots of a batch.

    Parameters
    ----------
    seed, epoch, batch_index, purpose
        The key, as for `make_generator`.
    n_slots : int
        Number of slots of the batch.
    n_per_slot : int
        Number of random numbers per slot.

    Returns
    -------
    numpy.ndarray
        Numbers in [0, 1), shape (n_slots, n_per_slot).
    """
    return make_generator(seed, epoch, batch_index, purpose).random((n_slots, n_per_slot))


def torch_seed(seed: int, epoch: int, batch_index: int, purpose: Purpose) -> int:
    """Return a seed for torch, or for another generator that takes one integer.

    Parameters
    ----------
    seed, epoch, batch_index, purpose
        The key, as for `make_generator`.

    Returns
    -------
    int
        In [0, 2**63).
    """
    return int(_seed_sequence(seed, epoch, batch_index, purpose).generate_state(1, np.uint64)[0] >> np.uint64(1))


def uniform_at(
    seed: int, epoch: int, batch_index: int, purpose: Purpose, *counters: NDArray[np.integer]
) -> NDArray[np.float64]:
    """Return uniform random numbers of a batch, each a function of the key and of its own counters.

    Parameters
    ----------
    seed, epoch, batch_index, purpose
        The key, as for `make_generator`.
    *counters : numpy.ndarray
        Non-negative integers, all of one shape.

    Returns
    -------
    numpy.ndarray
        Numbers in (0, 1) in the shape of the counters; equal where all counters are.

    Notes
    -----
    Each counter is added in steps of SplitMix64 (G. Steele, D. Lea and C. Flood, "Fast Splittable Pseudorandom Number
    Generators", OOPSLA 2014) and mixed by its finalizer.
    """
    bits = _seed_sequence(seed, epoch, batch_index, purpose).generate_state(1, np.uint64)
    for counter in counters:
        bits = bits + (counter.astype(np.uint64) + np.uint64(1)) * _STEP
        for shift, factor in ((30, _FACTORS[0]), (27, _FACTORS[1])):
            bits = (bits ^ (bits >> np.uint64(shift))) * factor
        bits ^= bits >> np.uint64(31)
    return ((bits >> np.uint64(11)).astype(np.float64) + 0.5) * 2.0**-53


def _seed_sequence(*key: int) -> np.random.SeedSequence:
    """Return the seed sequence of a key: four words of 32 bits, the size of its entropy pool."""
    for part in key:
        if not 0 <= part < 2**32:
            raise ValueError(f"parts of a key must be in [0, 2**32), got {part}")
    return np.random.SeedSequence([int(part) for part in key])
