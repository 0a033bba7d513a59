"""Random words by address: a counter-based hash from (seed, epoch, batch, ...) to 64-bit words.

A word depends on its address alone, never on what was drawn before it, so batch k costs the same whichever batches came
first and whichever rank asks. Only integer arithmetic modulo 2**64 is used: the words are the same on every platform
and in every release of NumPy.

The finaliser is variant 13 of D. Stafford, "Better Bit Mixing" (2011), as used by SplitMix64 (G. Steele, D. Lea and
C. Flood, "Fast Splittable Pseudorandom Number Generators", OOPSLA 2014), whose counter increment is `_GAMMA`.
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

_GAMMA = 0x9E3779B97F4A7C15
_WORD = 2**64 - 1
_FIRST = np.uint64(0xBF58476D1CE4E5B9)
_SECOND = np.uint64(0x94D049BB133111EB)
_HALF_WORD = np.uint64(32)

SHUFFLED = 128
_CARD = np.uint32(SHUFFLED - 1)


def epoch_key(seed: int, epoch: int) -> NDArray[np.uint64]:
    """Return the key of one epoch's randomness, shape (1,); seed and epoch may be of any size."""
    digest = hashlib.blake2b(f"{seed}/{epoch}".encode(), digest_size=8).digest()
    return np.array([int.from_bytes(digest, "little")], np.uint64)


def derive(key: NDArray[np.uint64], *address: ArrayLike) -> NDArray[np.uint64]:
    """Return the key, or random word, at an address below `key`.

    Parameters
    ----------
    key
        Keys.
    *address
        Non-negative integers or arrays of them, from the widest scope to the narrowest, broadcast against `key` and
        each other.

    Returns
    -------
    NDArray[np.uint64]
        One word for every combination, in the broadcast shape.
    """
    for part in address:
        if isinstance(part, int):  # worked out as an integer: NumPy's scalars would warn where arrays wrap around
            step = np.uint64((part + 1) * _GAMMA & _WORD)
        else:
            step = (np.asarray(part).astype(np.uint64) + np.uint64(1)) * np.uint64(_GAMMA)
        key = _mix_in_place(key + step)
    return key


def mix(word: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """Scramble 64-bit words one-to-one, so that words that differ in one bit come out unrelated."""
    return _mix_in_place(word.copy())


def _mix_in_place(word: NDArray[np.uint64]) -> NDArray[np.uint64]:
    shifted = word >> np.uint64(30)
    word ^= shifted
    word *= _FIRST
    np.right_shift(word, np.uint64(27), out=shifted)
    word ^= shifted
    word *= _SECOND
    np.right_shift(word, np.uint64(31), out=shifted)
    word ^= shifted
    return word


def below(word: NDArray[np.uint64], bound: ArrayLike) -> NDArray[np.uint64]:
    """Scale random words to integers in [0, bound), for bounds of at most 2**32.

    The upper 32 bits are multiplied and shifted (D. Lemire, "Fast Random Integer Generation in an Interval", 2019,
    without the rejection step: a value's probability is off by at most 2**-32).
    """
    return ((word >> _HALF_WORD) * np.asarray(bound).astype(np.uint64)) >> _HALF_WORD


def half_words(key: NDArray[np.uint64], n: int) -> NDArray[np.uint32]:
    """Return the first `n` 32-bit words below each key, two out of every 64-bit one; shape (n_keys, n)."""
    words = derive(key[:, None], np.arange(-(-n // 2)))
    return words.astype("<u8", copy=False).view("<u4")[:, :n]  # the low half first, on every platform


def shuffled(key: NDArray[np.uint64], n: int, size: ArrayLike = SHUFFLED) -> NDArray[np.uint8]:
    """Shuffle small decks outright: sort random words that carry the cards in their lowest bits.

    Parameters
    ----------
    key
        Of each deck, shape (n_decks,).
    n
        Cards of a deck, at most SHUFFLED.
    size
        The cards from this one on come last, unshuffled; shape (n_decks,).

    Returns
    -------
    NDArray[np.uint8]
        0..n-1 in random order, shape (n_decks, n).
    """
    card = np.arange(n, dtype=np.uint32)
    words = half_words(key, n) & ~_CARD | card
    words |= (card >= np.reshape(size, (-1, 1))) * ~_CARD
    words.sort(axis=1)
    return (words & _CARD).astype(np.uint8)
