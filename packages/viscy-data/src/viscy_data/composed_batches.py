"""Composed batches: the sequence of batches of a table with a stated composition, on any number of ranks.

How one batch is composed, and the module of each step:

1. the table is sorted once, so that every pool of anchors is a slice (`_table`, `index`);
2. options and table give each group its share of the batches and each condition its share of a batch
   (`_compose/quotas`);
3. the schedule gives the batch its group, and its index within that group (`_compose/schedule`, `_compose/epoch`);
4. the quotas are rounded to whole numbers of primary and leak slots (`_compose/rounding`), and primary slots are split
   into window and global slots (`_compose/window`);
5. the slots become parts with one pool each (`_compose/parts`), and every part is filled with random rows
   (`_compose/draw`), with consecutive elements of a keyed permutation (`_compose/segments`) or with runs of rows
   (`_compose/runs`);
6. rows become positions, in random order (`_compose/block`).

All randomness is a function of a key and counters: seed, epoch, batch, ... (`_random/hash`). No generator keeps a state
that could differ between ranks, be lost in a crash, or have to be replayed.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import chain
from operator import methodcaller
from typing import TYPE_CHECKING, Any

import numpy as np

from viscy_data import _checks, _state
from viscy_data._attributes import SamplerAttributes, describe_options
from viscy_data._compose.block import BlockComposer
from viscy_data._compose.epoch import Epoch
from viscy_data._compose.planned import PlannedComposition
from viscy_data._compose.quotas import Quotas
from viscy_data._iterator import Cursor, EpochIterator
from viscy_data._options import SamplerOptions, columns, flag, integer
from viscy_data._sharding import ALL_SLOTS, BatchSizes, RankSlots, RankStride, ShardedBy, Sharding
from viscy_data.index import AnchorIndex

if TYPE_CHECKING:
    from viscy_data._table.tables import Anchors

# A block is composed at once: large enough to spread the cost of array calls, small enough to take milliseconds.
_SLOTS_PER_BLOCK = 2**18
# How much larger each block is than the one before it. A block of 64 batches takes only twice as long as one batch,
# because most of its time is spent calling array operations.
_BLOCK_GROWTH = 64


class ComposedBatches(SamplerAttributes):
    """The batches of a `FlexibleBatchSampler`, without torch.

    Parameters, methods, batches, states and errors are those of `FlexibleBatchSampler`, which is this class and a
    sampler of torch. Importing torch takes seconds; a program that only composes, counts or plans batches need not wait
    for it. The rank is taken from `torch.distributed` if something else has imported it, and is 0 otherwise.

    Examples
    --------
    >>> import pandas as pd
    >>> from viscy_data import ComposedBatches
    >>> anchors = pd.DataFrame({"experiment": ["monday", "tuesday"] * 50, "condition": ["mock"] * 50 + ["drug"] * 50})
    >>> batches = ComposedBatches(anchors, batch_size=8)
    >>> len(batches), len(batches.batch(0))
    (12, 8)
    """

    def __init__(
        self,
        valid_anchors: Anchors | AnchorIndex,
        batch_size: int = 128,
        experiment_aware: bool = True,
        leaky: float = 0.0,
        experiment_weights: Mapping[Any, float] | str | None = None,
        condition_balanced: bool = True,
        condition_ratio: Mapping[Any, float] | None = None,
        temporal_enrichment: bool = False,
        temporal_window_hours: float = 2.0,
        temporal_global_fraction: float = 0.3,
        num_replicas: int | None = None,
        rank: int | None = None,
        seed: int = 0,
        drop_last: bool = True,
        *,
        experiment_by: str | Sequence[str] = "experiment",
        condition_by: str | Sequence[str] = "condition",
        time_by: str = "hours_post_infection",
        even_batches: bool = True,
        as_arrays: bool = False,
        split_batches: bool = False,
        anchors_per_condition: int | None = None,
        epoch_batches: int | None = None,
        distinct_by: str | Sequence[str] | None = None,
        locality: int = 1,
        place_by: str | Sequence[str] | None = None,
        sharded_by: ShardedBy | None = None,
    ) -> None:
        self._options = SamplerOptions(
            batch_size=batch_size,
            experiment_aware=experiment_aware,
            leaky=leaky,
            experiment_weights=experiment_weights,
            condition_balanced=condition_balanced,
            condition_ratio=condition_ratio,
            temporal_enrichment=temporal_enrichment,
            temporal_window_hours=temporal_window_hours,
            temporal_global_fraction=temporal_global_fraction,
            seed=seed,
            drop_last=drop_last,
            experiment_by=columns("experiment_by", experiment_by),
            condition_by=columns("condition_by", condition_by),
            time_by=time_by,
            anchors_per_condition=anchors_per_condition,
            epoch_batches=epoch_batches,
            distinct_by=None if distinct_by is None else columns("distinct_by", distinct_by),
            locality=locality,
            place_by=None if place_by is None else columns("place_by", place_by),
        )
        self._even_batches = flag("even_batches", even_batches)
        self._as_arrays = flag("as_arrays", as_arrays)
        self._sharding = Sharding.from_options(
            sharded_by=sharded_by, split_batches=split_batches, rank=rank, num_replicas=num_replicas
        )
        self._index = AnchorIndex.for_options(valid_anchors, self._options)
        _checks.check_fit(self._index, self._options)
        self._sharding.check_given_ranks(self._batch_sizes)
        self._quotas = Quotas.from_options(self._index, self._options)
        _checks.warn_of_options_without_effect(self._options)
        _checks.warn_of_changed_shares(self._index, self._options, self._quotas)
        _checks.warn_of_shortages(self._index, self._options, self._quotas)
        self._composer = BlockComposer(self._index, self._quotas, self._options)
        self._epoch_plan: tuple[int, Epoch] | None = None
        self._cursor = Cursor()

    def __iter__(self) -> Iterator[list[int]]:
        """Yield this rank's batches of the chosen epoch, or of the epoch after the last one drawn from.

        The epoch, the rank and the number of ranks are those at the time when the first batch is drawn.

        Raises
        ------
        RuntimeError
            If the caller would split the batches over the ranks a second time, see `sharded_by`.
        """
        return EpochIterator(lambda: self._cursor, self._batches, self._total)

    def __len__(self) -> int:
        """Return the number of batches this rank yields in a full epoch; raise as ``iter()`` does."""
        return len(self._own_batches(0, self._sharding.rank_stride(self._batch_sizes)))

    def __repr__(self) -> str:
        """Return the numbers of anchors and batches, and the options that differ from their defaults."""
        sizes = f"{len(self._index)} anchors, {self._total} batches per epoch"
        return f"{type(self).__name__}({sizes}, {describe_options(self, ComposedBatches)})"

    def batch(self, k: int, epoch: int | None = None) -> list[int]:
        """Return batch `k` of the global sequence of an epoch, without composing the batches before it.

        Parameters
        ----------
        k : int
            Index of the batch in the global sequence, from 0. The sequence continues after the epoch's last batch.
        epoch : int, optional
            The epoch; by default the current one, or the one chosen for the next ``iter()``.

        Returns
        -------
        list of int
            Positions of anchors, shape (batch_size,).

        Raises
        ------
        TypeError, ValueError
            If `k` or `epoch` is not an integer or is negative.
        """
        k = integer("k", k, at_least=0, at_most=2**48)
        epoch = self._cursor.epoch if epoch is None else integer("epoch", epoch, at_least=0)
        return next(self._composed(epoch, range(k, k + 1)))

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch of the next iterator to draw its first batch; a loaded epoch keeps its batch index.

        Parameters
        ----------
        epoch : int
            Non-negative.

        Raises
        ------
        TypeError, ValueError
            If `epoch` is not an integer or is negative.
        """
        epoch = integer("epoch", epoch, at_least=0)
        if not (self._cursor.is_chosen and epoch == self._cursor.epoch):
            self._cursor = Cursor(epoch)

    def state_dict(self) -> dict[str, Any]:
        """Return the sampler's state, as a small dict of plain values.

        It counts the batches that were drawn from the sampler. A loader whose workers prefetch has drawn more batches
        than it has returned; torchdata's ``StatefulDataLoader`` takes that into account.

        Returns
        -------
        dict
            ``epoch``, ``position`` in the global sequence (the same on all ranks after equally many steps), and
            ``fingerprint`` of table and options. At the end of an epoch, the start of the next one.
        """
        cursor = self._cursor
        epoch, batch_index = (
            (cursor.epoch, cursor.batch_index) if cursor.batch_index < self._total else (cursor.epoch + 1, 0)
        )
        return _state.dump(epoch, batch_index, self._fingerprint())

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Resume where a sampler of the same table and options stopped, on any number of ranks.

        Parameters
        ----------
        state_dict : mapping
            As returned by `state_dict`.

        Raises
        ------
        TypeError
            If `state_dict` is not a mapping.
        ValueError
            If it is not the state of a sampler, or belongs to another table or other options; the message names what
            differs.
        """
        self._cursor = Cursor(*_state.load(state_dict, self._fingerprint(), self._total))

    def planned(self) -> PlannedComposition:
        """Return the target composition of epochs and batches.

        Returns
        -------
        PlannedComposition
            Target shares by stratum of the table, for an epoch and for a batch of each group; the number of batches;
            and the options as resolved. They do not depend on seed, epoch or rank.
        """
        return PlannedComposition.from_quotas(self._index, self._quotas, self._options)

    @property
    def epoch(self) -> int:
        """The current epoch, or the one chosen for the next ``iter()``."""
        return self._cursor.epoch

    @property
    def _total(self) -> int:
        """Number of batches in an epoch, on all ranks together."""
        return self._options.n_batches(len(self._index))

    @property
    def _batch_sizes(self) -> BatchSizes:
        return BatchSizes(self.batch_size, self._options.short_slots(len(self._index)))

    def _own_batches(self, batch_index: int, rank_stride: RankStride) -> range:
        """Return the numbers of the batches this rank yields, from an index in the global sequence to the end."""
        end = self._total
        if self._even_batches:
            end = batch_index + -(-(self._total - batch_index) // rank_stride.step) * rank_stride.step
        return range(batch_index + rank_stride.first, end, rank_stride.stride)

    def _batches(self, epoch: int, batch_index: int) -> tuple[int, Iterator[Any]]:
        """Return this rank's stride, and its batches from an index in the global sequence to the end of the epoch."""
        rank_stride = self._sharding.rank_stride(self._batch_sizes, warn=True)
        blocks = self._blocks(self._own_batches(batch_index, rank_stride))
        composed = (self._composed(epoch, block, rank_stride.slots) for block in blocks)
        return rank_stride.stride, chain.from_iterable(composed)

    def _composed(self, epoch: int, block: range, slots: RankSlots = ALL_SLOTS) -> Iterator[Any]:
        """Yield the batches of a block, or some slots of each, as lists or arrays."""
        composed = self._composer.compose(self._plan_of(epoch), np.array(block))
        composed = (positions[:, slots.of(positions.shape[1])] for positions in composed)
        if self._as_arrays:
            return chain.from_iterable(positions.astype(np.int64) for positions in composed)
        return map(methodcaller("tolist"), chain.from_iterable(composed))

    def _blocks(self, numbers: range) -> Iterator[range]:
        """Cut batch numbers into blocks of growing size, so that the first batch is fast; a short batch is alone."""
        # The arrays of a batch have an entry per slot, or two per condition, whichever are more.
        width = max(self.batch_size, 2 * len(self._index.conditions))
        size, largest = 1, max(1, _SLOTS_PER_BLOCK // width)
        while numbers:
            block = numbers[:size]
            if len(block) > 1 and not self.drop_last and self._total - 1 in block:
                before_last = block.index(self._total - 1)
                block = block[: max(before_last, 1)]
            yield block
            numbers = numbers[len(block) :]
            size = min(_BLOCK_GROWTH * size, largest)

    def _plan_of(self, epoch: int) -> Epoch:
        if self._epoch_plan is None or self._epoch_plan[0] != epoch:
            self._epoch_plan = epoch, Epoch(self._index, self._quotas, self._options, epoch)
        return self._epoch_plan[1]

    def _fingerprint(self) -> dict[str, str]:
        return _state.fingerprint(self._index, self._options)
