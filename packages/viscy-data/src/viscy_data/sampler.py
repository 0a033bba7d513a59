"""The batch sampler: composed batches as a batch sampler of torch."""

from __future__ import annotations

from torch.utils.data import Sampler

from viscy_data.composed_batches import ComposedBatches


class FlexibleBatchSampler(ComposedBatches, Sampler[list[int]]):
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
        Whether primary slots are concentrated around a *focal time*, one of the distinct times of the group. What is
        learned from such batches may say less of the time.
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
    locality : int, default 1
        Most rows of a *run*. A condition's slots are filled by runs of rows that follow each other in order of time,
        place and position, so that a batch needs few image reads. All counts stay as they are, and so does the
        probability of each row; see Notes. Needs `time_by`. A batch takes at most about 1.5 times as long.
    place_by : str or sequence of str, optional
        Column, or columns, such as position, frame and image chunk, that sort the rows of a time, with the first column
        as the most significant. Without it, they are in the order of the table. Has an effect only with `locality`.
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

    **Locality.** A pool is cut into runs of `locality` rows from a random row on, around its end, and the runs are put
    in random order; the last run has what is left over. Slots take the rows in this order. So each row of a pool is
    equally likely at every slot, and s slots of a pool are in at most ``ceil(s / locality) + 1`` runs, or one more
    where the end of the pool or of the order is among them. Without enrichment, one order of a stratum continues from
    batch to batch, and a stratum is drawn without replacement as it is without locality. With `distinct_by`, each
    repeated value is replaced by a row drawn at random, which breaks its run; the replaced row has to wait for the next
    round. Runs are in random order too: with `split_batches`, each rank has rows of most runs of the batch.

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

    With options that are off by default: a leak of one eighth; of the other slots, three quarters within two hours of a
    focal time; experiments equally often:

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

    @property
    def sampler(self) -> FlexibleBatchSampler:
        """The sampler itself: Lightning and accelerate call ``batch_sampler.sampler.set_epoch``."""
        return self
