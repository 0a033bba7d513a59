"""The plan of an epoch: everything about its batches that does not depend on which batch it is.

Whatever has to be fair over an epoch (which time is focal, which anchors are drawn, which way quotas are rounded) is a
function of a batch's index within its group, and the index is a function of the batch's number: batch k is found
without any other batch.
"""

from __future__ import annotations

from enum import IntEnum
from typing import TYPE_CHECKING

import numpy as np

from viscy_data._compose import rounding
from viscy_data._compose.chosen_slots import ChosenSlots, cut_slots
from viscy_data._compose.schedule import Schedule, Scheduled
from viscy_data._compose.short_epochs import ShortEpochSchedule
from viscy_data._random.hash import derive, epoch_key

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from viscy_data._compose.choice import Choice
    from viscy_data._compose.quotas import Quotas
    from viscy_data._options import SamplerOptions
    from viscy_data.index import AnchorIndex


class Purpose(IntEnum):
    """What random bits of an epoch are used for: the first counter below the key of the epoch."""

    SCHEDULE = 0
    GROUP_SHARES = 1
    CONDITION_ORDER = 2
    ROUNDING = 3
    FOCAL_TIMES = 4
    PERMUTATIONS = 5
    BATCHES = 6
    LEAK = 7
    CHOICE = 8


class Stream(IntEnum):
    """What random bits of a batch are used for: the first counter below the key of the batch."""

    WINDOW_SLOTS = 0
    DRAWS = 1
    PERMUTATIONS = 2
    ORDER = 3
    REPEATS = 4


class Epoch:
    """The plan of one epoch.

    Parameters
    ----------
    index
        The sampler's index.
    quotas
        The sampler's quotas.
    options
        The sampler's options.
    epoch
        The epoch's number.

    Attributes
    ----------
    n_slots
        Slots of a full batch.
    total
        Number of batches in a cycle of the schedule, the short one included.
    short_slots
        Slots of the short last batch, 0 if there is none.
    condition_order
        The order of the conditions in which quotas are laid end to end, shape (n_conditions,). Neighbors are seldom
        rounded up in the same batch, so each epoch has another order: no two conditions are kept apart for good.
    """

    def __init__(self, index: AnchorIndex, quotas: Quotas, options: SamplerOptions, epoch: int) -> None:
        n_epochs = options.n_epochs(len(index))
        number, self._epoch_in_round = divmod(epoch, n_epochs)
        self._key = derive(epoch_key(options.seed, number), np.arange(len(Purpose)))
        self.n_slots = options.batch_size
        self.short_slots = options.short_slots(len(index))
        self.total = options.n_batches(len(index))
        self._round_batches = n_epochs * self.total
        bits = derive(self._key[Purpose.CONDITION_ORDER], np.arange(len(index.conditions)))
        self.condition_order = np.argsort(bits, kind="stable")
        self._condition_rank = np.argsort(self.condition_order)
        self._quotas = quotas
        self._conditions_with_share, self._has_even_leak = quotas.conditions_with_share, quotas.has_even_leak
        schedule_key = self._key[Purpose.SCHEDULE, None]
        self._schedule = (
            Schedule(quotas.group_share, self.total, self._share_offset(), schedule_key)
            if options.epoch_batches is None
            else ShortEpochSchedule(quotas.group_share, self.total, n_epochs, schedule_key)
        )
        group = np.arange(len(index.groups))
        self._offset_key, self._focal_time_key = derive(self._key[[Purpose.ROUNDING, Purpose.FOCAL_TIMES], None], group)
        most_batches = int(self._schedule.batches_in_cycle.max())
        self._offsets = rounding.Offsets(most_batches, self._key[Purpose.ROUNDING, None])
        self._bound = self._part_bounds(self.n_slots)
        self._short_bound = self._part_bounds(self.short_slots)
        self._chosen = self._choose()
        self._unused = self._unused_by_short_batch()

    def slots_of(self, batch: int) -> int:
        """Return the number of slots of a batch."""
        return self.short_slots if self.short_slots and batch == self.total - 1 else self.n_slots

    def look_up(self, batch: NDArray[np.int64]) -> Scheduled:
        """Return group and index within the group of batches, given by number; shape (n_batches,)."""
        return self._schedule.look_up(self._number_in_round(batch))

    def streams(self, batch: NDArray[np.int64]) -> NDArray[np.uint64]:
        """Return the keys of everything random in batches, given by number; shape (n_batches, len(Stream))."""
        number = self._number_in_round(batch)
        return derive(derive(self._key[Purpose.BATCHES], number)[:, None], np.arange(len(Stream)))

    def slots(self, scheduled: Scheduled, n_slots: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Round the quotas of batches to whole numbers of slots.

        Parameters
        ----------
        scheduled
            Batches with `n_slots` slots each.
        n_slots
            Slots of a full batch or of the short one.

        Returns
        -------
        primary, leak
            Slots of each condition, both of shape (n_batches, n_conditions).
        """
        if n_slots != self.n_slots and self._quotas.choice is not None:
            return self._cut_slots(scheduled, n_slots, self._quotas.choice)
        if self._chosen is None:
            return self._rounded_slots(scheduled, n_slots)
        which = self._chosen.which(scheduled)
        if len(which) == len(scheduled.group):
            return self._chosen.slots(scheduled)
        primary, leak = self._rounded_slots(scheduled, n_slots)
        primary[which], leak[which] = self._chosen.slots(scheduled.take(which))
        return primary, leak

    def _rounded_slots(self, scheduled: Scheduled, n_slots: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Round the quotas of batches that have all conditions of their groups."""
        bound = self._bound if n_slots == self.n_slots else self._short_bound
        rounded = rounding.round_slots(bound[scheduled.group], self._offset(scheduled))
        primary, leak = self._by_condition(rounded)
        even = np.flatnonzero(self._has_even_leak[scheduled.group])
        if even.size:
            self._even_out(primary, leak, scheduled, even)
        return primary, leak

    def _cut_slots(
        self, scheduled: Scheduled, n_slots: int, choice: Choice
    ) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Return the slots of short batches, which have some of the conditions that full ones would have."""
        primary, leak = self.slots(scheduled, self.n_slots)
        key = derive(self._key[Purpose.CHOICE], scheduled.group, scheduled.index)
        return cut_slots(primary + leak, choice.leaky[scheduled.group], n_slots, choice.at_least, key)

    def _even_out(
        self, primary: NDArray[np.int64], leak: NDArray[np.int64], scheduled: Scheduled, even: NDArray[np.intp]
    ) -> None:
        """Give the leak slots of some batches, in place, to the conditions whose primary slots were rounded down.

        Where all conditions have equal shares, their totals are then the floor or the ceiling of their quotas as well.
        """
        at = np.ix_(even, self._conditions_with_share)
        key = derive(self._key[Purpose.LEAK], scheduled.group[even], scheduled.index[even])
        bits = derive(key[:, None], self._conditions_with_share)
        leak[at] = rounding.round_alongside(primary[at], leak[even].sum(axis=1), bits)

    def permutation_key(self, stratum: NDArray[np.int64]) -> NDArray[np.uint64]:
        """Return the keys of the permutations of strata for the whole epoch, in the shape of `stratum`."""
        return derive(self._key[Purpose.PERMUTATIONS], stratum)

    def focal_time_key(self, scheduled: Scheduled, rounds: NDArray[np.int64]) -> NDArray[np.uint64]:
        """Return the key of the order of a group's focal times in a round over all its times, shape (n_batches,)."""
        return derive(self._focal_time_key[scheduled.group], rounds)

    def primary_quota(self, scheduled: Scheduled, n_slots: int, primary: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return the quotas that primary slots were rounded from, in units of 2**-24, in the shape of `primary`."""
        if self._quotas.choice is not None and n_slots != self.n_slots:
            return primary << rounding.BITS
        bound = self._bound if n_slots == self.n_slots else self._short_bound
        quota = self._by_condition(np.diff(bound[scheduled.group], axis=1))[0]
        if self._chosen is not None:
            which = self._chosen.which(scheduled)
            quota[which] = self._chosen.primary_quota(scheduled.take(which), primary[which])
        return quota

    def drawn_before(self, scheduled: Scheduled, primary: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return each condition's primary slots in the group's earlier batches, in the shape of `primary`.

        Parameters
        ----------
        scheduled
            The batches.
        primary
            Their primary slots. The result is right where they are above 0.
        """
        which = np.empty(0, np.intp) if self._chosen is None else self._chosen.which(scheduled)
        drawn = np.empty_like(primary) if len(which) == len(primary) else self._rounded_before(scheduled)
        if self._chosen is not None:
            drawn[which] = self._chosen.drawn_before(scheduled.take(which), primary[which])
        if self._unused:
            short, slots = self._unused
            drawn = drawn - slots * ((scheduled.group == short.group) & (scheduled.index > short.index))[:, None]
        return drawn

    def _choose(self) -> ChosenSlots | None:
        """Return the slots of groups of which conditions are chosen or rounded in total, None if there are none."""
        choice = self._quotas.choice
        if choice is None or not choice.rounds_totals.any():
            return None
        key = self._key[Purpose.CHOICE, None]
        return ChosenSlots(choice, self.n_slots, self._schedule.batches_in_cycle, key)

    def _number_in_round(self, batch: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return the numbers of batches in the round; those beyond the end of the epoch come after the round."""
        cycle, number = np.divmod(batch, self.total)
        return cycle * self._round_batches + self._epoch_in_round * self.total + number

    def _rounded_before(self, scheduled: Scheduled) -> NDArray[np.int64]:
        key = self._offset_key[scheduled.group]
        before = rounding.slots_before(self._bound[scheduled.group], scheduled.index, self._offsets, key)
        return self._by_condition(before)[0]

    def _unused_by_short_batch(self) -> tuple[Scheduled, NDArray[np.int64]] | None:
        """Return the short batch, and how many fewer primary slots of each condition it has than a full batch."""
        if not self.short_slots:
            return None
        short = self.look_up(np.array([self.total - 1]))
        return short, self.slots(short, self.n_slots)[0] - self.slots(short, self.short_slots)[0]

    def _part_bounds(self, n_slots: int) -> NDArray[np.int64]:
        """Lay the quotas of a batch end to end, for every group.

        Primary parts are in the order of the conditions and leak parts in the opposite order. So a condition's two
        parts are mirror images, and where they add up to a whole number of slots they are rounded in opposite
        directions: a condition that is due 64 slots of 128 gets 64, whatever the leak.
        """
        primary = self._quotas.primary_slots(n_slots)[:, self.condition_order]
        leak = self._quotas.leak_slots(n_slots)[:, self.condition_order[::-1]]
        return rounding.cumulative(np.concatenate([primary, leak], axis=1), n_slots)

    def _by_condition(self, parts: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Sort parts that are laid out as in `_part_bounds` by condition code; return primary and leak parts."""
        return parts[:, self._condition_rank], parts[:, -1 - self._condition_rank]

    def _offset(self, scheduled: Scheduled) -> NDArray[np.int64]:
        return self._offsets.at(scheduled.index, self._offset_key[scheduled.group])

    def _share_offset(self) -> NDArray[np.int64]:
        """Return the random rounding offset of the groups' shares, in units of 2**-24."""
        return (self._key[Purpose.GROUP_SHARES, None] >> np.uint64(64 - rounding.BITS)).astype(np.int64)
