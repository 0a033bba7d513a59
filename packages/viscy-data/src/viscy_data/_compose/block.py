"""A block: many batches that are composed together by array operations.

Quotas are rounded to slots, slots are grouped into parts with one pool of rows each, every part is filled from its
pool, rows of the sorted anchors become positions, and the slots of each batch are put in random order.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from viscy_data._compose.distinct import ValuesOfPools, replace_repeats
from viscy_data._compose.draw import draw_rows
from viscy_data._compose.epoch import Epoch, Stream
from viscy_data._compose.leak import Leak
from viscy_data._compose.parts import Kind, Parts, Pools
from viscy_data._compose.rounding import BITS
from viscy_data._compose.runs import fill_with_runs
from viscy_data._compose.segments import Segments
from viscy_data._compose.spaced_order import SpacedOrder
from viscy_data._compose.window import avoid_window_rows, window_slots
from viscy_data._random.hash import derive, random_uint32
from viscy_data._random.permutation import KeyedPermutations

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

    from viscy_data._compose.quotas import Quotas
    from viscy_data._compose.schedule import Scheduled
    from viscy_data._options import SamplerOptions
    from viscy_data.index import AnchorIndex

# Arrays with an entry per batch are small, so a block plans all its batches in one call. Arrays with an entry per slot
# are large and have to stay in the cache, so slots are filled for this many at a time.
_SLOTS_AT_ONCE = 2**16
_HALF_BITS = np.uint64(32)


class BlockComposer:
    """Composes the batches of a table.

    Parameters
    ----------
    index
        The sampler's index.
    quotas
        The sampler's quotas.
    options
        The sampler's options.
    """

    def __init__(self, index: AnchorIndex, quotas: Quotas, options: SamplerOptions) -> None:
        self._index = index
        self._options = options
        self._leak = Leak(index, quotas)
        self._has_leak = bool(quotas.leaky.any())
        self._group_times, self._group_times_start = index.times_of_groups()
        self._spaced_order = None
        if options.distinct_by is not None and not options.enriched and not options.is_local:
            most = np.ceil(quotas.most_primary_slots(options.batch_size) - 1e-9).astype(np.int64)
            self._spaced_order = SpacedOrder(index, most)
        self._values_of_pools = ValuesOfPools(index, quotas) if options.distinct_by is not None else None

    def compose(self, epoch: Epoch, batch: NDArray[np.int64]) -> Iterator[NDArray[np.uint32]]:
        """Compose batches that have equally many slots: plan all of them, then yield a few at a time.

        Parameters
        ----------
        epoch
            Plan of the batches' epoch.
        batch
            Numbers of the batches in the epoch, shape (n_batches,).

        Yields
        ------
        NDArray[np.uint32]
            Positions of anchors, shape (some of n_batches, n_slots).
        """
        n_slots = epoch.slots_of(int(batch[0]))
        scheduled = epoch.look_up(batch)
        streams = epoch.streams(batch)
        parts = self._parts(epoch, scheduled, streams, n_slots)
        step = max(1, _SLOTS_AT_ONCE // n_slots)
        for first in range(0, len(batch), step):
            some = slice(first, first + step)
            rows = self._rows(epoch, scheduled.take(some), parts.take(some), streams[some])
            if self._values_of_pools is not None:
                replace_repeats(
                    rows, parts.take(some), self._leak, self._values_of_pools, streams[some, Stream.REPEATS]
                )
            yield _in_random_order(self._index.positions(rows), streams[some])

    def _parts(self, epoch: Epoch, scheduled: Scheduled, streams: NDArray[np.uint64], n_slots: int) -> Parts:
        """Return the parts of batches."""
        primary, leak = epoch.slots(scheduled, n_slots)
        start, size = self._index.stratum_start[scheduled.group], self._index.stratum_size[scheduled.group]
        if self._options.enriched:
            window_start, window_size = self._window(epoch, scheduled)
            quota = epoch.primary_quota(scheduled, n_slots, primary)
            offset = (streams[:, Stream.WINDOW_SLOTS] >> np.uint64(64 - BITS)).astype(np.int64)
            in_window = window_slots(primary, quota, 1 - self._options.temporal_global_fraction, offset)
            in_window *= window_size > 0  # a condition with no row in the window draws from all its times
            pools = [
                Pools(Kind.WINDOW, window_start, window_size, in_window),
                Pools(Kind.GLOBAL, start, size, primary - in_window),
            ]
        else:
            pools = [Pools(Kind.STRATUM, start, size, primary)]
        if self._has_leak:
            pools.append(self._leak.pools(scheduled.group, leak))
        return Parts.from_pools(pools)

    def _window(self, epoch: Epoch, scheduled: Scheduled) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Return the rows around each batch's focal time; each round over a group's times has a new order."""
        start = self._group_times_start[scheduled.group]
        n_times = self._group_times_start[scheduled.group + 1] - start
        rounds, index = np.divmod(scheduled.index, n_times)
        # batches of the same round share one permutation of the group's times
        key, first, inverse = np.unique(epoch.focal_time_key(scheduled, rounds), return_index=True, return_inverse=True)
        permutations = KeyedPermutations.from_keys(n_times[first], key).take(inverse)
        focal_time = self._group_times[start + permutations.element(index)]
        return self._index.window(scheduled.group, focal_time, self._options.temporal_window_hours)

    def _rows(self, epoch: Epoch, scheduled: Scheduled, parts: Parts, streams: NDArray[np.uint64]) -> NDArray[np.int64]:
        """Return rows of the sorted anchors, shape (n_batches, n_slots); part by part with `distinct_by`.

        Without enrichment, a stratum has one permutation for the whole epoch, which continues from batch to batch. With
        enrichment, rows are drawn at random; batches that have a small pool use permutations of their own. With
        locality, an order of runs takes the place of each permutation, and all batches use them.
        """
        if not self._options.enriched or self._options.is_local:
            return self._permuted_rows(epoch, scheduled, parts, streams)
        large = parts.have_large_pools()
        if large.all():
            return self._drawn_rows(parts, streams)
        rows = np.empty((len(parts), parts.slots[0].sum()), np.int64)
        rows[~large] = self._permuted_rows(epoch, scheduled.take(~large), parts.take(~large), streams[~large])
        if large.any():
            rows[large] = self._drawn_rows(parts.take(large), streams[large])
        return rows

    def _drawn_rows(self, parts: Parts, streams: NDArray[np.uint64]) -> NDArray[np.int64]:
        """Return the rows of batches whose pools are large."""
        by_slot = self._options.distinct_by is not None
        return draw_rows(parts, self._leak, streams[:, Stream.DRAWS], in_slot_order=by_slot)

    def _permuted_rows(
        self, epoch: Epoch, scheduled: Scheduled, parts: Parts, streams: NDArray[np.uint64]
    ) -> NDArray[np.int64]:
        """Return the rows of batches whose parts are filled with consecutive elements of permutations."""
        first = np.zeros_like(parts.slots)
        condition = np.arange(parts.slots.shape[2])
        key = derive(streams[:, Stream.PERMUTATIONS, None, None], np.array(parts.kinds)[:, None], condition)
        if parts.kinds[0] == Kind.STRATUM:
            first[:, 0] = epoch.drawn_before(scheduled, parts.slots[:, 0]) % np.maximum(parts.size[:, 0], 1)
            key[:, 0] = epoch.permutation_key(scheduled.group[:, None] * len(condition) + condition)
        if self._spaced_order is None:
            return self._segment_rows(parts, first, key).reshape(len(parts), -1)
        rows = np.empty((len(parts), parts.slots[0].sum()), np.int64)
        is_primary = np.arange(rows.shape[1]) < parts.slots[:, 0].sum(axis=1)[:, None]
        used = parts.slots[:, 0] > 0
        stratum = (scheduled.group[:, None] * len(condition) + condition)[used]
        rows[is_primary] = self._spaced_order.rows(stratum, first[:, 0][used], parts.slots[:, 0][used], key[:, 0][used])
        if self._has_leak:
            rows[~is_primary] = self._segment_rows(parts.without_first_kind(), first, key)
        return rows

    def _segment_rows(self, parts: Parts, first: NDArray[np.int64], key: NDArray[np.uint64]) -> NDArray[np.int64]:
        """Return the rows of parts, given the first index and the key of their permutations, shape (n,)."""
        segments = Segments.from_parts(parts, first, key)
        if self._options.is_local:
            rows = fill_with_runs(segments, self._options.locality)
        else:
            rows = segments.rows()
            if Kind.GLOBAL in parts.kinds:
                avoid_window_rows(segments, rows)
        return self._leak.rows(rows, parts.per_slot(parts.own)) if self._has_leak else rows


def _in_random_order(positions: NDArray[np.uint32], streams: NDArray[np.uint64]) -> NDArray[np.uint32]:
    """Shuffle the slots of each batch: random numbers that carry the positions in their lower half are sorted."""
    numbers = random_uint32(streams[:, Stream.ORDER], positions.shape[1]).astype(np.uint64)
    numbers <<= _HALF_BITS
    numbers |= positions
    numbers.sort(axis=1)
    return numbers.astype(np.uint32)
