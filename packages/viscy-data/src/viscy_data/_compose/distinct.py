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

_ATTEMPTS = 8
# From a pool with more rows than this, this many rows are drawn before all of them are looked through.
_SAMPLE = 1024
_FRACTION_BITS = 53  # of a float64

type _Candidates = tuple[NDArray[np.int64], NDArray[np.unsignedinteger]]
"""Rows of the sorted anchors, and their values."""


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

    def replace(
        self,
        batch: NDArray[np.intp],
        slot: NDArray[np.intp],
        rows: NDArray[np.int64],
        codes: NDArray[np.unsignedinteger],
    ) -> None:
        """Give slots other rows, in place."""
        self.rows[batch, slot], self.codes[batch, slot] = rows, codes

    def sample(self, batch: int, part: int, key: NDArray[np.uint64]) -> _Candidates:
        """Return random rows of a large pool, none of a small one, and their values."""
        if self.size[batch, part] <= _SAMPLE:
            return np.empty(0, np.int64), self.codes[:0, 0]
        bits = derive(key, self.codes.shape[1] + part, np.arange(_SAMPLE)) >> np.uint64(64 - _FRACTION_BITS)
        number = (bits * (self.size[batch, part] * 2.0**-_FRACTION_BITS)).astype(np.int64) + self.start[batch, part]
        rows = self.leak.rows(number, np.full(len(number), self.own[batch, part]))
        return rows, self.index.value_codes(rows)

    def candidates(self, batch: int, part: int, count: NDArray[np.uint32]) -> _Candidates:
        """Return the rows of a pool whose values the batch lacks, given how often it has each value, and the values."""
        if self.values.are_all_in(count, int(self.start[batch, part]), int(self.own[batch, part])):
            return np.empty(0, np.int64), self.codes[:0, 0]
        number = self.start[batch, part] + np.arange(self.size[batch, part])
        rows = self.leak.rows(number, np.full(len(number), self.own[batch, part]))
        return _lacking((rows, self.index.value_codes(rows)), count)


def _lacking(candidates: _Candidates, count: NDArray[np.uint32]) -> _Candidates:
    """Return those of rows, given with their values, whose values a batch lacks."""
    rows, codes = candidates
    is_lacking = count[codes] == 0
    return rows[is_lacking], codes[is_lacking]


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
    batch, slot, *present = _find_repeats(batches.codes)
    for attempt in range(_ATTEMPTS):
        if not batch.size:
            return
        rows, codes, new = _draw(batches, batch, slot, present, derive(key[batch], slot, attempt))
        batches.replace(batch[new], slot[new], rows[new], codes[new])
        present.append(_value_key(batch[new], codes[new]))
        left = np.ones(len(batch), bool)
        left[new] = False
        batch, slot = batch[left], slot[left]
    for number in np.unique(batch):
        _replace_one_by_one(batches, int(number), slot[batch == number], key[number : number + 1])


def _find_repeats(codes: NDArray[np.unsignedinteger]) -> tuple[NDArray[np.intp], NDArray[np.intp], NDArray[np.uint64]]:
    """Return the slots that repeat the value of an earlier one, and all values of their batches (see `_value_key`).

    A code carries its slot in the lowest bits while it is sorted.
    """
    n_slots = codes.shape[1]
    n_bits = n_slots.bit_length()
    dtype = np.uint32 if int(codes.max()) >> (32 - n_bits) == 0 else np.uint64
    tagged = codes.astype(dtype)
    tagged <<= dtype(n_bits)
    tagged |= np.arange(n_slots, dtype=dtype)
    tagged.sort(axis=1)
    is_repeated = (tagged[:, 1:] ^ tagged[:, :-1]) < dtype(1 << n_bits)
    batch, column = np.divmod(np.flatnonzero(is_repeated), max(n_slots - 1, 1))
    slot = (tagged[batch, column + 1] & dtype((1 << n_bits) - 1)).astype(np.intp)
    affected = np.unique(batch)
    return batch, slot, _value_key(affected[:, None], tagged[affected] >> dtype(n_bits)).ravel()


def _value_key(batch: NDArray[np.intp], code: NDArray[np.unsignedinteger]) -> NDArray[np.uint64]:
    """Return an integer for each pair of batch and value; it ascends with both."""
    return (batch.astype(np.uint64) << np.uint64(32)) | code.astype(np.uint64)


def _draw(
    batches: _Batches,
    batch: NDArray[np.intp],
    slot: NDArray[np.intp],
    present: list[NDArray[np.uint64]],
    bits: NDArray[np.uint64],
) -> tuple[NDArray[np.int64], NDArray[np.unsignedinteger], NDArray[np.intp]]:
    """Draw a row for each slot; return the rows, their values, and which of them have a value that is new.

    `present` lists the values that the batches have, in several ascending arrays (see `_value_key`).
    """
    part = batches.part_of(batch, slot)
    bits >>= np.uint64(64 - _FRACTION_BITS)
    number = (bits * (batches.size[batch, part] * 2.0**-_FRACTION_BITS)).astype(np.int64)
    number += batches.start[batch, part]
    rows = batches.leak.rows(number, batches.own[batch, part])
    codes = batches.index.value_codes(rows)
    value_key, is_new = np.unique(_value_key(batch, codes), return_index=True)  # sorted, they are found faster
    for values in filter(len, present):
        kept = ~_contains(values, value_key)
        value_key, is_new = value_key[kept], is_new[kept]
    return rows, codes, is_new


def _contains(ascending: NDArray[np.uint64], numbers: NDArray[np.uint64]) -> NDArray[np.bool_]:
    """Return whether each number is among numbers in ascending order."""
    place = np.searchsorted(ascending, numbers)
    return ascending.take(place, mode="clip") == numbers


def _replace_one_by_one(batches: _Batches, batch: int, repeats: NDArray[np.intp], key: NDArray[np.uint64]) -> None:
    """Replace rows of one batch by any row of their pool whose value it lacks, until no pool has one.

    The slots that repeat a value come first. If none of them can change, the slot that has the value first may.
    """
    codes = batches.codes[batch]
    count = np.zeros(batches.values.n_values, np.uint32)
    values, times = np.unique(codes, return_counts=True)
    count[values] = times
    is_later = np.zeros(len(codes), bool)
    is_later[repeats] = True
    slots = np.append(np.flatnonzero(is_later), np.flatnonzero((count[codes] > 1) & ~is_later))
    parts = batches.part_of(np.full(len(slots), batch), slots)
    bits = derive(key, slots, _ATTEMPTS).tolist()
    candidates: dict[int, _Candidates] = {}
    complete: set[int] = set()  # parts whose pools were looked through
    for slot, part, number in zip(slots.tolist(), parts.tolist(), bits, strict=True):
        if count[codes[slot]] < 2:
            continue
        if part not in candidates:
            candidates[part] = batches.sample(batch, part, key)
        if len(candidates[part][0]):
            candidates[part] = _lacking(candidates[part], count)
        if not len(candidates[part][0]) and part not in complete:
            complete.add(part)
            candidates[part] = batches.candidates(batch, part, count)
        rows, new_codes = candidates[part]
        if len(rows):
            chosen = number * len(rows) >> 64
            count[codes[slot]] -= 1
            batches.rows[batch, slot], codes[slot] = rows[chosen], new_codes[chosen]
            count[codes[slot]] += 1
