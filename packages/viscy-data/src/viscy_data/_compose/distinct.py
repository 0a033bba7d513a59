"""Distinct values: no two rows of a batch share a value while the pool of one of them has a row of another value.

Rows that repeat a value are replaced by rows that are drawn at random from the same pool until one has a value that the
batch lacks. After a fixed number of attempts, all rows of the pool are looked through. The rows of a batch only ever
gain values, so a pool that has no other value never gets one, and is looked through once.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from viscy_data._random.hash import derive

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from viscy_data._compose.leak import Leak
    from viscy_data._compose.parts import Parts
    from viscy_data._compose.quotas import Quotas
    from viscy_data.index import AnchorIndex

_ATTEMPTS = 12
_FRACTION_BITS = 53  # of a float64


class ValuesOfPools:
    """The values that the pools of a table have.

    The values of a stratum are listed when they are first needed, which they are only where values are scarce.

    Parameters
    ----------
    index
        The sampler's index, with `distinct_by`.
    quotas
        The sampler's quotas.
    """

    def __init__(self, index: AnchorIndex, quotas: Quotas) -> None:
        assert index.values is not None
        self.index, self.n_values = index, index.values.n_values
        self._stratum_start, self._stratum_size = index.stratum_start.ravel(), index.stratum_size.ravel()
        self._leak_source = quotas.leak_source
        self._values: dict[int, NDArray[np.unsignedinteger]] = {}

    def are_all_in(self, count: NDArray[np.uint32], start: int, own: int) -> bool:
        """Return whether a batch has all values of the strata of a pool.

        Parameters
        ----------
        count
            How often the batch has each value, shape (n_values,).
        start, own
            Of the pool, as of `Parts`.
        """
        if own < 0:
            strata = [int(np.searchsorted(self._stratum_start, start, side="right")) - 1]
        else:
            condition, group = divmod(own, len(self._leak_source))
            n_conditions = self._leak_source.shape[1]
            others = np.flatnonzero(self._leak_source[:, condition])
            strata = [int(g) * n_conditions + condition for g in others if g != group]
        return all((count[self._of_stratum(stratum)] > 0).all() for stratum in strata)

    def _of_stratum(self, stratum: int) -> NDArray[np.unsignedinteger]:
        if stratum not in self._values:
            start = int(self._stratum_start[stratum])
            rows = slice(start, start + int(self._stratum_size[stratum]))
            self._values[stratum] = np.unique(self.index.value_codes(rows))
        return self._values[stratum]


class _Batches:
    """Batches whose rows are replaced: the rows, their values and the pool of each slot."""

    def __init__(self, rows: NDArray[np.int64], parts: Parts, leak: Leak, values: ValuesOfPools) -> None:
        self.rows, self.index, self.leak, self.values = rows, values.index, leak, values
        self.codes = self.index.value_codes(rows)
        self.stop = np.cumsum(parts.slots.reshape(len(rows), -1), axis=1)
        self.start, self.size, self.own = (
            array.reshape(len(rows), -1) for array in (parts.start, parts.size, parts.own)
        )

    def part_of(self, batch: NDArray[np.intp], slot: NDArray[np.intp]) -> NDArray[np.int64]:
        """Return the part of slots."""
        return (self.stop[batch] <= slot[:, None]).sum(axis=1)

    def candidates(self, batch: int, part: int, count: NDArray[np.uint32]) -> NDArray[np.int64]:
        """Return the rows of a pool whose values the batch lacks, given how often it has each value."""
        if self.values.are_all_in(count, int(self.start[batch, part]), int(self.own[batch, part])):
            return np.empty(0, np.int64)
        number = self.start[batch, part] + np.arange(self.size[batch, part])
        rows = self.leak.rows(number, np.full(len(number), self.own[batch, part]))
        return rows[count[self.index.value_codes(rows)] == 0]


def replace_repeats(
    rows: NDArray[np.int64], parts: Parts, leak: Leak, values: ValuesOfPools, key: NDArray[np.uint64]
) -> None:
    """Replace rows, in place, until no row that can be replaced repeats a value of its batch.

    Parameters
    ----------
    rows
        Rows of the sorted anchors, part by part, shape (n_batches, n_slots).
    parts
        The parts of the batches.
    leak
        The rows that may leak.
    values
        The values of all pools.
    key
        Key of each batch, shape (n_batches,).
    """
    batches = _Batches(rows, parts, leak, values)
    batch, slot, present = _find_repeats(batches.codes)
    for attempt in range(_ATTEMPTS):
        if not batch.size:
            return
        batch, slot, present = _redraw(batches, batch, slot, present, derive(key[batch], slot, attempt))
    for number in np.unique(batch):
        _replace_one_by_one(batches, int(number), slot[batch == number], key[number : number + 1])


def _find_repeats(codes: NDArray[np.unsignedinteger]) -> tuple[NDArray[np.intp], NDArray[np.intp], NDArray[np.uint64]]:
    """Return the slots that repeat the value of an earlier one, and the sorted keys of all values (see `_value_key`).

    A code carries its slot in the lowest bits while it is sorted.
    """
    n_batches, n_slots = codes.shape
    n_bits = np.uint64(n_slots.bit_length())
    tagged = codes.astype(np.uint64)
    tagged <<= n_bits
    tagged |= np.arange(n_slots, dtype=np.uint64)
    tagged.sort(axis=1)
    value = tagged >> n_bits
    batch, column = np.nonzero(value[:, 1:] == value[:, :-1])
    slot = (tagged[batch, column + 1] & ((np.uint64(1) << n_bits) - np.uint64(1))).astype(np.intp)
    return batch, slot, _value_key(np.arange(n_batches)[:, None], value).ravel()


def _value_key(batch: NDArray[np.intp], code: NDArray[np.unsignedinteger]) -> NDArray[np.uint64]:
    """Return an integer for each pair of batch and value; it ascends with both."""
    return (batch.astype(np.uint64) << np.uint64(32)) | code.astype(np.uint64)


def _redraw(
    batches: _Batches,
    batch: NDArray[np.intp],
    slot: NDArray[np.intp],
    present: NDArray[np.uint64],
    bits: NDArray[np.uint64],
) -> tuple[NDArray[np.intp], NDArray[np.intp], NDArray[np.uint64]]:
    """Draw a row for each slot, and keep it if its value is new; return the other slots, and all values."""
    part = batches.part_of(batch, slot)
    bits >>= np.uint64(64 - _FRACTION_BITS)
    number = (bits * (batches.size[batch, part] * 2.0**-_FRACTION_BITS)).astype(np.int64)
    number += batches.start[batch, part]
    rows = batches.leak.rows(number, batches.own[batch, part])
    codes = batches.index.value_codes(rows)
    value_key = _value_key(batch, codes)
    place = np.searchsorted(present, value_key)
    is_new = present[np.minimum(place, len(present) - 1)] != value_key
    new, first = np.unique(value_key[is_new], return_index=True)
    kept = np.flatnonzero(is_new)[first]
    at = batch[kept], slot[kept]
    batches.rows[at], batches.codes[at] = rows[kept], codes[kept]
    left = np.ones(len(batch), bool)
    left[kept] = False
    return batch[left], slot[left], np.insert(present, place[kept], new)


def _replace_one_by_one(batches: _Batches, batch: int, repeats: NDArray[np.intp], key: NDArray[np.uint64]) -> None:
    """Replace rows of one batch by any row of their pool whose value it lacks, until no pool has one.

    The slots that repeat a value come first. If none of them can change, the slot that has the value first may.
    """
    codes = batches.codes[batch]
    count = np.zeros(batches.values.n_values, np.uint32)
    np.add.at(count, codes, 1)
    others = np.setdiff1d(np.flatnonzero(count[codes] > 1), repeats)
    candidates: dict[int, NDArray[np.int64]] = {}
    for slot in np.append(np.sort(repeats), others):
        if count[codes[slot]] < 2:
            continue
        part = int(batches.part_of(np.array([batch]), np.array([slot]))[0])
        if part not in candidates:
            candidates[part] = batches.candidates(batch, part, count)
        rows = candidates[part] = candidates[part][count[batches.index.value_codes(candidates[part])] == 0]
        if len(rows):
            chosen = rows[int(derive(key, int(slot), _ATTEMPTS)[0]) * len(rows) >> 64]
            count[codes[slot]] -= 1
            batches.rows[batch, slot] = chosen
            codes[slot] = batches.index.value_codes(np.array([chosen]))[0]
            count[codes[slot]] += 1
