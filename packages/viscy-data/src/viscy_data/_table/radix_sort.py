"""Sorting: the stable order of integer keys, in little more memory than the order itself.

Keys are sorted digit by digit, 16 bits each, the lowest first (a radix sort: H. Hollerith, US patent 395,781, 1889).
Each pass counts the digits and then deals positions out to where their digit's run goes on, a chunk at a time: in a
chunk, NumPy's stable argsort of 16-bit numbers puts those of one digit together.
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


def sorted_positions(key: NDArray[np.unsignedinteger]) -> NDArray[np.uint32]:
    """Return the positions of keys in ascending order, those of equal keys in their own, shape (n,)."""
    order = _pass(key, 0, None)
    largest = int(key.max())
    for shift in range(_DIGIT, largest.bit_length(), _DIGIT):
        order = _pass(key, shift, order)
    return order


def runs(key: NDArray[np.unsignedinteger], order: NDArray[np.uint32]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return the distinct keys, ascending, and where the positions of each start in the order; as last entry, the end.

    Parameters
    ----------
    key, order
        Shape (n,), the latter of `sorted_positions`.

    Returns
    -------
    run_key, run_start
        Shapes (n_runs,) and (n_runs + 1,).
    """
    if key.dtype.itemsize == np.dtype(np.uint16).itemsize:  # counting is several times as fast as looking keys up
        counts = _counts(key, 0)
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


def taken(values: NDArray, codes: NDArray[np.integer]) -> NDArray:
    """Return `values[codes]`; NumPy would widen all codes to 64 bits first."""
    result = np.empty(len(codes), values.dtype)
    for part in _chunks(len(codes)):
        result[part] = values[codes[part]]
    return result


def slices(n: int, size: int) -> Iterator[slice]:
    """Return the slices that cut n entries into chunks of a size, the last of which may be shorter."""
    for start in range(0, n, size):
        yield slice(start, min(start + size, n))


def _pass(key: NDArray[np.unsignedinteger], shift: int, order: NDArray[np.uint32] | None) -> NDArray[np.uint32]:
    """Sort positions, given in some order (by default ascending), by one digit of their keys."""
    counts = _counts(key, shift)
    place = np.cumsum(counts) - counts  # where the next position of each digit goes
    result = np.empty(len(key), np.uint32)
    for part in _chunks(len(key)):
        position = np.arange(part.start, part.stop, dtype=np.uint32) if order is None else order[part]
        digit = _digit(key[position], shift)
        together = np.argsort(digit, kind="stable")
        digit = digit[together]
        count = np.bincount(digit, minlength=len(counts))
        within = np.arange(len(digit)) - (np.cumsum(count) - count)[digit]
        result[place[digit] + within] = position[together]
        place += count
    return result


def _counts(key: NDArray[np.unsignedinteger], shift: int) -> NDArray[np.int64]:
    """Return how often each digit occurs, shape (2**16,)."""
    counts = np.zeros(2**_DIGIT, np.int64)
    for part in _chunks(len(key)):
        counts += np.bincount(_digit(key[part], shift), minlength=len(counts))
    return counts


def _digit(key: NDArray[np.unsignedinteger], shift: int) -> NDArray[np.uint16]:
    return (key >> key.dtype.type(shift)).astype(np.uint16)


def _chunks(n: int) -> Iterator[slice]:
    return slices(n, CHUNK)
