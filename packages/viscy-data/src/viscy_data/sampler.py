"""The batch sampler: batches of anchors with a stated composition, on any number of ranks.

How one batch is composed, and the module of each step:

1. the table is sorted once, so that every pool of anchors is a slice (`_table`, `index`);
2. options and table give each group its share of the batches and each condition its share of a batch
   (`_compose/quotas`);
3. the schedule gives the batch its group, and its index within that group (`_compose/schedule`, `_compose/epoch`);
4. the quotas are rounded to whole numbers of primary and leak slots (`_compose/rounding`), and primary slots are split
   into window and global slots (`_compose/window`);
5. the slots become parts with one pool each (`_compose/parts`), and every part is filled with random rows
   (`_compose/draw`) or with consecutive elements of a keyed permutation (`_compose/segments`);
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
from torch.utils.data import Sampler

from viscy_data import _checks, _state
from viscy_data._attributes import SamplerAttributes
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


class FlexibleBatchSampler(SamplerAttributes, Sampler[list[int]]):
    """Compose batches of anchors by experiment, condition and time.

    An *anchor* is one tracked cell at one timepoint, one row of `valid_anchors`. The sampler yields lists of anchor
    positions (0-based row numbers, whatever the frame's index is) and is meant for
    ``DataLoader(dataset, batch_sampler=sampler)``. What a batch holds determines what a contrastive model learns: if
    experiments are mixed freely, it learns to tell microscopes apart; if a rare condition stays rare, it ignores it; if
    negatives come from the whole time course, they are easy. Three axes control the composition, and each can be
    switched on or off.

    Parameters
    ----------
    valid_anchors : DataFrame, Table, path or AnchorIndex
        One row per anchor, shape (n_anchors, any), in any order and with any index: a pandas or polars DataFrame, a
        pyarrow Table or RecordBatch, or the path of a Parquet file or of a folder of Parquet files (see Notes). Columns
        may be strings, categoricals, integers, booleans, dates or Arrow-backed; the same content gives the same
        batches, whatever holds it. Only the columns of the axes that are on are read, one after the other; the table is
        neither modified nor kept. An `AnchorIndex` of the same columns gives the same batches as the table: built once,
        it serves all processes of a node and later runs.
    batch_size : int, default 128
        Slots of a batch. At most `n_anchors`, unless `drop_last` is False.
    experiment_aware : bool, default True
        Whether all primary slots of a batch come from one *group*: one value of `experiment_by`.
    leaky : float, default 0.0
        Fraction of a batch's slots, in [0, 1), that come from the other groups. Needs `experiment_aware` and at least
        two groups; otherwise a warning is logged and batches are full without it.
    experiment_weights : {"proportional", "sqrt", "uniform"} or mapping, optional
        How an epoch's batches are shared among the groups: in proportion to their rows (the default, None), to the
        square root of their rows, equally, or by the given weights, one for each group. A group of weight 0 is
        excluded: it has no batches, and nothing leaks from it. The key ``"..."`` stands for all groups not named.
    condition_balanced : bool, default True
        Whether the whole batch, leak included, is split over the values of `condition_by`.
    condition_ratio : mapping, optional
        Relative share of each condition, on any positive scale; equal shares by default. 0 excludes a condition, and
        the key ``"..."`` stands for all conditions not named. The share of a condition that a group lacks goes to the
        conditions it has, in proportion.
    temporal_enrichment : bool, default False
        Whether primary slots are concentrated around a *focal time*, one of the distinct times of the group.
    temporal_window_hours : float, default 2.0
        Half-width of the temporal window in hours. A time exactly this far from the focal time is inside the window.
    temporal_global_fraction : float, default 0.3
        Fraction of each condition's primary slots, in [0, 1], that is drawn from all times of the group, the window
        included; the other primary slots come from the window. At 1, batches are as without enrichment.
    num_replicas, rank : int, optional
        Number of ranks and the rank of this process; give both or neither. ``num_replicas=1`` alone means rank 0. By
        default they come from `torch.distributed`, which is queried at each use, and are 1 and 0 if it is not
        initialized.
    seed : int, default 0
        Non-negative. Sequences of different seeds are unrelated, as are those of different epochs.
    drop_last : bool, default True
        Whether to leave out the short last batch of ``n_anchors % batch_size`` slots.
    experiment_by : str or sequence of str, default "experiment"
        Column whose values are the groups; with several columns, the combinations that occur, as tuples.
    condition_by : str or sequence of str, default "condition"
        Column, or columns, whose values are the conditions.
    time_by : str, default "hours_post_infection"
        Column of times in hours.
    even_batches : bool, default True
        Whether every rank yields the same number of batches. If the number of batches in an epoch is not a multiple of
        `num_replicas`, the last step is completed with freshly composed batches; ranks with unequal numbers of batches
        would hang DistributedDataParallel. If False, the epoch ends after its last batch. No effect with
        `split_batches`, where ranks are always even.
    as_arrays : bool, default False
        Whether batches are arrays of positions, shape (batch_size,), dtype int64, instead of lists, for a dataset whose
        ``__getitems__`` accepts arrays: the list takes a third of the time of a batch. The batches are the same.
    split_batches : bool, default False
        Whether the ranks of a step share one batch. `batch_size` is then that of the whole step, and each rank yields
        its own ``batch_size / num_replicas`` slots, so that group, quotas and distinct anchors hold over all that a
        loss gathered over ranks compares, and a step holds the same anchors on any number of ranks. The number of
        ranks must divide `batch_size`, and the short last batch of ``drop_last=False``.
    anchors_per_condition : int, optional
        Anchors that each condition of a batch has at least, 1 to `batch_size`, so that a supervised loss has positives
        where there are many conditions. A batch then has ``batch_size // anchors_per_condition`` conditions, or all
        of its group if there are fewer; see Notes. Needs `condition_balanced`.
    epoch_batches : int, optional
        Number of batches in an epoch on all ranks together, at least 1. The epochs are parts of a round: as many as
        have together at least as many batches as an epoch would have without it. A stratum is drawn without
        replacement over the round, as it is over an epoch otherwise. All batches are full.
    distinct_by : str or sequence of str, optional
        Column, or columns, such as a lineage, whose values a batch repeats only if it has to: the same cell a frame
        later would be a false negative. See Notes. It takes up to four more bytes per anchor, and a batch takes about
        twice the time; several milliseconds where pools have fewer values than slots.
    sharded_by : {"sampler", "loader"}, optional
        Who splits the batches over ranks. "sampler": this sampler yields the batches of its own rank, as plain loops,
        torchrun, Lightning, Fabric and Ray Train need it. "loader": this sampler yields all batches on every rank, and
        a loader keeps each R-th one, as loaders do that accelerate prepared. By default, the sampler splits them unless
        one of accelerate's loaders is among its callers when the first batch is drawn.

    Raises
    ------
    TypeError
        If `valid_anchors` is not a table (a polars LazyFrame is not), or an option has the wrong type. A sampler
        instead of a table means that Lightning rebuilt this sampler around its own: set
        ``Trainer(use_distributed_sampler=False)``, and give ``Trainer.predict`` a loader without a batch sampler.
    ValueError
        If the table is empty, lacks a column or has missing values in one; if an option is out of range or does not fit
        the table; if a file is not Parquet or a folder contains no Parquet file. The message states the rule, the value
        and the remedy.
    FileNotFoundError
        If the path does not exist.
    RuntimeError
        When batches are drawn or counted: if a caller splits the batches over ranks that this sampler splits as well,
        or distributes whole batches over ranks that are to share them (`split_batches`).
    ModuleNotFoundError
        If pyarrow, which polars DataFrames and Parquet files need, is not installed; the extra `arrow` includes it.

    Notes
    -----
    **A batch.** One group is chosen. ``batch_size * leaky`` slots are leak slots, drawn uniformly from the rows of the
    other groups; the rest are primary slots. Primary slots are split over the conditions of the group, leak slots over
    those of the other groups. Enrichment acts last, inside group and condition: it never changes how many slots a
    condition has, and a condition without a row in the window draws its share from all its times.

    **Rounding.** Quotas become whole numbers of slots by systematic rounding. Each part (the leak, a condition's
    primary slots and its leak slots, the window slots of the primary ones) gets the floor or the ceiling of its quota,
    the parts add up to the batch exactly, and over batches each part gets exactly its quota on average. So does a
    condition's total, primary and leak slots together; only with a leak and three or more conditions with unequal
    shares can that total differ from its quota by one slot more (not with `anchors_per_condition`).

    **Several anchors a condition.** With `anchors_per_condition`, each of the chosen conditions gets the floor or the
    ceiling of an equal part of the slots, and over the group's batches in an epoch (in a round, with `epoch_batches`),
    each is chosen in proportion to its share, to within one batch. A condition whose share is so large that every batch
    has it keeps its share of the slots as far as the others keep their anchors; a warning says where that is not
    possible. Chosen conditions leak alike, except those that no other group has. Which conditions are in a batch
    together changes from batch to batch. A short last batch has some of the conditions that a full one would have.

    **Distinct anchors.** No anchor occurs twice in a batch, unless its pool has fewer rows than slots to fill. Then
    each row of the pool occurs the floor or the ceiling of slots / rows times, and a warning logged at construction
    counts the affected groups.

    **Distinct values.** With `distinct_by`, no two anchors of a batch share a value while the pool of one of them has
    an anchor of a value that the batch lacks. A pool is the anchors that may fill a slot: those of a group and
    condition, all or in the window, or those of a condition that may leak. Groups, focal times and all counts are the
    same as without it. Without enrichment, a stratum is still drawn without replacement, unless a value has about as
    many anchors in it as a round has batches of its group, or occurs in several conditions of the group. Where anchors
    are drawn at random, those of values that have many anchors in the pool are drawn less often, since a batch has one
    of them. If a stratum has fewer values than slots to fill, a warning is logged.

    **Order.** The slots of a batch are in random order: a slot's position says nothing about group, condition or time.

    **An epoch** has ``n_anchors // batch_size`` batches (one more with ``drop_last=False`` if rows are left over).
    Groups get their share of the batches to within one batch, in random order. Within a group, each time is focal
    equally often, to within one batch. Without enrichment, a stratum (group and condition) is drawn without
    replacement, round after round: none of its anchors is primary a second time before all of them were primary once.
    With enrichment, and for leak slots, draws are independent between batches.

    **Epochs.** Each new ``iter()`` starts the epoch after the last one a batch was drawn from, so a plain loop never
    repeats an epoch; `set_epoch` chooses an epoch instead. The epoch is the one that is set when the first batch is
    drawn, since Lightning calls ``iter()`` before ``set_epoch``; a data loader with workers draws its first batches in
    ``iter()``. An iterator from which no batch was drawn does not count.

    **Ranks.** The batches of an epoch are one global, endless sequence that does not depend on the number of ranks R.
    Rank r yields its batches r, r + R, r + 2R, ...; all ranks yield equally many, and a rank composes only its own.
    With `split_batches`, each rank composes all batches and yields the r-th of R equal parts of each. Slots are in
    random order, so all parts are alike. `batch` returns whole batches, `batch_size` is that of a whole batch
    (accelerate reads it to cut batches), and the state counts whole batches: a run may resume with another number of
    ranks and another value of `split_batches`.

    In Lightning, pass ``use_distributed_sampler=False``. The batches must be split over ranks once: by this sampler, or
    by a loader that draws every batch on every rank (`sharded_by`). Without a statement, one of accelerate's loaders
    among the callers is recognized, and a warning is logged if accelerate runs on several processes and none is. A
    ``DistributedSampler`` that draws from this sampler is an error. With `split_batches`, a loader must cut each batch;
    accelerate's loaders do so with ``DataLoaderConfiguration(split_batches=True)``.

    **A folder of Parquet files** is one table: the files whose names end in ``.parquet``, at any depth, in the order of
    their paths (compared as text, part by part), each with its rows in order. Names that start with ``.`` or ``_`` are
    left out. A subfolder named ``column=value`` adds that column to its files, as integers if all values are integers
    and as text otherwise; a column in the file itself takes precedence.

    **Attributes.** Every option can be read under the name of its parameter, as the sampler uses it, and cannot be set.
    `num_replicas` and `rank` are looked up each time they are read, unless they were given.

    **Cost.** Construction sorts the table once and keeps four bytes per anchor and a few integers for each distinct
    (group, condition, time). The cost of a batch does not depend on the number of anchors or ranks; with
    `split_batches`, it is that of the whole batch on every rank.

    **Reproducibility.** The same table content, options, seed and epoch give the same batches on every platform and in
    every release of Python, NumPy and pandas. The modules of the steps cite the methods they use.

    Examples
    --------
    A table with two experiments, two conditions of which one is rare, and a frame every half hour:

    >>> import numpy as np, pandas as pd
    >>> from viscy_data import FlexibleBatchSampler
    >>> cell = np.arange(4000)
    >>> anchors = pd.DataFrame({
    ...     "experiment": np.where(cell < 3000, "monday", "tuesday"),
    ...     "condition": np.where(cell % 10 == 0, "infected", "mock"),
    ...     "hours_post_infection": cell // 10 % 48 * 0.5,
    ... })

    By default, every batch is of one experiment, and the rare condition fills half of it:

    >>> sampler = FlexibleBatchSampler(anchors, batch_size=32)
    >>> len(sampler)
    125
    >>> for batch in sampler:
    ...     rows = anchors.iloc[batch]
    ...     assert rows["experiment"].nunique() == 1
    ...     assert (rows["condition"] == "infected").sum() == 16

    A leak of one eighth; of the other slots, three quarters within two hours of a focal time; experiments equally
    often:

    >>> sampler = FlexibleBatchSampler(
    ...     anchors, batch_size=32, leaky=0.125, experiment_weights="uniform",
    ...     temporal_enrichment=True, temporal_window_hours=2.0, temporal_global_fraction=0.25,
    ... )
    >>> rows = anchors.iloc[sampler.batch(0)]
    >>> sorted(rows["experiment"].value_counts().tolist())
    [4, 28]
    >>> rows["condition"].value_counts().to_dict() == {"mock": 16, "infected": 16}
    True

    The target composition, as `planned` reports it:

    >>> sampler.planned().strata["epoch_share"].tolist()
    [0.25, 0.25, 0.25, 0.25]

    On two ranks, each rank yields every other batch of the same sequence:

    >>> one_rank = FlexibleBatchSampler(anchors, batch_size=32, seed=7)
    >>> two_ranks = [FlexibleBatchSampler(anchors, batch_size=32, seed=7, num_replicas=2, rank=r) for r in (0, 1)]
    >>> evens, odds = (list(sampler) for sampler in two_ranks)
    >>> evens[0] == one_rank.batch(0) and odds[0] == one_rank.batch(1)
    True
    >>> len(evens) == len(odds) == 63  # 125 batches and a fresh one
    True

    Stopped in mid-epoch, and resumed in another process, on any number of ranks:

    >>> batches = iter(one_rank)
    >>> drawn = [next(batches) for _ in range(40)]
    >>> state = one_rank.state_dict()
    >>> resumed = FlexibleBatchSampler(anchors, batch_size=32, seed=7)
    >>> resumed.load_state_dict(state)
    >>> next(iter(resumed)) == one_rank.batch(40)
    True

    With a data loader; the dataset is indexed by position:

    >>> from torch.utils.data import DataLoader
    >>> loader = DataLoader(anchors["hours_post_infection"].to_numpy(), batch_sampler=sampler)
    >>> next(iter(loader)).shape
    torch.Size([32])

    Mistakes raise errors before the first batch:

    >>> FlexibleBatchSampler(anchors, batch_size=32, experiment_weights={"monday": 1, "tusday": 1})
    Traceback (most recent call last):
        ...
    ValueError: experiment_weights must name labels of the table, got 'tusday'; did you mean 'tuesday'? ...
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
    def sampler(self) -> FlexibleBatchSampler:
        """The sampler itself: Lightning and accelerate call ``batch_sampler.sampler.set_epoch``."""
        return self

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
