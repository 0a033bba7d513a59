"""A counter-based random number generator: a hash from a key and counters to 64 random bits.

The bits depend only on the key and the counters (seed, epoch, batch, ...), never on what was drawn before them. So
batch k costs the same whichever batches were composed first and on whichever rank. The hash uses only integer
arithmetic modulo 2**64: its results are the same on every platform and in every release of NumPy.

The finalizer is variant 13 of D. Stafford, "Better Bit Mixing" (2011), as used by SplitMix64 (G. Steele, D. Lea and
C. Flood, "Fast Splittable Pseudorandom Number Generators", OOPSLA 2014), whose counter increment is `_GAMMA`.
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

_GAMMA = 0x9E3779B97F4A7C15
_MASK_64 = 2**64 - 1
_FIRST_MULTIPLIER = np.uint64(0xBF58476D1CE4E5B9)
_SECOND_MULTIPLIER = np.uint64(0x94D049BB133111EB)
_HALF_BITS = np.uint64(32)

MAX_SHUFFLED = 128
_ELEMENT_MASK = np.uint32(MAX_SHUFFLED - 1)


def epoch_key(seed: int, epoch: int) -> NDArray[np.uint64]:
    """Return the key of one epoch's randomness, shape (1,); `seed` and `epoch` may be integers of any size."""
    digest = hashlib.blake2b(f"{seed}/{epoch}".encode(), digest_size=8).digest()
    return np.array([int.from_bytes(digest, "little")], np.uint64)


def derive(key: NDArray[np.uint64], *counters: ArrayLike) -> NDArray[np.uint64]:
    """Derive keys, or random bits, from a key and counters.

    Parameters
    ----------
    key
        Keys.
    *counters
        Non-negative integers or arrays of them, from the widest scope to the narrowest. They are broadcast against
        `key` and each other.

    Returns
    -------
    NDArray[np.uint64]
        64 bits for every combination, in the broadcast shape.
    """
    for counter in counters:
        if isinstance(counter, int):  # computed with Python integers: NumPy scalars warn on overflow, arrays do not
            step = np.uint64((counter + 1) * _GAMMA & _MASK_64)
        else:
            step = (np.asarray(counter).astype(np.uint64) + np.uint64(1)) * np.uint64(_GAMMA)
        key = _scramble_in_place(key + step)
    return key


def scramble(bits: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """Scramble 64-bit integers one-to-one, so that inputs that differ in one bit have unrelated results."""
    return _scramble_in_place(bits.copy())


def _scramble_in_place(bits: NDArray[np.uint64]) -> NDArray[np.uint64]:
    shifted = bits >> np.uint64(30)
    bits ^= shifted
    bits *= _FIRST_MULTIPLIER
    np.right_shift(bits, np.uint64(27), out=shifted)
    bits ^= shifted
    bits *= _SECOND_MULTIPLIER
    np.right_shift(bits, np.uint64(31), out=shifted)
    bits ^= shifted
    return bits


def below(bits: NDArray[np.uint64], bound: ArrayLike) -> NDArray[np.uint64]:
    """Scale random bits to integers in [0, bound), for bounds of at most 2**32.

    The upper 32 bits are multiplied and shifted (D. Lemire, "Fast Random Integer Generation in an Interval", 2019,
    without the rejection step: the probability of a value is off by at most 2**-32).
    """
    return ((bits >> _HALF_BITS) * np.asarray(bound).astype(np.uint64)) >> _HALF_BITS


def random_uint32(key: NDArray[np.uint64], n: int) -> NDArray[np.uint32]:
    """Return `n` random 32-bit integers for each key, two from every 64 bits; shape (n_keys, n)."""
    bits = derive(key[:, None], np.arange(-(-n // 2)))
    return bits.astype("<u8", copy=False).view("<u4")[:, :n]  # the lower half first, on every platform


def shuffled(key: NDArray[np.uint64], n: int, size: ArrayLike = MAX_SHUFFLED) -> NDArray[np.uint8]:
    """Return small random permutations: random numbers that carry an element in their lowest bits are sorted.

    Parameters
    ----------
    key
        Key of each permutation, shape (n_permutations,).
    n
        Number of elements, at most MAX_SHUFFLED.
    size
        Number of elements to shuffle; elements from `size` on come last, in ascending order. Shape (n_permutations,).

    Returns
    -------
    NDArray[np.uint8]
        0..n-1 in random order, shape (n_permutations, n).
    """
    element = np.arange(n, dtype=np.uint32)
    numbers = random_uint32(key, n) & ~_ELEMENT_MASK | element
    numbers |= np.where(element >= np.reshape(size, (-1, 1)), ~_ELEMENT_MASK, np.uint32(0))
    numbers.sort(axis=1)
    return (numbers & _ELEMENT_MASK).astype(np.uint8)
