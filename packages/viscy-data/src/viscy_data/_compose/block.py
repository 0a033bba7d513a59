"""A block: many batches composed at once by array operations.

Quotas are rounded to slots, slots are gathered in parts with a pool of rows each, every part is filled from its pool,
rows of the sorted anchors become positions, and the slots of each batch are put in random order.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from viscy_data._compose.draw import drawn_rows
from viscy_data._compose.epoch import Epoch, Stream
from viscy_data._compose.leak import Leak
from viscy_data._compose.parts import Kind, Parts, Pools
from viscy_data._compose.rounding import BITS
from viscy_data._compose.segments import Hands
from viscy_data._compose.window import focal_slots, keep_clear_of_focal
from viscy_data._random.hash import derive, half_words
from viscy_data._random.permutation import Decks

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

    from viscy_data._compose.quotas import Quotas
    from viscy_data._compose.schedule import Turns
    from viscy_data._options import SamplerOptions
    from viscy_data.index import AnchorIndex

# What batches are planned with is small and wants many at once, their slots are many and want to stay in the cache.
_SLOTS_AT_ONCE = 2**16
_HALF_WORD = np.uint64(32)


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
        self._leak = Leak(index, quotas)
        self._leaks = bool(quotas.leaky.any())
        self._group_times, self._group_times_start = index.times_of_groups()

    def compose(self, epoch: Epoch, batch: NDArray[np.int64]) -> Iterator[NDArray[np.uint32]]:
        """Compose batches that have equally many slots: plan them all, then yield some at a time.

        Parameters
        ----------
        epoch
            Plan of their epoch.
        batch
            Their numbers in the epoch, shape (n_batches,).

        Yields
        ------
        NDArray[np.uint32]
            Positions of anchors, shape (some of n_batches, n_slots).
        """
        n_slots = epoch.slots_of(int(batch[0]))
        turns = epoch.turns(batch)
        streams = epoch.streams(batch)
        parts = self._parts(epoch, turns, streams, n_slots)
        step = max(1, _SLOTS_AT_ONCE // n_slots)
        for first in range(0, len(batch), step):
            some = slice(first, first + step)
            rows = self._rows(epoch, turns.of_batches(some), parts.of_batches(some), streams[some])
            yield _in_random_order(self._index.order.take(rows, mode="clip"), streams[some])

    def _parts(self, epoch: Epoch, turns: Turns, streams: NDArray[np.uint64], n_slots: int) -> Parts:
        """Return what batches consist of."""
        primary, leak = epoch.slots(turns, n_slots)
        cell_start, cell_size = self._index.cell_start[turns.group], self._index.cell_size[turns.group]
        if self._options.enriched:
            start, size = self._focal_window(epoch, turns)
            quota = epoch.primary_quota(turns, n_slots)
            offset = (streams[:, Stream.FOCUS] >> np.uint64(64 - BITS)).astype(np.int64)
            focal = focal_slots(primary, quota, 1 - self._options.temporal_global_fraction, offset)
            focal *= size > 0  # a condition with no row in the focal window draws all from its whole cell
            pools = [Pools(Kind.FOCAL, start, size, focal), Pools(Kind.GLOBAL, cell_start, cell_size, primary - focal)]
        else:
            pools = [Pools(Kind.DEALT, cell_start, cell_size, primary)]
        if self._leaks:
            pools.append(self._leak.pools(turns.group, leak))
        return Parts.of(pools)

    def _focal_window(self, epoch: Epoch, turns: Turns) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Return the rows around each batch's focal time: a group's times take turns, each round in a new order."""
        start = self._group_times_start[turns.group]
        n_times = self._group_times_start[turns.group + 1] - start
        rounds, place = np.divmod(turns.turn, n_times)
        # batches of the same round share its deck
        key, first, deck = np.unique(epoch.focus_key(turns, rounds), return_index=True, return_inverse=True)
        decks = Decks.keyed(n_times[first], key).take(deck)
        focal_time = self._group_times[start + decks.card(place)]
        return self._index.window(turns.group, focal_time, self._options.temporal_window_hours)

    def _rows(self, epoch: Epoch, turns: Turns, parts: Parts, streams: NDArray[np.uint64]) -> NDArray[np.int64]:
        """Return rows of the sorted anchors, shape (n_batches, n_slots).

        Without enrichment a cell is one deck for the whole epoch, dealt on from turn to turn. With it rows are drawn;
        in batches that have a pool with few rows, they are dealt as well, from decks of the batch's own.
        """
        if not self._options.enriched:
            return self._dealt_rows(epoch, turns, parts, streams)
        roomy = parts.are_roomy()
        if roomy.all():
            return drawn_rows(parts, self._leak, streams[:, Stream.DRAWS])
        rows = np.empty((len(parts), parts.slots[0].sum()), np.int64)
        rows[~roomy] = self._dealt_rows(epoch, turns.of_batches(~roomy), parts.of_batches(~roomy), streams[~roomy])
        if roomy.any():
            rows[roomy] = drawn_rows(parts.of_batches(roomy), self._leak, streams[roomy, Stream.DRAWS])
        return rows

    def _dealt_rows(self, epoch: Epoch, turns: Turns, parts: Parts, streams: NDArray[np.uint64]) -> NDArray[np.int64]:
        first = np.zeros_like(parts.slots)
        condition = np.arange(parts.slots.shape[2])
        deck_key = derive(streams[:, Stream.CARDS, None, None], np.array(parts.kinds)[:, None], condition)
        if parts.kinds[0] == Kind.DEALT:
            first[:, 0] = epoch.dealt_before(turns) % np.maximum(parts.size[:, 0], 1)
            deck_key[:, 0] = epoch.deck_key(turns.group[:, None] * len(condition) + condition)
        hands = Hands.of(parts, first, deck_key)
        cards = hands.cards()
        if Kind.GLOBAL in parts.kinds:
            keep_clear_of_focal(hands, cards)
        cards += parts.of_slots(parts.start)
        return self._leak.rows(cards, parts.of_slots(parts.own)).reshape(len(parts), -1)


def _in_random_order(positions: NDArray[np.uint32], streams: NDArray[np.uint64]) -> NDArray[np.uint32]:
    """Shuffle the slots of each batch: sort random words that carry the positions in their lower half."""
    words = half_words(streams[:, Stream.ORDER], positions.shape[1]).astype(np.uint64)
    words <<= _HALF_WORD
    words |= positions
    words.sort(axis=1)
    return words.astype(np.uint32)
