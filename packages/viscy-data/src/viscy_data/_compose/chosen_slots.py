"""Chosen slots: which conditions the batches of a group have if they cannot have all, and how many slots each gets.

In an epoch, a condition is in the floor or the ceiling of its expected number of batches. Let its *entries* be as many
as that; the entries of all conditions, laid end to end in random order, form a line, and every batch takes equally many
entries. The batches are grouped into *blocks* of consecutive ones, and a block takes the entries that are as many apart
as there are blocks: no condition has that many, so a block has at most one entry of each. The entries of a block are
distributed over its batches at random. So conditions that are in a batch together differ from block to block, no batch
has a condition twice, and the number of entries of a condition in all earlier blocks is the number of visits of a
`Rotation` to an arc. The batches that do not fill a block for each step of the rotation form one more block, the last.

An entry is worth the floor or the ceiling of the slots that a chosen condition is due. The entries at the beginning of
the line are worth the ceiling, and so are, separately, the leak slots among them: whole numbers that add up to those of
the batch. Conditions that are in every batch have lines of their own for the slots beyond the floor.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from viscy_data._compose.choice import Choice
from viscy_data._compose.rotation import Rotation
from viscy_data._compose.rounding import BITS, UNIT, cumulative, round_slots
from viscy_data._random.hash import below, derive, random_uint32

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from viscy_data._compose.schedule import Scheduled

_CODE_BITS = np.uint64(24)
_CODE_MASK = np.uint64((1 << 24) - 1)
_CATEGORY_BITS = np.uint64(60)
_LEFT_OUT = 4
_MOST_BATCHES = 2**24
# What random bits are used for.
_LAYOUT, _OFFSET, _ROTATION, _BLOCK, _TURN, _SPLIT = range(6)


@dataclass(frozen=True, slots=True, eq=False)
class _Worth:
    """Slots of the entries: all of them, or the leak slots among them. Arrays of shape (2, n_groups, ...)."""

    floor: NDArray[np.int64]
    """Slots of an entry, rounded down, shape (1, n_groups, n_conditions)."""
    limit: NDArray[np.int64]
    """The entries of a condition that are below it on the line are worth one slot more."""
    start: NDArray[np.int64]
    """Where the slots beyond the floor of a condition that is in every batch are on their line; it ends at 0."""
    length: NDArray[np.int64]


class ChosenSlots:
    """The slots of an epoch's batches.

    Parameters
    ----------
    choice
        How conditions are chosen for a batch.
    n_slots
        Slots of a batch.
    batches
        Number of batches of each group in a cycle of the schedule, shape (n_groups,). A cycle of the choice has as
        many, but no more than 2**24.
    key
        Key of the randomness, shape (1,).
    """

    def __init__(
        self,
        choice: Choice,
        n_slots: int,
        batches: NDArray[np.int64],
        key: NDArray[np.uint64],
    ) -> None:
        self._key = derive(key, np.arange(6))
        self._batches = np.clip(batches, 1, _MOST_BATCHES)
        self._rounds_totals = choice.rounds_totals
        self._is_certain = choice.probability == 1
        self._is_open = (choice.probability > 0) & ~self._is_certain
        self._n_open = choice.n_chosen - self._is_certain.sum(axis=1)
        self._lay_out(np.where(self._is_open, choice.probability, 0), choice.leaky > 0)
        slots, leak = (np.rint(x * UNIT).astype(np.int64) for x in (choice.slots, choice.slots * choice.leaky))
        total = np.full(len(batches), n_slots << BITS)
        self._primary_due = slots - leak
        self._slots = self._worth(slots, total)
        leaks = ((choice.leaky > 0) == (choice.probability > 0)).all(axis=1)
        total_leak = np.where(leaks, np.rint(n_slots * choice.leaky.max(axis=1) * UNIT), -1).astype(np.int64)
        self._leak = self._worth(leak, total_leak)
        self._has_leak = bool(leak.any())

    def which(self, scheduled: Scheduled) -> NDArray[np.intp]:
        """Return the batches whose slots are rounded here; the methods are for such batches only."""
        return np.flatnonzero(self._rounds_totals[scheduled.group])

    def slots(self, scheduled: Scheduled) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Return the primary and the leak slots of each condition, both of shape (n_batches, n_conditions)."""
        at = self._locate(scheduled)
        entry, has_entry = self._entries_of(at)
        chosen = self._distribute(at, entry, has_entry)
        slots = self._worth_of(self._slots, at, entry, chosen)
        if not self._has_leak:
            return slots, np.zeros_like(slots)
        leak = np.minimum(self._worth_of(self._leak, at, entry, chosen), slots)
        return slots - leak, leak

    def primary_quota(self, scheduled: Scheduled, primary: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return the quotas that primary slots were rounded from, in units of 2**-24, in the shape of `primary`."""
        quota = self._primary_due[scheduled.group]
        is_rounded = np.abs((primary << BITS) - quota) < UNIT
        return np.where(is_rounded & (primary > 0), quota, primary << BITS)

    def drawn_before(self, scheduled: Scheduled, primary: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return each condition's primary slots in the group's earlier batches.

        Parameters
        ----------
        scheduled
            The batches.
        primary
            Their primary slots. Only where they are above 0 the result is right; shape (n_batches, n_conditions).
        """
        at = self._locate(scheduled)
        is_certain = self._is_certain[scheduled.group]
        drawn = np.zeros_like(primary)
        for has_condition, count in (
            ((primary > 0) & ~is_certain, self._drawn_before_if_open),
            ((primary > 0) & is_certain, self._drawn_before_if_certain),
        ):
            batch, condition = np.nonzero(has_condition)
            if batch.size:
                drawn[batch, condition] = count(at.take(batch), condition)
        return drawn

    def _lay_out(self, probability: NDArray[np.float64], leaks: NDArray[np.bool_]) -> None:
        """Lay out the entries of all conditions that are not in every batch; those that leak come first."""
        n_groups, n_conditions = probability.shape
        group = np.arange(n_groups)
        bits = derive(self._key[_LAYOUT], group[:, None], np.arange(n_conditions)) >> np.uint64(4)
        order = np.argsort(bits | np.where(self._is_open, ~leaks, 2).astype(np.uint64) << _CATEGORY_BITS, axis=1)
        bound = np.zeros((n_groups, n_conditions + 1), np.int64)
        bound[:, 1:] = np.rint(np.cumsum(np.take_along_axis(probability, order, axis=1), axis=1) * UNIT)
        bound = np.where(bound == bound[:, -1:], self._n_open[:, None] << BITS, bound) * (self._n_open > 0)[:, None]
        bound[:, 0] = 0
        offset = (derive(self._key[_OFFSET], group) >> np.uint64(64 - BITS)).astype(np.int64)
        entry = (self._batches[:, None] * bound + offset[:, None]) >> BITS
        most = np.maximum(np.diff(entry, axis=1).max(axis=1), 1)
        width = self._batches // most
        n_blocks = self._batches // width
        in_last = entry * (self._batches - n_blocks * width)[:, None] // self._batches[:, None]
        line = np.array([entry - in_last, in_last])
        self._order, self._leaks = order, leaks
        self._n_blocks = np.array([n_blocks, np.ones_like(n_blocks)])
        self._width = np.array([width, self._batches - n_blocks * width])
        self._start, self._length = self._by_condition(line[:, :, :-1]), self._by_condition(np.diff(line, axis=2))
        n_leaking = (self._is_open & leaks).sum(axis=1)
        self._n_leaking = line[:, group, n_leaking]
        self._rotation = Rotation.from_keys(self._n_blocks, derive(self._key[_ROTATION], np.arange(2)[:, None], group))

    def _worth(self, due: NDArray[np.int64], total: NDArray[np.int64]) -> _Worth:
        """Round the slots that entries are due, in units of 2**-24, so that they add up to the total of every batch.

        Where the total, shape (n_groups,), is negative, it is what the entries happen to add up to.
        """
        floor, rest = due >> BITS, due & (UNIT - 1)
        n_batches = self._n_blocks * self._width
        of_open = np.where(self._is_open, floor, 0).max(axis=1), np.where(self._is_open, rest, 0).max(axis=1)
        certain_rest = np.where(self._is_certain, rest, 0)
        first = np.lexsort((self._order.argsort(axis=1), certain_rest > 0), axis=1)
        bound = np.cumsum(np.take_along_axis(certain_rest, first, axis=1), axis=1)
        n_entries = np.where(total >= 0, n_batches * self._n_open, self._n_leaking)
        whole = np.where(self._is_certain, floor, 0).sum(axis=1) * n_batches + of_open[0] * n_entries
        raised = _rounded(n_entries * of_open[1])
        beyond = np.where(total >= 0, _rounded(n_batches * total) - whole, raised + _rounded(n_batches * bound[:, -1]))
        has_certain = bound[:, -1] > 0
        raised = np.clip(np.where(has_certain, raised, beyond), 0, n_entries)
        end = np.maximum(beyond - raised, 0)[..., None]
        position = np.minimum(_rounded(n_batches[..., None] * bound), end)
        position = np.where((bound == bound[:, -1:]) & has_certain[:, None], end, position)
        length = np.empty_like(position)
        start = np.empty_like(position)
        places = np.broadcast_to(first, position.shape)
        np.put_along_axis(length, places, np.diff(position, axis=2, prepend=0), axis=2)
        np.put_along_axis(start, places, position - np.diff(position, axis=2, prepend=0) - end, axis=2)
        return _Worth(floor[None], self._limits(raised, total), start, length)

    def _limits(self, raised: NDArray[np.int64], total: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return below which entry the entries of each condition are worth more, shape (2, n_groups, n_conditions).

        Entries of conditions that leak come first, and those of the others follow. On average over epochs, both have
        their share of the entries that are worth more. These are chosen so that all blocks have equally many of them:
        the second part continues where the first one ends, modulo the number of blocks.
        """
        n_leaking, n_blocks = self._n_leaking, self._n_blocks
        n_others = n_blocks * self._width * self._n_open - n_leaking
        expected = raised * (n_leaking / np.maximum(n_leaking + n_others, 1))
        whole = np.floor(expected).astype(np.int64)
        lower = whole - (whole - n_leaking) % n_blocks
        bounds = np.maximum(raised - n_others, 0), np.minimum(raised, n_leaking)
        lower, upper = np.clip(lower, *bounds), np.clip(lower + n_blocks, *bounds)
        bits = derive(self._key[_SPLIT], np.arange(2)[:, None], np.arange(raised.shape[1]))
        is_upper = (bits >> np.uint64(11)) * 2.0**-53 * (upper - lower) < expected - lower
        of_leaking = np.where(total < 0, np.minimum(raised, n_leaking), np.where(is_upper, upper, lower))
        of_others = n_leaking + raised - of_leaking
        return np.where(self._leaks, of_leaking[..., None], of_others[..., None])

    def _by_condition(self, values: NDArray[np.int64]) -> NDArray[np.int64]:
        result = np.empty_like(values)
        np.put_along_axis(result, np.broadcast_to(self._order, values.shape), values, axis=2)
        return result

    def _locate(self, scheduled: Scheduled) -> _Places:
        """Return in which block each batch is, and where in it."""
        group = scheduled.group
        cycle, number = np.divmod(scheduled.index, self._batches[group])
        n_regular = self._n_blocks[0, group] * self._width[0, group]
        is_last = (number >= n_regular).astype(np.int64)
        block, within = np.divmod(number - is_last * n_regular, np.maximum(self._width[is_last, group], 1))
        return _Places(group, scheduled.index, cycle, is_last, block, within)

    def _entries_of(self, at: _Places) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
        """Return the entry of each condition in the block of each batch, and whether there is one."""
        step = self._rotation.take(at.key).visit(at.block)[:, None]
        start = self._start[at.key]
        after = (step - start) % self._n_blocks[at.key][:, None]
        return start + after, after < self._length[at.key]

    def _distribute(self, at: _Places, entry: NDArray[np.int64], has_entry: NDArray[np.bool_]) -> NDArray[np.bool_]:
        """Return whether each batch has each condition that is not in all of them.

        Entries of equal worth are distributed one after the other, so that batches get equally many of them.
        """
        n_batches, n_conditions = entry.shape
        is_raised, is_raised_leak = (entry < worth.limit[at.key] for worth in (self._slots, self._leak))
        category = np.where(has_entry, 3 - 2 * is_raised - is_raised_leak, _LEFT_OUT).astype(np.uint64)
        shuffled = random_uint32(self._block_keys(at), n_conditions).astype(np.uint64) << _CODE_BITS
        shuffled |= category << _CATEGORY_BITS
        shuffled |= np.arange(n_conditions, dtype=np.uint64)
        shuffled.sort(axis=1)
        width = np.maximum(self._width[at.key], 1)[:, None]
        n_open = self._n_open[at.group][:, None]
        place = (at.within[:, None] - self._turn(at)[:, None]) % width + width * np.arange(int(n_open.max(initial=0)))
        condition = np.take_along_axis(shuffled, np.minimum(place, n_conditions - 1), axis=1) & _CODE_MASK
        chosen = np.zeros((n_batches, n_conditions), bool)
        batch, number = np.nonzero(place < width * n_open)
        chosen[batch, condition[batch, number].astype(np.int64)] = True
        return chosen

    def _worth_of(
        self, worth: _Worth, at: _Places, entry: NDArray[np.int64], chosen: NDArray[np.bool_]
    ) -> NDArray[np.int64]:
        slots = chosen * (worth.floor[0, at.group] + (entry < worth.limit[at.key]))
        batch, condition = np.nonzero(self._is_certain[at.group])
        if batch.size:
            some = at.take(batch)
            first, count = self._beyond_floor(worth, some, condition)
            is_due = (some.within - first) % np.maximum(self._width[some.key], 1) < count
            slots[batch, condition] = worth.floor[0, some.group, condition] + is_due
        return slots

    def _beyond_floor(
        self, worth: _Worth, at: _Places, condition: NDArray[np.int64]
    ) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Return the batch in its block that gets the first slot beyond the floor of a certain condition, and how many.

        One batch after the other gets one. The conditions follow each other, and the entries of the others them.
        """
        step, n_blocks = self._rotation.take(at.key).visit(at.block), self._n_blocks[at.key]
        start = worth.start[(*at.key, condition)]
        to_start, to_stop, to_end = (
            -((step - bound) // n_blocks) for bound in (start, start + worth.length[(*at.key, condition)], 0)
        )
        return (self._turn(at) + to_start - to_end) % np.maximum(self._width[at.key], 1), to_stop - to_start

    def _drawn_before_if_open(self, at: _Places, condition: NDArray[np.int64]) -> NDArray[np.int64]:
        """Count a condition's primary slots in the earlier batches of a group, for batches that have it by chance."""
        start, entries = (array[:, at.group, condition] for array in (self._start, self._length))
        raised = (
            np.clip(worth.limit[:, at.group, condition] - start, 0, entries) for worth in (self._slots, self._leak)
        )
        n_entries, n_raised, n_raised_leak = self._sums_before(at, start, np.array([entries, *raised]))
        floor = self._slots.floor[0, at.group, condition] - self._leak.floor[0, at.group, condition]
        return floor * n_entries + n_raised - n_raised_leak

    def _drawn_before_if_certain(self, at: _Places, condition: NDArray[np.int64]) -> NDArray[np.int64]:
        """Count a condition's primary slots in the earlier batches of a group, for batches that always have it."""
        slots, leak = (self._certain_before(worth, at, condition) for worth in (self._slots, self._leak))
        return slots - leak

    def _certain_before(self, worth: _Worth, at: _Places, condition: NDArray[np.int64]) -> NDArray[np.int64]:
        start, length = (array[:, at.group, condition] for array in (worth.start, worth.length))
        drawn = worth.floor[0, at.group, condition] * at.index + self._sums_before(at, start, length[None])[0]
        return drawn + self._beyond_floor_in_block(worth, at, condition)

    def _sums_before(self, at: _Places, start: NDArray[np.int64], lengths: NDArray[np.int64]) -> NDArray[np.int64]:
        """Count how much of arcs with a common start the earlier blocks of a group have taken.

        Parameters
        ----------
        at
            The batches.
        start
            Where the arcs start in the regular blocks and in the last one, shape (2, n).
        lengths
            Lengths of the arcs, shape (n_arcs, 2, n).

        Returns
        -------
        NDArray[np.int64]
            Shape (n_arcs, n).
        """
        sums = np.zeros((len(lengths), lengths.shape[2]), np.int64)
        taken = np.flatnonzero(lengths.any(axis=(1, 2)))
        if taken.size:
            n, lengths = np.arange(lengths.shape[2]), lengths[taken]
            cycles, rest = np.divmod(lengths[:, at.is_last, n], self._n_blocks[at.key])
            visits = self._rotation.take(at.key).count(at.block, start[at.is_last, n], rest)
            sums[taken] = at.cycle * lengths.sum(axis=1) + at.is_last * lengths[:, 0] + cycles * at.block + visits
        return sums

    def _beyond_floor_in_block(self, worth: _Worth, at: _Places, condition: NDArray[np.int64]) -> NDArray[np.int64]:
        first, count = self._beyond_floor(worth, at, condition)
        width = np.maximum(self._width[at.key], 1)
        wrapped = np.maximum(first + count - width, 0)
        return np.clip(at.within - first, 0, count - wrapped) + np.minimum(at.within, wrapped)

    def _block_keys(self, at: _Places) -> NDArray[np.uint64]:
        return derive(derive(self._key[_BLOCK], at.group), at.cycle, at.is_last, at.block)

    def _turn(self, at: _Places) -> NDArray[np.int64]:
        """Return which batch of its block gets the first entry."""
        return below(derive(self._block_keys(at), _TURN), np.maximum(self._width[at.key], 1)).astype(np.int64)


def cut_slots(
    slots: NDArray[np.int64], leaky: NDArray[np.float64], n_slots: int, at_least: int, key: NDArray[np.uint64]
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return the primary and the leak slots of batches that are shorter than others, given the slots of full ones.

    A short batch has as many of the conditions, in random order, as can have the required number of slots.

    Parameters
    ----------
    slots
        Slots of each condition in a full batch, shape (n_batches, n_conditions).
    leaky
        Fraction of a condition's slots that leak, in the shape of `slots`.
    n_slots
        Slots of the short batches.
    at_least
        Slots that a condition of a batch has at least, if the batch has as many.
    key
        Key of each batch, shape (n_batches,).
    """
    bits = derive(key[:, None], np.arange(slots.shape[1])) >> np.uint64(1)
    rank = np.argsort(np.argsort(np.where(slots > 0, bits, bits | np.uint64(1 << 63)), axis=1), axis=1)
    kept = np.where(rank < max(1, n_slots // at_least), slots, 0)
    due = Choice.from_shares(kept / kept.sum(axis=1, keepdims=True), n_slots, at_least).slots
    offset = (derive(key, slots.shape[1]) >> np.uint64(64 - BITS)).astype(np.int64)
    rounded = round_slots(cumulative(due, n_slots), offset)
    leak_bound = np.zeros((len(slots), slots.shape[1] + 1), np.int64)
    leak_bound[:, 1:] = np.rint(np.cumsum(rounded * leaky, axis=1) * UNIT)
    leak = round_slots(leak_bound, offset)
    return rounded - leak, leak


@dataclass(frozen=True, slots=True, eq=False)
class _Places:
    """Where batches are; all fields have shape (n_batches,)."""

    group: NDArray[np.int64]
    index: NDArray[np.int64]
    cycle: NDArray[np.int64]
    is_last: NDArray[np.int64]
    """1 in the last block of a cycle, 0 in the others."""
    block: NDArray[np.int64]
    within: NDArray[np.int64]
    """Number of earlier batches in the block."""

    @property
    def key(self) -> tuple[Any, Any]:
        """Index of arrays that have an entry for the regular blocks and for the last one of each group."""
        return self.is_last, self.group

    def take(self, which: NDArray[np.int64]) -> _Places:
        """Return some of the places."""
        return _Places(*(getattr(self, name)[which] for name in self.__slots__))


def _rounded(value: NDArray[np.int64]) -> NDArray[np.int64]:
    """Round numbers in units of 2**-24."""
    return (value + UNIT // 2) >> BITS
