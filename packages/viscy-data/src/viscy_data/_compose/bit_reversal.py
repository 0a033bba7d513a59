"""Bit reversal: numbers with their lowest bits in reverse order, and how many such numbers are below a limit.

The reversed numbers 0, 1, 2, ... fill their range as evenly as possible (J. G. van der Corput, 1935). How many of the
first n reversed numbers are below a limit is counted without listing them, six bits at a time.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

_DIGIT = 6
_BASE = 1 << _DIGIT
_REVERSED = np.array([int(f"{digit:06b}"[::-1], 2) for digit in range(_BASE)])
_IS_FIRST = np.arange(_BASE + 1)[:, None, None] > np.arange(_BASE)  # [n, 0, i]: whether digit i is one of the first n
_DIGITS = np.arange(_BASE + 1)[:, None]
# [n, d]: how many of the first n digits are, when reversed, less than d, times two; plus one if one of them equals d
_BELOW = 2 * (_IS_FIRST & (_REVERSED < _DIGITS)).sum(axis=2) + (_IS_FIRST & (_REVERSED == _DIGITS)).sum(axis=2)


def reverse(number: NDArray[np.int64], bits: int) -> NDArray[np.int64]:
    """Reverse the lowest `bits` (at most 24) of non-negative numbers."""
    result = np.zeros_like(number)
    n_digits = -(-bits // _DIGIT)
    for _ in range(n_digits):
        result = (result << _DIGIT) | _REVERSED[number % _BASE]
        number = number >> _DIGIT
    return result >> (_DIGIT * n_digits - bits)


def reversed_below(n: NDArray[np.int64], limit: NDArray[np.int64], bits: int) -> NDArray[np.int64]:
    """Count the numbers in 0..n-1 that are less than `limit` (0..2**bits) when their lowest `bits` are reversed."""
    n_digits = max(1, -(-bits // _DIGIT))
    limit = limit << (_DIGIT * n_digits - bits)
    count = np.zeros(np.broadcast_shapes(n.shape, limit.shape), np.int64)
    for shift in range(_DIGIT * (n_digits - 1), -1, -_DIGIT):
        digit = limit >> shift
        limit = limit - (digit << shift)
        rounds, rest = n >> _DIGIT, n & (_BASE - 1)
        below = _BELOW.take(rest * (_BASE + 1) + digit)
        count += rounds * digit + (below >> 1)
        n = rounds + (below & 1)  # numbers whose first digit equals that of the limit: the next digit decides
    return count
