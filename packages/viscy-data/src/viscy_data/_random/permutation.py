"""A keyed permutation of 0..size-1, of which any element is computed on its own and none is stored.

The sampler draws without replacement by taking consecutive elements of a permutation, so draws are distinct by
construction: nothing is remembered, rejected or drawn again. Thousands of permutations, each with its own size and key,
are evaluated by the same array operations.

A large permutation is a Feistel network (M. Luby and C. Rackoff, SIAM J. Comput. 17, 1988) whose left half counts
modulo `high` and whose right half has `low_bits` bits, on the smallest such domain that holds `size` values. A value
outside 0..size-1 passes through the network again until it falls inside (cycle walking: J. Black and P. Rogaway,
CT-RSA 2002), and a final rotation by a random number makes every element equally likely at every index. A network of
few bits can produce only some of the permutations, so a small permutation is shuffled outright, by sorting random
numbers.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from viscy_data._random.hash import MAX_SHUFFLED, below, derive, shuffled

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

SMALL = MAX_SHUFFLED
_ROTATION = 0
# The fields with an entry per permutation.
_COLUMNS = ("size", "high", "low_bits", "left_key", "right_key", "rotation", "small_row")
_HALF_BITS = np.uint32(16)
_FOLD = np.uint32(15)
_MULTIPLIER = np.uint32(0x85EBCA6B)
_ROUND_FACTORS = tuple(np.uint32(factor) for factor in (0x9E3779B1, 0x85EBCA77, 0xC2B2AE3D))


@dataclass(frozen=True, slots=True, eq=False)
class KeyedPermutations:
    """Many permutations. All fields except `small` have shape (n_permutations,), most have dtype uint32."""

    size: NDArray[np.uint32]
    high: NDArray[np.uint32]
    low_bits: NDArray[np.uint32]
    left_key: NDArray[np.uint32]
    right_key: NDArray[np.uint32]
    rotation: NDArray[np.uint32]
    small_row: NDArray[np.int32]
    """Row of `small` that holds the permutation, -1 for a large one."""
    small: NDArray[np.uint8]
    """Elements of the small permutations in order, shape (n_small, size of the largest one)."""

    @classmethod
    def from_keys(cls, size: ArrayLike, key: NDArray[np.uint64]) -> KeyedPermutations:
        """Make a permutation of `size` elements (1 to 2**32 - 1) for each key, both of shape (n_permutations,)."""
        wide = np.asarray(size).astype(np.uint64)
        low_bits = (np.frexp(wide.astype(np.float64))[1] // 2).astype(np.uint64)
        is_small = wide <= SMALL
        return cls(
            size=wide.astype(np.uint32),
            high=((wide + (np.uint64(1) << low_bits) - np.uint64(1)) >> low_bits).astype(np.uint32),
            low_bits=low_bits.astype(np.uint32),
            left_key=key.astype(np.uint32),
            right_key=(key >> np.uint64(32)).astype(np.uint32),
            rotation=below(derive(key, _ROTATION), wide).astype(np.uint32),
            small_row=np.where(is_small, np.cumsum(is_small) - 1, -1).astype(np.int32),
            small=_shuffle_small(wide[is_small], key[is_small]),
        )

    def take(self, which: NDArray) -> KeyedPermutations:
        """Return some of the permutations: `which` holds positions, which may repeat, or is a mask."""
        return KeyedPermutations(*(getattr(self, name)[which] for name in _COLUMNS), small=self.small)

    def repeat(self, counts: NDArray[np.integer]) -> KeyedPermutations:
        """Return each permutation `counts` times in a row: one entry per slot instead of one per permutation."""
        return KeyedPermutations(*(np.repeat(getattr(self, name), counts) for name in _COLUMNS), small=self.small)

    def element(self, index: ArrayLike) -> NDArray[np.uint32]:
        """Return the element at `index` (0..size-1) of each permutation, shape (n_permutations,)."""
        index = np.asarray(index).astype(np.uint32)
        large, small = np.flatnonzero(self.small_row < 0), np.flatnonzero(self.small_row >= 0)
        if not small.size:
            return self._large_element(index)
        element = np.empty_like(index)
        element[small] = self.small[self.small_row[small], index[small]]
        if large.size:
            element[large] = self.take(large)._large_element(index[large])
        return element

    def _large_element(self, index: NDArray[np.uint32]) -> NDArray[np.uint32]:
        """Apply the network until every value is inside 0..size-1, then the rotation."""
        value = _encrypt(self, index)
        outside = np.flatnonzero(value >= self.size)
        while outside.size:
            value[outside] = _encrypt(self.take(outside), value[outside])
            outside = outside[value[outside] >= self.size[outside]]
        return _add_modulo(value, self.rotation, self.size)


def _shuffle_small(size: NDArray[np.uint64], key: NDArray[np.uint64]) -> NDArray[np.uint8]:
    """Return permutations of at most SMALL elements, shape (n_permutations, size of the largest one)."""
    return shuffled(key, int(size.max(initial=0)), size)


def _encrypt(permutations: KeyedPermutations, value: NDArray[np.uint32]) -> NDArray[np.uint32]:
    mask = (np.uint32(1) << permutations.low_bits) - np.uint32(1)
    left, right = value >> permutations.low_bits, value & mask
    for factor in _ROUND_FACTORS:
        left = _add_modulo(left, _left_noise(permutations, right, factor), permutations.high)
        right ^= _right_noise(permutations, left, factor, mask)
    left <<= permutations.low_bits
    return left | right


def _left_noise(permutations: KeyedPermutations, right: NDArray[np.uint32], factor: np.uint32) -> NDArray[np.uint32]:
    """Hash the right half to a number in [0, high)."""
    noise = _hash(right, permutations.left_key, factor)
    noise *= permutations.high
    noise >>= _HALF_BITS
    return noise


def _right_noise(
    permutations: KeyedPermutations, left: NDArray[np.uint32], factor: np.uint32, mask: NDArray[np.uint32]
) -> NDArray[np.uint32]:
    """Hash the left half to as many bits as the right half has."""
    noise = _hash(left, permutations.right_key, factor)
    noise &= mask
    return noise


def _hash(half: NDArray[np.uint32], key: NDArray[np.uint32], factor: np.uint32) -> NDArray[np.uint32]:
    """Hash one half of a value, under a key, to 16 bits."""
    bits = half * factor
    bits += key
    bits ^= bits >> _FOLD
    bits *= _MULTIPLIER
    bits >>= _HALF_BITS
    return bits


def _add_modulo(a: NDArray[np.uint32], b: NDArray[np.uint32], modulus: NDArray[np.uint32]) -> NDArray[np.uint32]:
    """Add `a` in [0, modulus) and `b` in [0, modulus] modulo `modulus`, which must be at most 2**31.

    Where the sum is below the modulus, the subtraction wraps around to a number larger than the sum.
    """
    total = a + b
    return np.minimum(total, total - modulus)
