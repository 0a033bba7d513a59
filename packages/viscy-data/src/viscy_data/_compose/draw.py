"""Draw: rows of roomy pools, taken at random; of rows that come twice in a batch, one is drawn again until none does.

Whatever two rows of a pool are exchanged, a batch with the one is as likely as a batch with the other, so all sets of
rows are equally likely: as if they were drawn one by one without replacement. Of two slots with the same row the first
keeps it. Focal slots come first, so none of them depends on a global one.
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


def drawn_rows(parts: Parts, leak: Leak, key: NDArray[np.uint64]) -> NDArray[np.int64]:
    """Draw the rows of batches.

    Parameters
    ----------
    parts
        Of the batches, which all have equally many slots.
    leak
        Of the table.
    key
        Of each batch, shape (n_batches,).

    Returns
    -------
    NDArray[np.int64]
        Rows of the sorted anchors, ascending, shape (n_batches, n_slots).
    """
    n_slots = int(parts.slots[0].sum())
    slot = np.arange(n_slots)
    number = _below(derive(key[:, None], slot).ravel(), parts.of_slots(_unit(parts.size)))
    number += parts.of_slots(parts.start)
    rows = leak.rows(number, parts.of_slots(parts.own)).reshape(len(parts), n_slots)
    # a sorted row carries its slot in the lowest bits
    n_bits = n_slots.bit_length()
    rows <<= n_bits
    rows |= slot
    rows.sort(axis=1)
    _draw_repeats_again(rows, n_bits, parts, leak, key)
    rows >>= n_bits
    return rows


def _draw_repeats_again(
    tagged: NDArray[np.int64], n_bits: int, parts: Parts, leak: Leak, key: NDArray[np.uint64]
) -> None:
    """Replace repeated rows, in place, until each batch has none; rows are sorted and carry their slots."""
    n_batches, n_slots = tagged.shape
    values = {name: getattr(parts, name).reshape(n_batches, -1) for name in ("size", "start", "own")}
    stop = np.cumsum(parts.slots.reshape(n_batches, -1), axis=1)
    looked_at = np.arange(n_batches)
    rows = tagged
    address = np.arange(n_slots)  # of the slots' words below the batch's key; at the first attempt, these
    while (repeat := np.flatnonzero((rows[:, 1:] ^ rows[:, :-1]) < 1 << n_bits)).size:
        at, place = np.divmod(repeat, n_slots - 1)
        place += 1
        batch, slot = looked_at[at], rows[at, place] & ((1 << n_bits) - 1)
        part = batch, (stop[batch] <= slot[:, None]).sum(axis=1)
        address += n_slots
        word = derive(key[batch], address[slot])
        number = _below(word, _unit(values["size"][part])) + values["start"][part]
        rows[at, place] = leak.rows(number, values["own"][part]) << n_bits | slot
        changed = at[np.flatnonzero(np.diff(at, prepend=-1))]
        looked_at, again = looked_at[changed], rows[changed]
        again.sort(axis=1)
        tagged[looked_at] = rows = again


def _unit(size: NDArray[np.int64]) -> NDArray[np.float64]:
    """Return what a random word's lowest bit is worth in numbers below `size`."""
    return size.astype(np.float64) * 2.0**-_FRACTION_BITS


def _below(word: NDArray[np.uint64], unit: NDArray[np.float64]) -> NDArray[np.int64]:
    """Scale random words, in place, to whole numbers; a product of two doubles is the same on every platform."""
    word >>= np.uint64(64 - _FRACTION_BITS)
    number = word.view(np.int64)
    np.multiply(number, unit, out=unit)
    np.copyto(number, unit, casting="unsafe")  # towards zero
    return number
