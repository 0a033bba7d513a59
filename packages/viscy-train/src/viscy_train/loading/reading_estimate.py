"""Reading estimate: what a batch decodes of its plates, and how long that takes, before anything is trained."""

from __future__ import annotations

import os
import time
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from viscy_train.errors import UserError
from viscy_train.loading.batches import Batch
from viscy_train.loading.crop_source import ReadCounts
from viscy_train.loading.plate_source import PlateSource
from viscy_train.loading.rng import Purpose, random_uniform
from viscy_train.loading.sampler import collect_sampler_warnings, make_sampler
from viscy_train.loading.store_source import StoreSource
from viscy_train.loading.touched_blocks import TouchedBlocks
from viscy_train.wording import format_bytes

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from viscy_train.anchors.table import AnchorTable
    from viscy_train.crops.native_crops import NativeCrops
    from viscy_train.loading.located_crops import LocatedCrops
    from viscy_train.loading.open_plates import OpenPlates
    from viscy_train.loading.open_position import OpenPosition
    from viscy_train.loading.run_data import RunData

_SECONDS = 0.5
# So many crops are measured at once; the time is looked at in between.
_CROPS_AT_ONCE = 4
_ADVICE_FROM = 4
# Most steps take longer, and wait for no batch.
_SHORT = 0.02
LOCALITY = 8
_MB = 1e6


@dataclass(frozen=True, kw_only=True)
class ReadingEstimate:
    """What reading a batch costs.

    Parameters
    ----------
    batch : ReadCounts
        What a batch of anchors and positives needs if nothing is decoded yet.
    measured : ReadCounts
        What was read to measure the time.
    seconds, cpu_seconds : float
        Wall clock and CPU time of that.
    n_readers : int
        Number of threads or processes that read.
    n_rows : int
        Number of observations.
    local : ReadCounts, optional
        What a batch would need with ``data.sampler.locality`` `LOCALITY`, if it is off.
    is_store : bool
        Whether crops are read from a crop store.
    """

    batch: ReadCounts
    measured: ReadCounts
    seconds: float
    cpu_seconds: float
    n_readers: int
    n_rows: int
    local: ReadCounts | None = None
    is_store: bool = False

    @property
    def decoded_over_used(self) -> float:
        """Decoded bytes for each byte of a crop."""
        return self.batch.decoded_bytes / max(self.batch.used_bytes, 1)

    @property
    def seconds_per_batch(self) -> float:
        """Seconds a batch: those of one reader over their number, but not less than all cores need."""
        scale = self.batch.decoded_bytes / max(self.measured.decoded_bytes, 1)
        n_cores = os.cpu_count() or 1
        return scale * max(self.seconds / max(self.n_readers, 1), self.cpu_seconds / n_cores)

    @property
    def store_bytes(self) -> int:
        """Bytes of the crops of all observations, before compression."""
        return round(self.n_rows * self.batch.used_bytes / max(self.batch.n_crops, 1))


def describe_reading(estimate: ReadingEstimate) -> list[str]:
    """Return what an estimate says, a sentence each; the last one is advice, if there is any."""
    batch, n = estimate.batch, estimate.n_readers
    where = "the crop store" if estimate.is_store else "the plates"
    ratio = _format(estimate.decoded_over_used)
    times = "as much" if ratio == "1" else f"{ratio} times as much"
    readers = f"{n} reader{'s' * (n != 1)}" if n else "the training process itself"
    sentences = [
        f"A batch needs {batch.n_chunks:,} chunks of {where}: it decodes {_format(batch.decoded_bytes / _MB)} MB for "
        f"{_format(batch.used_bytes / _MB)} MB of crops, {times}.",
        f"With {readers}, that takes about {estimate.seconds_per_batch:.2g} s a batch (from "
        f"{estimate.measured.n_decoded:,} chunks decoded in {estimate.seconds:.2g} s; files that the operating system "
        "has not cached take longer).",
    ]
    return sentences if estimate.is_store else [*sentences, *_advise(estimate)]


def _advise(estimate: ReadingEstimate) -> list[str]:
    """Return what would make reading faster, if that is worth it."""
    if estimate.decoded_over_used < _ADVICE_FROM or estimate.seconds_per_batch < _SHORT:
        return []
    size, seconds = format_bytes(estimate.store_bytes), estimate.seconds_per_batch
    packed = (
        f"`viscy-train pack` would store all crops once, in at most {size}, and a batch would decode what it uses, "
        f"in about {seconds / estimate.decoded_over_used:.2g} s"
    )
    if estimate.local is None:
        return [f"{packed}."]
    share = estimate.local.decoded_bytes / max(estimate.batch.decoded_bytes, 1)
    return [f"{packed}; data.sampler.locality {LOCALITY} would take {share * seconds:.2g} s, without a store."]


def _format(number: float) -> str:
    return f"{number:,.0f}" if number >= 100 else f"{number:.3g}"


def describe_reading_of(data: RunData) -> list[str]:
    """Return sentences on what a batch of a run reads, or why that cannot be estimated."""
    try:
        return describe_reading(estimate_run(data))
    except UserError as error:
        return [f"What a batch reads is unknown, because {error}."]


def estimate_run(data: RunData) -> ReadingEstimate:
    """Estimate what reading a batch of a run costs, from its first batch.

    Raises
    ------
    UserError
        If a plate or the crop store cannot be read.
    """
    return estimate_reading(
        data.table,
        rows_of_first_batch(data),
        n_readers=data.n_readers,
        seed=data.seed,
        local_rows=rows_of_first_batch(data, locality=LOCALITY) if data.options.locality == 1 else None,
        source=None if data.store is None else StoreSource(data.table, data.store),
    )


def rows_of_first_batch(data: RunData, **changes: Any) -> NDArray[np.int64]:
    """Return the rows of the anchors and positives of the first batch of a run, with some options changed."""
    options = replace(data.options, **changes)
    with collect_sampler_warnings():
        sampler = make_sampler(data.train_anchors(), options, data.seed, 0, 1, as_arrays=True)
    anchors = data.train_rows[np.asarray(sampler.batch(0, 0))]
    return np.concatenate([anchors, data.positive_choice_with(options.locality).choose(Batch(anchors, 0, 0))])


def estimate_reading(
    table: AnchorTable,
    rows: NDArray[np.int64],
    *,
    n_readers: int,
    seed: int = 0,
    local_rows: NDArray[np.int64] | None = None,
    source: Any = None,
    seconds: float = _SECONDS,
) -> ReadingEstimate:
    """Estimate what reading a batch costs.

    Parameters
    ----------
    table : AnchorTable
        The anchor table.
    rows : numpy.ndarray
        Rows of the crops of a batch, anchors and positives, shape (n,).
    n_readers : int
        Number of threads or processes that read.
    seed : int, default 0
        Chooses the crops that are read to measure the time, and slices if they are random.
    local_rows : numpy.ndarray, optional
        Those of a batch with locality.
    source : CropSource, optional
        Crop store; by default, the plates are read.
    seconds : float, default 0.5
        When measuring ends.

    Raises
    ------
    UserError
        If a plate cannot be read.
    """
    draws = random_uniform(seed, 0, 0, Purpose.SLICES_OF_ANCHOR, len(rows), 1)[:, 0]
    is_store = source is not None
    source = PlateSource(table, cache_mb=1) if source is None else source
    measured, wall, cpu = _measure(source, np.random.default_rng(seed).permutation(rows), draws, seconds)
    if is_store:  # which decodes the crops that are requested, and nothing else
        per_crop = len(rows) / max(measured.n_crops, 1)
        batch = ReadCounts.of(
            round(number * per_crop) for number in (getattr(measured, name) for name in measured.__dataclass_fields__)
        )
    else:
        batch = count_reads(table, rows, draws)
    return ReadingEstimate(
        batch=batch,
        measured=measured,
        seconds=wall,
        cpu_seconds=cpu,
        n_readers=n_readers,
        n_rows=len(table.observations),
        local=None if is_store or local_rows is None else count_reads(table, local_rows, draws),
        is_store=is_store,
    )


def _measure(
    source: Any, rows: NDArray[np.int64], draws: NDArray[np.float64], seconds: float
) -> tuple[ReadCounts, float, float]:
    """Read crops until the time is over; return what was read, and wall clock and CPU time."""
    source.read(rows[:1], draws[:1])  # opens the first plate
    before, wall, cpu = source.counts, 0.0, 0.0
    for first in range(1, len(rows), _CROPS_AT_ONCE):
        part = slice(first, first + _CROPS_AT_ONCE)
        start = time.perf_counter(), time.process_time()
        source.read(rows[part], draws[part])
        wall, cpu = wall + time.perf_counter() - start[0], cpu + time.process_time() - start[1]
        if wall > seconds:
            break
    return source.counts - before, wall, cpu


def count_reads(table: AnchorTable, rows: NDArray[np.int64], draws: NDArray[np.float64] | None = None) -> ReadCounts:
    """Return what reading crops from plates would decode if nothing was decoded before, without reading a pixel.

    Parameters
    ----------
    table : AnchorTable
        The anchor table.
    rows : numpy.ndarray
        Rows of the crops that are read together, shape (n,).
    draws : numpy.ndarray, optional
        As for `PlateSource.read`.
    """
    source = _CountingSource(table, cache_mb=1)
    source.read(rows, draws)
    return source.counts


class _CountingSource(PlateSource):
    """Counts what a read would decode, in place of reading it."""

    def _read_into(
        self,
        parts: Sequence[NativeCrops],
        plates: OpenPlates,
        opened: Sequence[OpenPosition],
        rows: NDArray[np.int64],
        image: NDArray[np.int64],
        located: LocatedCrops,
    ) -> None:
        wanted = self._wanted(opened, rows, image, located, [_target(opened[at]) for at in image.tolist()])
        layout = np.array([at.layout for at in opened])[image]
        by_rows = np.array([at.rows is not None for at in opened])[image]
        for number in np.unique(layout).tolist():
            for is_by_rows in (False, True):
                crops = np.flatnonzero((layout == number) & (by_rows == is_by_rows))
                if len(crops):
                    self._count(TouchedBlocks.of(wanted, crops), opened, is_by_rows=is_by_rows)

    def _count(self, blocks: TouchedBlocks, opened: Sequence[OpenPosition], *, is_by_rows: bool) -> None:
        grids = [opened[at].grid for at in blocks.image.tolist()]
        if not is_by_rows:
            n_chunks = sum(grid.n_chunks for grid in grids)
            n_bytes = sum(grid.n_chunks * grid.chunk_bytes for grid in grids)
        else:
            # Complete rows of a chunk, for each crop, plane and channel, since rows are not kept for other crops.
            n_chunks = n_bytes = 0
            depths = blocks.lasts - blocks.firsts
            for block, (n_deep, n_rows, _) in zip(blocks.block.tolist(), depths.tolist(), strict=True):
                grid = grids[block]
                n_chunks += grid.n_channels * grid.n_deep
                n_bytes += grid.n_channels * n_deep * n_rows * grid.size[3] * grid.itemsize
        self._counter.add(n_chunks=n_chunks, n_decoded=n_chunks, decoded_bytes=n_bytes)


def _target(at: OpenPosition) -> NDArray[Any]:
    """Return an array of the shape of what is read for a crop, which takes no memory."""
    shape = (at.grid.n_channels, at.window.z.n_read, *at.window.sides)
    return np.broadcast_to(np.zeros((), dtype=at.dtype), shape)
