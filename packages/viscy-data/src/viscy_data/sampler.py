"""The batch composer: batches of anchors with a stated composition, on any number of ranks.

The story of one batch, and the module that tells each step:

1. the table is sorted once, so that every pool of anchors is a slice (`_columns`, `index`);
2. the options and the table give each group its share of the batches, each condition its share of a batch (`_quotas`);
3. the batch draws a ticket, which gives its group and its turn in that group (`_epoch`);
4. its quotas are rounded to whole primary and leak slots (`_rounding`), primary ones to focal and global (`_focus`);
5. its slots become parts with a pool each (`_parts`), and every part is dealt the cards of a keyed deck (`_deck`);
6. cards become positions, in random order (`_block`).

All randomness is addressed by (seed, epoch, batch, ...) (`_mix`): there is no generator whose state could differ
between ranks, be lost in a crash, or have to be replayed.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from itertools import chain
from operator import methodcaller
from types import FrameType
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from torch.utils.data import Sampler

from viscy_data import _checks, _state
from viscy_data._compose.block import BlockComposer
from viscy_data._compose.epoch import Epoch
from viscy_data._compose.planned import PlannedComposition
from viscy_data._compose.quotas import Quotas
from viscy_data._iterator import EpochIterator, Place
from viscy_data._options import SamplerOptions, columns, flag, integer
from viscy_data.distributed import rank_and_world_size, ranks, ranks_dealt_to_by
from viscy_data.index import AnchorIndex

if TYPE_CHECKING:
    from viscy_data._table.tables import Anchors

# A block is built at once: large enough to spread the cost of array calls, small enough to take milliseconds.
_SLOTS_OF_A_BLOCK = 2**18


class Dealing(NamedTuple):
    """How the global sequence is dealt out: which batches of a step are own ones."""

    first: int
    """The first batch of a step that is."""
    stride: int
    """From one such batch to the next."""
    step: int
    """Batches of a step, on all ranks together."""


class FlexibleBatchSampler(Sampler[list[int]]):
    """Compose batches of anchors by experiment, condition and time.

    An *anchor* is one tracked cell at one timepoint, one row of `valid_anchors`. The sampler yields lists of anchor
    positions (0-based row numbers, whatever the frame's index is) and is meant for
    ``DataLoader(dataset, batch_sampler=sampler)``. What lands together in a batch decides what a contrastive model
    learns: experiments mixed freely teach it to tell microscopes apart, a rare condition left rare is ignored, and
    negatives from all over the time course are easy ones. Each of these is an axis to be switched on.

    Parameters
    ----------
    valid_anchors : DataFrame, Table, path or AnchorIndex
        One row an anchor, shape (n_anchors, any), in any order and with any index: a DataFrame of pandas or polars, a
        pyarrow Table or RecordBatch, or the path of a Parquet file or of a folder of them (see Notes). Columns may be
        strings, categoricals, integers, booleans, dates or Arrow-backed; the same content gives the same batches,
        whatever holds it. Only the columns of the axes that are on are read, one after the other; the table is neither
        modified nor kept. In place of a table, an `AnchorIndex` of the same columns gives the same batches: built once,
        it serves all processes of a node and later runs.
    batch_size : int, default 128
        Slots of a batch. At most `n_anchors`, unless `drop_last` is False.
    experiment_aware : bool, default True
        Whether the primary slots of a batch come from one *group* alone: one value of `experiment_by`.
    leaky : float, default 0.0
        Fraction of a batch's slots, in [0, 1), that come from the other groups. Needs `experiment_aware` and at least
        two groups; elsewhere it is reported in a logged warning and batches are full without it.
    experiment_weights : {"proportional", "sqrt", "uniform"} or mapping, optional
        How an epoch's batches are shared among the groups: in proportion to their rows (the default, None), to the
        square root of their rows, equally, or to the weights given, one for each group. A group of weight 0 is
        excluded: no batch is of it and nothing leaks from it.
    condition_balanced : bool, default True
        Whether the whole batch, leak included, is split over the values of `condition_by`.
    condition_ratio : mapping, optional
        Relative share of each condition, on any positive scale; equal shares by default. 0 excludes a condition. The
        share of a condition that a group lacks goes to those it has, in proportion.
    temporal_enrichment : bool, default False
        Whether the primary slots are concentrated around a *focal time*, one of the distinct times of the group.
    temporal_window_hours : float, default 2.0
        Half-width of the focal window in hours; a time exactly that far from the focal time is within.
    temporal_global_fraction : float, default 0.3
        Fraction of each condition's primary slots, in [0, 1], that is drawn from all times of the group, the window
        included; the others come from the window. At 1 batches are as without enrichment.
    num_replicas, rank : int, optional
        Number of processes and which one this is. By default both are asked of `torch.distributed` whenever they are
        needed, and are 1 and 0 where it is not initialised. Give both or neither.
    seed : int, default 0
        Non-negative. Sequences of different seeds are unrelated, and so are those of different epochs.
    drop_last : bool, default True
        Whether to leave out the last, short batch of ``n_anchors % batch_size`` slots.
    experiment_by : str or sequence of str, default "experiment"
        Column whose values are the groups; of several columns, the combinations that occur, as tuples.
    condition_by : str or sequence of str, default "condition"
        Column, or columns, whose values are the conditions.
    time_by : str, default "hours_post_infection"
        Column of times in hours.
    even_batches : bool, default True
        Whether every rank yields the same number of batches. Where the epoch's total is not a multiple of
        `num_replicas` the last step then goes on with freshly composed batches; an uneven epoch would hang
        DistributedDataParallel. False stops at the total.
    as_arrays : bool, default False
        Whether batches are arrays of positions, shape (batch_size,), dtype int64, in place of lists, for a dataset
        whose ``__getitems__`` takes them: the list is a third of what a batch costs. The batches are the same.

    Raises
    ------
    TypeError
        If `valid_anchors` is no table (nor is a polars LazyFrame), or an option has the wrong type. A sampler in place
        of the table means that Lightning has rebuilt this one around its own: set
        ``Trainer(use_distributed_sampler=False)``.
    ValueError
        If the table is empty, lacks a column or has missing values in one, or an option is out of its range or does not
        fit the table; if a file is not Parquet or a folder holds none. The message gives the rule, the value and the
        remedy.
    FileNotFoundError
        If there is nothing at the path.
    ModuleNotFoundError
        If pyarrow, which polars DataFrames and Parquet files need, is not installed; `viscy-data[arrow]` brings it.

    Notes
    -----
    **A batch.** Its group is chosen; ``batch_size * leaky`` slots are leak, drawn uniformly from the rows of the other
    groups, the rest is primary. Primary slots are split over the conditions of the group, leak slots over those of the
    other groups. Enrichment acts last, inside group and condition: it never changes how many slots a condition has, and
    a condition without a row in the focal window draws its share from all its times.

    **Rounding.** Quotas become whole slots by systematic rounding. Each part (the leak, a condition's primary slots and
    its leak slots, the focal ones of the primary) has the floor or the ceiling of its quota, parts add up to the batch
    exactly, and on average over batches each part has exactly its quota. So has a condition's total, primary and leak
    together; only with a leak and three or more conditions of unequal shares can it be one further away.

    **Distinct.** No anchor comes twice in a batch, unless its pool has fewer rows than slots to fill. Then each row of
    the pool comes the floor or the ceiling of slots / rows times, and a logged warning at construction counts the
    groups concerned.

    **Order.** The slots of a batch are in random order: a position in it says nothing about group, condition or time.

    **An epoch** has ``n_anchors // batch_size`` batches (one more with ``drop_last=False`` if rows are left over).
    Groups get their share of them to within one batch, in random order; within a group, each time is focal equally
    often, to within one. Without enrichment a cell (group and condition) is dealt like a shuffled deck that goes round:
    none of its anchors is primary a second time before all were once. With enrichment, and for leak slots, draws are
    independent between batches.

    **Epochs.** Each new ``iter()`` takes the epoch after the one that was last drawn from, so a plain loop never
    repeats one; `set_epoch` chooses it instead. An iterator from which nothing was drawn counts for nothing (data
    loaders with workers make and discard one).

    **Ranks.** The batches of an epoch are one global, endless sequence that does not depend on the number of ranks R.
    Rank r yields its batches r, r + R, r + 2R, ..., all ranks equally many, and builds no others. In Lightning,
    pass ``use_distributed_sampler=False``. A loader prepared by accelerate draws every batch on every rank and passes
    on each R-th; the sampler sees that and does not deal them out a second time.

    **A folder of Parquet files** is one table: the files whose names end in ``.parquet``, at any depth, in the order of
    their paths (compared as text, part by part), each with its rows in their order; names that start with ``.`` or
    ``_`` are left out. A folder within that is called ``column=value`` gives its files that column, as whole numbers
    where all of its values are such, else as text; a column in the file itself comes first.

    **Cost.** Construction sorts the table once and keeps four bytes an anchor and a few integers for each distinct
    (group, condition, time). A batch costs the same whatever the number of anchors or ranks.

    **Reproducibility.** The same table content, options, seed and epoch give the same batches on every platform and in
    every release of Python, NumPy and pandas. The methods used are cited in the modules of each step.

    Examples
    --------
    A day's table: two experiments, two conditions of which one is rare, a frame every half hour.

    >>> import numpy as np, pandas as pd
    >>> from viscy_data import FlexibleBatchSampler
    >>> cell = np.arange(4000)
    >>> anchors = pd.DataFrame({
    ...     "experiment": np.where(cell < 3000, "monday", "tuesday"),
    ...     "condition": np.where(cell % 10 == 0, "infected", "mock"),
    ...     "hours_post_infection": cell // 10 % 48 * 0.5,
    ... })

    By default a batch is of one experiment, and the rare condition has its half of it:

    >>> sampler = FlexibleBatchSampler(anchors, batch_size=32)
    >>> len(sampler)
    125
    >>> for batch in sampler:
    ...     rows = anchors.iloc[batch]
    ...     assert rows["experiment"].nunique() == 1
    ...     assert (rows["condition"] == "infected").sum() == 16

    Three quarters of the rest from within two hours of a focal time, a leak of an eighth, experiments equally often:

    >>> sampler = FlexibleBatchSampler(
    ...     anchors, batch_size=32, leaky=0.125, experiment_weights="uniform",
    ...     temporal_enrichment=True, temporal_window_hours=2.0, temporal_global_fraction=0.25,
    ... )
    >>> rows = anchors.iloc[sampler.batch(0)]
    >>> sorted(rows["experiment"].value_counts().tolist())
    [4, 28]
    >>> rows["condition"].value_counts().to_dict() == {"mock": 16, "infected": 16}
    True

    On two ranks each yields every other batch of the same sequence:

    >>> whole = FlexibleBatchSampler(anchors, batch_size=32, seed=7)
    >>> halves = [FlexibleBatchSampler(anchors, batch_size=32, seed=7, num_replicas=2, rank=r) for r in (0, 1)]
    >>> evens, odds = (list(half) for half in halves)
    >>> evens[0] == whole.batch(0) and odds[0] == whole.batch(1)
    True
    >>> len(evens) == len(odds) == 63  # 125 batches and a fresh one
    True

    Stopped in the middle, and gone on with in another process, on another number of ranks:

    >>> before = iter(whole)
    >>> drawn = [next(before) for _ in range(40)]
    >>> state = whole.state_dict()
    >>> resumed = FlexibleBatchSampler(anchors, batch_size=32, seed=7)
    >>> resumed.load_state_dict(state)
    >>> next(iter(resumed)) == whole.batch(40)
    True

    With a data loader; what the dataset is asked for is a position:

    >>> from torch.utils.data import DataLoader
    >>> loader = DataLoader(anchors["hours_post_infection"].to_numpy(), batch_sampler=sampler)
    >>> next(iter(loader)).shape
    torch.Size([32])

    A mistake is answered before the first batch:

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
        )
        self._even_batches = flag("even_batches", even_batches)
        self._as_arrays = flag("as_arrays", as_arrays)
        self._given_ranks = ranks(rank, num_replicas)
        self._index = AnchorIndex.for_options(valid_anchors, self._options)
        _checks.check_fit(self._index, self._options)
        self._quotas = Quotas.of(self._index, self._options)
        _checks.warn_of_options_without_effect(self._options)
        _checks.warn_of_shortages(self._index, self._options, self._quotas)
        self._composer = BlockComposer(self._index, self._quotas, self._options)
        self._plan: tuple[int, Epoch] | None = None
        self._place = Place()

    def __iter__(self) -> Iterator[list[int]]:
        """Yield this rank's batches of the chosen epoch, or of the one after that last drawn from."""
        place, dealing = self._place, self._dealing(sys._getframe(1))
        epoch, position = (place.epoch, place.position) if place.is_chosen else (place.epoch + 1, 0)
        return EpochIterator(partial(self._batches, dealing), dealing.stride, self._total, place, epoch, position)

    def __len__(self) -> int:
        """Return the number of batches this rank yields in a whole epoch."""
        return len(self._own_batches(0, self._dealing(sys._getframe(1))))

    def batch(self, k: int, epoch: int | None = None) -> list[int]:
        """Return batch `k` of the global sequence of an epoch, without those before it.

        Parameters
        ----------
        k : int
            Its number, from 0, whatever the ranks; the sequence goes on beyond the epoch's last batch.
        epoch : int, optional
            By default the epoch that is being drawn from, or that was chosen for the next ``iter()``.

        Returns
        -------
        list of int
            Positions of anchors, shape (batch_size,).

        Raises
        ------
        TypeError, ValueError
            If `k` or `epoch` is no integer or is negative.
        """
        k = integer("k", k, at_least=0, at_most=2**48)
        epoch = self._place.epoch if epoch is None else integer("epoch", epoch, at_least=0)
        return next(self._composed(epoch, range(k, k + 1)))

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch of the next ``iter()``; the epoch of a state just loaded keeps its position.

        Parameters
        ----------
        epoch : int
            Non-negative.

        Raises
        ------
        TypeError, ValueError
            If `epoch` is no integer or is negative.
        """
        epoch = integer("epoch", epoch, at_least=0)
        if not (self._place.is_chosen and epoch == self._place.epoch):
            self._place = Place(epoch)

    def state_dict(self) -> dict[str, Any]:
        """Return where the sampler is, as a small dict of plain values.

        It counts the batches that were drawn from the sampler; a loader that fetches ahead with workers has drawn more
        than it has handed out, which torchdata's ``StatefulDataLoader`` takes into account.

        Returns
        -------
        dict
            ``epoch``, ``position`` in the global sequence (the same on all ranks after equally many steps), and
            ``fingerprint`` of table and options. At the end of an epoch, the start of the next.
        """
        place = self._place
        epoch, position = (place.epoch, place.position) if place.position < self._total else (place.epoch + 1, 0)
        return _state.dump(epoch, position, self._fingerprint())

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Go on where a sampler of the same table and options stopped, on any number of ranks.

        Parameters
        ----------
        state_dict : mapping
            As returned by `state_dict`.

        Raises
        ------
        TypeError
            If `state_dict` is no mapping.
        ValueError
            If it is no such state, or is that of another table or of other options; the message says which differ.
        """
        self._place = Place(*_state.load(state_dict, self._fingerprint(), self._total))

    def planned(self) -> PlannedComposition:
        """Return the target composition of epochs and batches.

        Returns
        -------
        PlannedComposition
            Target shares by stratum of the table, for an epoch and for a batch of each group, the number of batches,
            and the options as resolved. They do not depend on seed, epoch or rank.
        """
        return PlannedComposition.of(self._index, self._quotas, self._options)

    @property
    def sampler(self) -> FlexibleBatchSampler:
        """The sampler itself: Lightning and accelerate call ``batch_sampler.sampler.set_epoch``."""
        return self

    @property
    def batch_size(self) -> int:
        """Slots of a full batch."""
        return self._options.batch_size

    @property
    def drop_last(self) -> bool:
        """Whether the short last batch is left out."""
        return self._options.drop_last

    @property
    def epoch(self) -> int:
        """The epoch being drawn from, or chosen for the next ``iter()``."""
        return self._place.epoch

    @property
    def _total(self) -> int:
        """Batches of an epoch, on all ranks together."""
        return self._options.n_batches(len(self._index))

    def _dealing(self, caller: FrameType) -> Dealing:
        """Return how the batches are dealt out to the ranks, as of now."""
        if n_ranks := ranks_dealt_to_by(caller):
            return Dealing(first=0, stride=1, step=n_ranks)
        rank, num_replicas = self._given_ranks or rank_and_world_size()
        return Dealing(first=rank, stride=num_replicas, step=num_replicas)

    def _own_batches(self, position: int, dealing: Dealing) -> range:
        """Return the numbers of the batches to be yielded, from a position in the global sequence to the end."""
        last = self._total
        if self._even_batches:
            last = position + -(-(self._total - position) // dealing.step) * dealing.step
        return range(position + dealing.first, last, dealing.stride)

    def _batches(self, dealing: Dealing, epoch: int, position: int) -> Iterator[Any]:
        """Yield own batches from a position to the end of the epoch."""
        blocks = self._blocks(self._own_batches(position, dealing))
        return chain.from_iterable(self._composed(epoch, block) for block in blocks)

    def _composed(self, epoch: int, block: range) -> Iterator[Any]:
        """Yield the batches of a block, as they are handed out."""
        composed = self._composer.compose(self._plan_of(epoch), np.array(block))
        if self._as_arrays:
            return chain.from_iterable(positions.astype(np.int64) for positions in composed)
        return map(methodcaller("tolist"), chain.from_iterable(composed))

    def _blocks(self, numbers: range) -> Iterator[range]:
        """Cut batch numbers into blocks of growing size, so that the first batch comes soon; a short batch is alone."""
        # a batch has as many slots, or as many parts to round, whichever are more
        width = max(self.batch_size, 2 * len(self._index.conditions))
        size, largest = 1, max(1, _SLOTS_OF_A_BLOCK // width)
        while numbers:
            block = numbers[:size]
            if len(block) > 1 and not self.drop_last and self._total - 1 in block:
                at = block.index(self._total - 1)
                block = block[: max(at, 1)]
            yield block
            numbers = numbers[len(block) :]
            size = min(4 * size, largest)

    def _plan_of(self, epoch: int) -> Epoch:
        if self._plan is None or self._plan[0] != epoch:
            self._plan = epoch, Epoch(self._index, self._quotas, self._options, epoch)
        return self._plan[1]

    def _fingerprint(self) -> dict[str, str]:
        return _state.fingerprint(self._index, self._options)
