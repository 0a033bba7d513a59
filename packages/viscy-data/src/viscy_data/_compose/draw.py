"""A draw: distinct random rows from large pools; a row that is drawn twice in a batch is drawn again.

Exchanging two rows of a pool turns a batch into one that is equally likely, so all sets of rows are equally likely, as
if they were drawn one by one without replacement. If two slots have the same row, the first one keeps it. Window slots
come before global slots, so no window slot depends on a global one.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from viscy_data._random.hash import derive

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from viscy_data._compose.leak import Leak
    from viscy_data._compose.parts import Parts

_FRACTION_BITS = 53  # of a float64


def draw_rows(parts: Parts, leak: Leak, key: NDArray[np.uint64], *, in_slot_order: bool = False) -> NDArray[np.int64]:
    """Draw the rows of batches.

    Parameters
    ----------
    parts
        The parts of the batches, which all have equally many slots.
    leak
        The rows that may leak.
    key
        Key of each batch, shape (n_batches,).
    in_slot_order
        Whether rows are in the order of the slots, which takes longer, instead of ascending.

    Returns
    -------
    NDArray[np.int64]
        Rows of the sorted anchors, shape (n_batches, n_slots).
    """
    n_slots = int(parts.slots[0].sum())
    slot = np.arange(n_slots)
    number = _below(derive(key[:, None], slot).ravel(), parts.per_slot(_scale(parts.size)))
    number += parts.per_slot(parts.start)
    rows = leak.rows(number, parts.per_slot(parts.own)).reshape(len(parts), n_slots)
    # a row carries its slot in the lowest bits while it is sorted
    n_bits = n_slots.bit_length()
    rows <<= n_bits
    rows |= slot
    rows.sort(axis=1)
    _redraw_repeats(rows, n_bits, parts, leak, key)
    if in_slot_order:
        by_slot = np.empty_like(rows)
        by_slot[np.arange(len(rows))[:, None], rows & ((1 << n_bits) - 1)] = rows
        rows = by_slot
    rows >>= n_bits
    return rows


def _redraw_repeats(tagged: NDArray[np.int64], n_bits: int, parts: Parts, leak: Leak, key: NDArray[np.uint64]) -> None:
    """Replace repeated rows, in place, until each batch has none; rows are sorted and carry their slots."""
    n_batches, n_slots = tagged.shape
    values = {name: getattr(parts, name).reshape(n_batches, -1) for name in ("size", "start", "own")}
    stop = np.cumsum(parts.slots.reshape(n_batches, -1), axis=1)
    unfinished = np.arange(n_batches)
    rows = tagged
    counter = np.arange(n_slots)  # counters of the slots' random bits; each attempt has its own
    while (repeat := np.flatnonzero((rows[:, 1:] ^ rows[:, :-1]) < 1 << n_bits)).size:
        row, column = np.divmod(repeat, n_slots - 1)
        column += 1
        batch, slot = unfinished[row], rows[row, column] & ((1 << n_bits) - 1)
        part = batch, (stop[batch] <= slot[:, None]).sum(axis=1)
        counter += n_slots
        bits = derive(key[batch], counter[slot])
        number = _below(bits, _scale(values["size"][part])) + values["start"][part]
        rows[row, column] = leak.rows(number, values["own"][part]) << n_bits | slot
        changed = row[np.flatnonzero(np.diff(row, prepend=-1))]
        unfinished, again = unfinished[changed], rows[changed]
        again.sort(axis=1)
        tagged[unfinished] = rows = again


def _scale(size: NDArray[np.int64]) -> NDArray[np.float64]:
    """Return the factor that scales random bits to numbers below `size`."""
    return size.astype(np.float64) * 2.0**-_FRACTION_BITS


def _below(bits: NDArray[np.uint64], scale: NDArray[np.float64]) -> NDArray[np.int64]:
    """Scale random bits, in place, to integers; a product of two doubles is the same on every platform."""
    bits >>= np.uint64(64 - _FRACTION_BITS)
    number = bits.view(np.int64)
    np.multiply(number, scale, out=scale)
    np.copyto(number, scale, casting="unsafe")  # rounds toward zero
    return number
