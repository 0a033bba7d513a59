"""Radix sort: the stable order of integer keys, in little more memory than the order itself.

Keys are sorted digit by digit, 16 bits each, the lowest digit first (H. Hollerith, US patent 395,781, 1889). Each pass
counts the digits and then moves positions, chunk by chunk, to where the next position with the same digit goes. Within
a chunk, NumPy's stable argsort of 16-bit numbers groups the positions by digit.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

# Short enough for all arrays of a chunk to stay in the cache.
CHUNK = 2**16
_DIGIT = 16


def radix_argsort(key: NDArray[np.unsignedinteger], order: NDArray[np.uint32] | None = None) -> NDArray[np.uint32]:
    """Return the positions that sort keys, shape (n,); those of equal keys keep the given order, ascending if None."""
    order = _sort_by_digit(key, 0, order)
    largest = int(key.max())
    for shift in range(_DIGIT, largest.bit_length(), _DIGIT):
        order = _sort_by_digit(key, shift, order)
    return order


def find_runs(
    key: NDArray[np.unsignedinteger], order: NDArray[np.uint32]
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return the distinct keys, ascending, and where each one's positions start in the order, followed by the end.

    Parameters
    ----------
    key
        Keys, shape (n,).
    order
        Positions that sort the keys, as `radix_argsort` returns them; shape (n,).

    Returns
    -------
    run_key, run_start
        Shapes (n_runs,) and (n_runs + 1,).
    """
    if key.dtype.itemsize == np.dtype(np.uint16).itemsize:  # counting is several times as fast as looking keys up
        counts = _count_digits(key, 0)
        run_key = np.flatnonzero(counts)
        return run_key, np.append(0, np.cumsum(counts[run_key]))
    starts = [np.zeros(1, np.int64)]
    before = key[order[0]]
    for part in _chunks(len(order)):
        sorted_key = key[order[part]]
        changes = np.flatnonzero(np.diff(sorted_key, prepend=before))
        starts.append(changes + part.start)
        before = sorted_key[-1]
    run_start = np.concatenate(starts)
    return key[order[run_start]].astype(np.int64), np.append(run_start, len(order))


def take_chunked(values: NDArray, codes: NDArray[np.integer]) -> NDArray:
    """Return `values[codes]`, chunk by chunk: NumPy would first convert all codes to 64 bits."""
    result = np.empty(len(codes), values.dtype)
    for part in _chunks(len(codes)):
        result[part] = values[codes[part]]
    return result


def chunk_slices(n: int, size: int) -> Iterator[slice]:
    """Yield the slices that cut n entries into chunks of a size; the last chunk may be shorter."""
    for start in range(0, n, size):
        yield slice(start, min(start + size, n))


def _sort_by_digit(
    key: NDArray[np.unsignedinteger], shift: int, order: NDArray[np.uint32] | None
) -> NDArray[np.uint32]:
    """Sort positions, given in some order (ascending if None), by one digit of their keys."""
    counts = _count_digits(key, shift)
    target = np.cumsum(counts) - counts  # where the next position with each digit goes
    result = np.empty(len(key), np.uint32)
    for part in _chunks(len(key)):
        position = np.arange(part.start, part.stop, dtype=np.uint32) if order is None else order[part]
        digit = _digit(key[position], shift)
        by_digit = np.argsort(digit, kind="stable")
        digit = digit[by_digit]
        count = np.bincount(digit, minlength=len(counts))
        within = np.arange(len(digit)) - (np.cumsum(count) - count)[digit]
        result[target[digit] + within] = position[by_digit]
        target += count
    return result


def _count_digits(key: NDArray[np.unsignedinteger], shift: int) -> NDArray[np.int64]:
    """Return how often each digit occurs, shape (2**16,)."""
    counts = np.zeros(2**_DIGIT, np.int64)
    for part in _chunks(len(key)):
        counts += np.bincount(_digit(key[part], shift), minlength=len(counts))
    return counts


def _digit(key: NDArray[np.unsignedinteger], shift: int) -> NDArray[np.uint16]:
    return (key >> key.dtype.type(shift)).astype(np.uint16)


def _chunks(n: int) -> Iterator[slice]:
    return chunk_slices(n, CHUNK)
