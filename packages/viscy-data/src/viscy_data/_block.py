"""A block: many batches composed at once by array operations.

Quotas are rounded to slots, slots are gathered in parts with a pool each, every part is dealt cards, cards become rows
of the sorted anchors, and the slots of each batch are put in random order.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from viscy_data._deck import Decks
from viscy_data._epoch import Epoch, Purpose
from viscy_data._focus import focal_slots, keep_clear_of_focal
from viscy_data._mix import derive
from viscy_data._parts import Kind, Parts, Pools
from viscy_data._rounding import BITS

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from viscy_data._options import SamplerOptions
    from viscy_data._quotas import Quotas
    from viscy_data._tickets import Turns
    from viscy_data.index import AnchorIndex

_LOW_HALF = np.uint64(0xFFFFFFFF)


class BlockComposer:
    """Composes the batches of a table.

    Parameters
    ----------
    index, quotas, options
        Of the sampler.
    """

    def __init__(self, index: AnchorIndex, quotas: Quotas, options: SamplerOptions) -> None:
        self._index = index
        self._options = options
        self._leak_pool = quotas.leak_pool
        self._group_times, self._group_times_start = index.times_of_groups()
        # the rows that may leak, listed condition by condition and in each group by group: where each cell starts
        self._source = (index.cell_size * (quotas.group_share > 0)[:, None]).T
        self._source_start = (np.cumsum(self._source) - self._source.ravel()).reshape(self._source.shape)

    def compose(self, epoch: Epoch, batch: NDArray[np.int64]) -> NDArray[np.uint32]:
        """Compose batches that have equally many slots.

        Parameters
        ----------
        epoch
            Plan of their epoch.
        batch
            Their numbers in the epoch, shape (n_batches,).

        Returns
        -------
        NDArray[np.uint32]
            Positions of anchors, shape (n_batches, n_slots).
        """
        n_slots = epoch.slots_of(int(batch[0]))
        turns = epoch.turns(batch)
        key = derive(epoch.key, Purpose.BATCHES, batch)
        primary, leak = epoch.slots(turns, n_slots)
        if self._options.enriched:
            quota = epoch.primary_quota(turns, n_slots)
            pools = self._focal_and_global(epoch, turns, key, primary, quota)
        else:
            pools = [self._dealt(epoch, turns, primary)]
        parts = Parts.of([*pools, self._leaked(turns, key, leak)])
        cards = parts.cards()
        if self._options.enriched:
            keep_clear_of_focal(parts, cards)
        rows = self._rows(turns, parts, cards).reshape(len(batch), n_slots)
        return self._index.order[_in_random_order(rows, key)]

    def _dealt(self, epoch: Epoch, turns: Turns, slots: NDArray[np.int64]) -> Pools:
        """Primary slots without enrichment: each cell is one deck for the whole epoch, dealt on from turn to turn."""
        size = self._index.cell_size[turns.group]
        n_conditions = size.shape[1]
        cell = turns.group[:, None] * n_conditions + np.arange(n_conditions)
        return Pools(
            kind=Kind.DEALT,
            start=self._index.cell_start[turns.group],
            size=size,
            slots=slots,
            first=epoch.dealt_before(turns) % np.maximum(size, 1),
            key=derive(epoch.key, Purpose.CARDS, cell),
        )

    def _focal_and_global(
        self, epoch: Epoch, turns: Turns, key: NDArray[np.uint64], slots: NDArray[np.int64], quota: NDArray[np.int64]
    ) -> list[Pools]:
        """Primary slots with enrichment; a condition with no row in the focal window draws all from its whole cell."""
        options = self._options
        start, size = self._index.window(turns.group, self._focal_time(epoch, turns), options.temporal_window_hours)
        offset = (derive(key, Purpose.FOCUS) >> np.uint64(64 - BITS)).astype(np.int64)
        focal = focal_slots(slots, quota, 1 - options.temporal_global_fraction, offset)
        focal = np.where(size > 0, focal, 0)
        cell_start, cell_size = self._index.cell_start[turns.group], self._index.cell_size[turns.group]
        return [
            _fresh(Kind.FOCAL, start, size, focal, key),
            _fresh(Kind.GLOBAL, cell_start, cell_size, slots - focal, key),
        ]

    def _leaked(self, turns: Turns, key: NDArray[np.uint64], slots: NDArray[np.int64]) -> Pools:
        size = self._leak_pool[turns.group]
        return _fresh(Kind.LEAK, np.zeros_like(size), size, slots, key)

    def _focal_time(self, epoch: Epoch, turns: Turns) -> NDArray[np.int64]:
        """Return the index of each batch's focal time: a group's times take turns, each round in a new order."""
        start = self._group_times_start[turns.group]
        n_times = self._group_times_start[turns.group + 1] - start
        rounds, place = turns.turn // n_times, turns.turn % n_times
        decks = Decks.keyed(n_times, derive(epoch.key, Purpose.FOCUS, turns.group, rounds))
        return self._group_times[start + decks.card(place)]

    def _rows(self, turns: Turns, parts: Parts, cards: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return the row of the sorted anchors that each card stands for, shape (n_slots,)."""
        rows = np.repeat(parts.start, parts.slots) + cards
        leaked = np.flatnonzero(np.repeat(parts.kind == Kind.LEAK, parts.slots))
        if leaked.size:
            part = parts.of_slots()[leaked]
            rows[leaked] = self._leaked_rows(turns.group[parts.batch[part]], parts.condition[part], cards[leaked])
        return rows

    def _leaked_rows(
        self, group: NDArray[np.int64], condition: NDArray[np.int64], card: NDArray[np.int64]
    ) -> NDArray[np.int64]:
        """Return rows of a condition in all groups but one: the card counts them, skipping the group's own."""
        number = self._source_start[condition, 0] + card
        number += np.where(number >= self._source_start[condition, group], self._source[condition, group], 0)
        cell = np.searchsorted(self._source_start.ravel(), number, side="right") - 1
        return self._index.cell_start.T.ravel()[cell] + number - self._source_start.ravel()[cell]


def _fresh(
    kind: Kind,
    start: NDArray[np.int64],
    size: NDArray[np.int64],
    slots: NDArray[np.int64],
    key: NDArray[np.uint64],
) -> Pools:
    """Make pools whose decks are used in one batch only, so that draws are independent between batches."""
    deck_key = derive(key[:, None], Purpose.CARDS, kind, np.arange(size.shape[1]))
    return Pools(kind=kind, start=start, size=size, slots=slots, first=np.zeros_like(slots), key=deck_key)


def _in_random_order(rows: NDArray[np.int64], key: NDArray[np.uint64]) -> NDArray[np.int64]:
    """Shuffle the slots of each batch: sort random words that carry the rows in their lower half."""
    words = derive(derive(key, Purpose.ORDER)[:, None], np.arange(rows.shape[1]))
    words &= ~_LOW_HALF
    words |= rows.astype(np.uint64)
    words.sort(axis=1)
    return (words & _LOW_HALF).astype(np.int64)
