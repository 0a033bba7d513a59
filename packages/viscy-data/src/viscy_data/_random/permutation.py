"""A deck: a keyed permutation of 0..size-1 that is computed card by card and never stored.

Every draw of the sampler is a card at some place of a deck, so draws are distinct by construction: nothing is
remembered, rejected or drawn again. Thousands of decks, each of its own size and key, are read by the same array
operations.

A large deck is a Feistel network (M. Luby and C. Rackoff, SIAM J. Comput. 17, 1988) whose left half counts modulo
`high` and whose right half has `low_bits` bits, on the smallest such domain that holds `size`. Values beyond the deck
walk on through the network until they fall into it (cycle walking: J. Black and P. Rogaway, CT-RSA 2002), and a final
rotation by a random number of cards makes every card equally likely at every place. A network of so few bits that it
could only make some of the permutations is not used: a small deck is shuffled outright, by sorting random words.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import TYPE_CHECKING

import numpy as np

from viscy_data._random.hash import SHUFFLED, below, derive, shuffled

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import ArrayLike, NDArray

SMALL = SHUFFLED
_ROTATION = 0
_HALF_WORD = np.uint32(16)
_FOLD = np.uint32(15)
_SCRAMBLE = np.uint32(0x85EBCA6B)
_ROUND_FACTORS = tuple(np.uint32(factor) for factor in (0x9E3779B1, 0x85EBCA77, 0xC2B2AE3D))


@dataclass(frozen=True, slots=True, eq=False)
class Decks:
    """Many decks. All fields have shape (n_decks,) and dtype uint32, but for the shuffled small decks."""

    size: NDArray[np.uint32]
    high: NDArray[np.uint32]
    low_bits: NDArray[np.uint32]
    left_key: NDArray[np.uint32]
    right_key: NDArray[np.uint32]
    rotation: NDArray[np.uint32]
    small_row: NDArray[np.int32]
    """Row of `small` that holds the deck, -1 for a large one; shape (n_decks,)."""
    small: NDArray[np.uint8]
    """The cards of the small decks in order, shape (n_small_decks, cards of the largest)."""

    @classmethod
    def keyed(cls, size: ArrayLike, key: NDArray[np.uint64]) -> Decks:
        """Make a deck of `size` cards (1 to 2**32 - 1) for each word of `key`, both of shape (n_decks,)."""
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
            small=_shuffled(wide[is_small], key[is_small]),
        )

    def take(self, index: NDArray) -> Decks:
        """Return the decks at `index` (positions, repeated at will, or a mask)."""
        return Decks(*(getattr(self, field.name)[index] for field in fields(self)[:-1]), small=self.small)

    def repeat(self, counts: NDArray[np.integer]) -> Decks:
        """Return each deck `counts` times in a row: an entry a slot instead of an entry a deck."""
        return Decks(*(np.repeat(getattr(self, field.name), counts) for field in fields(self)[:-1]), small=self.small)

    def card(self, place: ArrayLike) -> NDArray[np.uint32]:
        """Return the card that lies at `place` (0..size-1) of each deck, shape (n_decks,)."""
        place = np.asarray(place).astype(np.uint32)
        large, small = np.flatnonzero(self.small_row < 0), np.flatnonzero(self.small_row >= 0)
        if not small.size:
            return self._large_card(place)
        card = np.empty_like(place)
        card[small] = self.small[self.small_row[small], place[small]]
        if large.size:
            card[large] = self.take(large)._large_card(place[large])
        return card

    def place(self, card: ArrayLike) -> NDArray[np.uint32]:
        """Return the place at which `card` lies in each deck: the inverse of `card`."""
        card = np.asarray(card).astype(np.uint32)
        place = self._walk(_add_modulo(card, self.size - self.rotation, self.size), _decrypt)
        shuffled = np.flatnonzero(self.small_row >= 0)
        if shuffled.size:
            place[shuffled] = np.argsort(self.small, axis=1)[self.small_row[shuffled], card[shuffled]]
        return place

    def _large_card(self, place: NDArray[np.uint32]) -> NDArray[np.uint32]:
        return _add_modulo(self._walk(place, _encrypt), self.rotation, self.size)

    def _walk(self, value: NDArray[np.uint32], step: Callable) -> NDArray[np.uint32]:
        value = step(self, value)
        outside = np.flatnonzero(value >= self.size)
        while outside.size:
            value[outside] = step(self.take(outside), value[outside])
            outside = outside[value[outside] >= self.size[outside]]
        return value


def _shuffled(size: NDArray[np.uint64], key: NDArray[np.uint64]) -> NDArray[np.uint8]:
    """Shuffle decks of at most SMALL cards, shape (n_decks, cards of the largest)."""
    return shuffled(key, int(size.max(initial=0)), size)


def _encrypt(decks: Decks, value: NDArray[np.uint32]) -> NDArray[np.uint32]:
    mask = (np.uint32(1) << decks.low_bits) - np.uint32(1)
    left, right = value >> decks.low_bits, value & mask
    for factor in _ROUND_FACTORS:
        left = _add_modulo(left, _left_noise(decks, right, factor), decks.high)
        right ^= _right_noise(decks, left, factor, mask)
    left <<= decks.low_bits
    return left | right


def _decrypt(decks: Decks, value: NDArray[np.uint32]) -> NDArray[np.uint32]:
    mask = (np.uint32(1) << decks.low_bits) - np.uint32(1)
    left, right = value >> decks.low_bits, value & mask
    for factor in reversed(_ROUND_FACTORS):
        right ^= _right_noise(decks, left, factor, mask)
        left = _add_modulo(left, decks.high - _left_noise(decks, right, factor), decks.high)
    left <<= decks.low_bits
    return left | right


def _left_noise(decks: Decks, right: NDArray[np.uint32], factor: np.uint32) -> NDArray[np.uint32]:
    """Hash the right half to a number in [0, high)."""
    noise = _hash(right, decks.left_key, factor)
    noise *= decks.high
    noise >>= _HALF_WORD
    return noise


def _right_noise(
    decks: Decks, left: NDArray[np.uint32], factor: np.uint32, mask: NDArray[np.uint32]
) -> NDArray[np.uint32]:
    """Hash the left half to as many bits as the right half has."""
    noise = _hash(left, decks.right_key, factor)
    noise &= mask
    return noise


def _hash(half: NDArray[np.uint32], key: NDArray[np.uint32], factor: np.uint32) -> NDArray[np.uint32]:
    """Hash half a value, under a key, to 16 bits."""
    word = half * factor
    word += key
    word ^= word >> _FOLD
    word *= _SCRAMBLE
    word >>= _HALF_WORD
    return word


def _add_modulo(a: NDArray[np.uint32], b: NDArray[np.uint32], modulus: NDArray[np.uint32]) -> NDArray[np.uint32]:
    """Add `a` in [0, modulus) and `b` in [0, modulus] modulo `modulus`, which must be at most 2**31.

    Where the sum is below the modulus, subtracting wraps around to something larger than the sum.
    """
    total = a + b
    return np.minimum(total, total - modulus)
