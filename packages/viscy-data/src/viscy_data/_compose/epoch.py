"""The plan of an epoch: everything about its batches that does not depend on which batch it is.

Whatever has to be fair over an epoch (which time is focal, which anchors are dealt, which way quotas are rounded) is a
function of a batch's *turn*, the number of batches of its group that come before it, and the turn is one of the batch's
number: batch k is found without any other.
"""

from __future__ import annotations

from enum import IntEnum
from typing import TYPE_CHECKING

import numpy as np

from viscy_data._compose import rounding
from viscy_data._compose.schedule import Tickets, Turns
from viscy_data._random.hash import derive, epoch_key

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from viscy_data._compose.quotas import Quotas
    from viscy_data._options import SamplerOptions
    from viscy_data.index import AnchorIndex


class Purpose(IntEnum):
    """What the random words of an epoch are for: part of their address, below the key of the epoch."""

    TICKETS = 0
    SHARES = 1
    CONDITIONS = 2
    ROUNDING = 3
    FOCUS = 4
    CARDS = 5
    BATCHES = 6
    LEAK = 7


class Stream(IntEnum):
    """What the random words of a batch are for: part of their address, below the key of the batch."""

    FOCUS = 0
    DRAWS = 1
    CARDS = 2
    ORDER = 3


class Epoch:
    """The plan of one epoch.

    Parameters
    ----------
    index, quotas, options
        Of the sampler.
    epoch
        The epoch's number.

    Attributes
    ----------
    total
        Number of batches in a lap, the short one included.
    short_slots
        Slots of the short last batch, 0 if there is none.
    condition_order
        The conditions in the order in which quotas are laid end to end, shape (n_conditions,). It is drawn anew for
        each epoch, so that no two conditions are neighbours, and seldom in one batch, for ever.
    """

    def __init__(self, index: AnchorIndex, quotas: Quotas, options: SamplerOptions, epoch: int) -> None:
        self._key = derive(epoch_key(options.seed, epoch), np.arange(len(Purpose)))
        self.n_slots = options.batch_size
        self.short_slots = options.short_slots(len(index))
        self.total = options.n_batches(len(index))
        words = derive(self._key[Purpose.CONDITIONS], np.arange(len(index.conditions)))
        self.condition_order = np.argsort(words, kind="stable")
        self._place = np.argsort(self.condition_order)
        self._quotas = quotas
        self._shared, self._has_even_leak = quotas.shared, quotas.has_even_leak
        tickets_key = self._key[Purpose.TICKETS, None]
        self._tickets = Tickets(quotas.group_share, self.total, self._share_offset(), tickets_key)
        group = np.arange(len(index.groups))
        self._offset_key, self._focus_key = derive(self._key[[Purpose.ROUNDING, Purpose.FOCUS], None], group)
        self._offsets = rounding.Offsets(self._tickets.longest_run, self._key[Purpose.ROUNDING, None])
        self._bound = self._part_bounds(self.n_slots)
        self._short_bound = self._part_bounds(self.short_slots)
        self._spared = self._spared_by_short_batch()

    def slots_of(self, batch: int) -> int:
        """Return how many slots a batch has."""
        return self.short_slots if self.short_slots and batch == self.total - 1 else self.n_slots

    def turns(self, batch: NDArray[np.int64]) -> Turns:
        """Return group and turn of batches, by their numbers; shape (n_batches,)."""
        return self._tickets.turns(batch)

    def streams(self, batch: NDArray[np.int64]) -> NDArray[np.uint64]:
        """Return the keys of all that is random in batches, by their numbers; shape (n_batches, len(Stream))."""
        return derive(derive(self._key[Purpose.BATCHES], batch)[:, None], np.arange(len(Stream)))

    def slots(self, turns: Turns, n_slots: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Round the quotas of batches to whole slots.

        Parameters
        ----------
        turns
            Of batches with `n_slots` slots each.
        n_slots
            The full number or the short one.

        Returns
        -------
        primary, leak
            Slots of each condition, both of shape (n_batches, n_conditions).
        """
        bound = self._bound if n_slots == self.n_slots else self._short_bound
        primary, leak = self._by_condition(rounding.whole_slots(bound[turns.group], self._offset(turns)))
        even = np.flatnonzero(self._has_even_leak[turns.group])
        if even.size:
            self._even_out(primary, leak, turns, even)
        return primary, leak

    def _even_out(
        self, primary: NDArray[np.int64], leak: NDArray[np.int64], turns: Turns, even: NDArray[np.intp]
    ) -> None:
        """Give the leak slots of some batches, in place, to the conditions that the primary ones were rounded against.

        Where all conditions have equal shares, their totals then are the floor or the ceiling of their quotas as well.
        """
        place = np.ix_(even, self._shared)
        key = derive(self._key[Purpose.LEAK], turns.group[even], turns.turn[even])
        words = derive(key[:, None], self._shared)
        leak[place] = rounding.beside(primary[place], leak[even].sum(axis=1), words)

    def deck_key(self, cell: NDArray[np.int64]) -> NDArray[np.uint64]:
        """Return the keys of the decks that cells are for the whole epoch, in the shape of `cell`."""
        return derive(self._key[Purpose.CARDS], cell)

    def focus_key(self, turns: Turns, rounds: NDArray[np.int64]) -> NDArray[np.uint64]:
        """Return the key of the order in which a group's times are focal in one round, shape (n_batches,)."""
        return derive(self._focus_key[turns.group], rounds)

    def primary_quota(self, turns: Turns, n_slots: int) -> NDArray[np.int64]:
        """Return the primary quota of each condition in units of 2**-24 of a slot, shape (n_batches, n_conditions)."""
        bound = self._bound if n_slots == self.n_slots else self._short_bound
        return self._by_condition(np.diff(bound[turns.group], axis=1))[0]

    def dealt_before(self, turns: Turns) -> NDArray[np.int64]:
        """Return the primary slots of each condition in the group's earlier turns, shape (n_batches, n_conditions)."""
        key = self._offset_key[turns.group]
        before = rounding.slots_before(self._bound[turns.group], turns.turn, self._offsets, key)
        dealt = self._by_condition(before)[0]
        if self._spared:
            short, slots = self._spared
            dealt = dealt - slots * ((turns.group == short.group) & (turns.turn > short.turn))[:, None]
        return dealt

    def _spared_by_short_batch(self) -> tuple[Turns, NDArray[np.int64]] | None:
        """Return the turn of the short batch and the primary slots that it has fewer than a full one."""
        if not self.short_slots:
            return None
        short = self.turns(np.array([self.total - 1]))
        return short, self.slots(short, self.n_slots)[0] - self.slots(short, self.short_slots)[0]

    def _part_bounds(self, n_slots: int) -> NDArray[np.int64]:
        """Lay the quotas of a batch end to end, for every group.

        Primary parts come in the order of the conditions and leak parts in the opposite order. So a condition's two
        parts lie mirrored, and where they add up to a whole number of slots they are rounded in opposite directions:
        a condition due 64 slots of 128 has 64, whatever the leak.
        """
        primary = self._quotas.primary_slots(n_slots)[:, self.condition_order]
        leak = self._quotas.leak_slots(n_slots)[:, self.condition_order[::-1]]
        return rounding.cumulative(np.concatenate([primary, leak], axis=1), n_slots)

    def _by_condition(self, parts: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Put parts that are laid out as in `_part_bounds` in the order of the condition codes."""
        return parts[:, self._place], parts[:, -1 - self._place]

    def _offset(self, turns: Turns) -> NDArray[np.int64]:
        return self._offsets.of(turns.turn, self._offset_key[turns.group])

    def _share_offset(self) -> NDArray[np.int64]:
        """Return which way the groups' shares are rounded: a random fraction in units of 2**-24."""
        return (self._key[Purpose.SHARES, None] >> np.uint64(64 - rounding.BITS)).astype(np.int64)
