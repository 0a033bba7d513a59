"""Crop reads: the reads of one batch, which begin together and write the pixels of each crop into its place."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import tensorstore

from viscy_train.loading.touched_blocks import TouchedBlocks, Wanted

if TYPE_CHECKING:
    from collections.abc import Sequence
    from concurrent.futures import Executor

    from numpy.typing import NDArray

    from viscy_train.loading.cached_chunks import CachedChunks, Found
    from viscy_train.plates.pixels import Pending

# As many crops are worth another thread, up to a number of threads.
_CROPS_PER_THREAD = 8
MAX_THREADS = 4


class CropReads:
    """The reads of a batch.

    Parameters
    ----------
    wanted : Wanted
        The crops.
    cache : CachedChunks
        The chunks that are decoded already.

    Attributes
    ----------
    counts : dict of str to int
        How many chunks the batch needs, and how much of them is decoded for it, by the names of `ReadCounts`.
    """

    def __init__(self, wanted: Wanted, cache: CachedChunks) -> None:
        self._wanted, self._cache = wanted, cache
        self._waiting: list[list[Pending]] = [[] for _ in wanted.targets]
        self._entered: list[tuple[int, Pending]] = []
        self.counts = dict.fromkeys(("n_chunks", "n_hits", "n_decoded", "decoded_bytes"), 0)

    def request(self, threads: Executor) -> None:
        """Begin all reads; those of rows take place here, with the help of some threads."""
        has_rows = np.array([at.rows is not None for at in self._wanted.opened])[self._wanted.image]
        layout = np.array([at.layout for at in self._wanted.opened])[self._wanted.image]
        with tensorstore.Batch() as batch:
            for number in np.unique(layout[~has_rows]).tolist():
                self._request_blocks(np.flatnonzero((layout == number) & ~has_rows), batch)
        self._read_rows(np.flatnonzero(has_rows), threads)

    def wait(self, crop: int) -> None:
        """Wait until a crop has its pixels; an error of the library is raised if they cannot be read."""
        for pending in self._waiting[crop]:
            pending.result()
        self._waiting[crop] = []

    def discard(self) -> None:
        """Remove the chunks from the cache that were requested for this batch, of which one cannot be read."""
        self._cache.discard(self._entered)

    def _request_blocks(self, crops: NDArray[np.int64], batch: tensorstore.Batch) -> None:
        """Request crops whose images have chunks of the same size."""
        blocks = TouchedBlocks.of(self._wanted, crops)
        opened = [self._wanted.opened[image] for image in blocks.image.tolist()]
        found = self._cache.find(
            blocks.numbers.tolist(),
            [at.grid.n_bytes for at in opened],
            [not at.pixels.shares_chunks for at in opened],
            lambda block: opened[block].pixels.request(blocks.region(opened[block].grid, block), batch),
        )
        self._count(blocks, found)
        is_whole = np.array([one.pending is not None for one in found])[blocks.block]
        has_whole = np.zeros(len(self._waiting), dtype=bool)
        has_whole[blocks.crop[is_whole]] = True
        for crop in crops[~has_whole[crops]].tolist():
            self._request_box(crop, self._wanted.targets[crop], self._wanted.corners[crop].tolist(), batch)
        for pair in np.flatnonzero(has_whole[blocks.crop]).tolist():
            self._request_piece(blocks, pair, found[blocks.block[pair]].pending, batch)

    def _count(self, blocks: TouchedBlocks, found: Sequence[Found]) -> None:
        for number, image, one in zip(blocks.numbers.tolist(), blocks.image.tolist(), found, strict=True):
            grid = self._wanted.opened[image].grid
            self.counts["n_chunks"] += grid.n_chunks
            if one.is_hit:
                self.counts["n_hits"] += grid.n_chunks
                continue
            self.counts["n_decoded"] += grid.n_chunks
            self.counts["decoded_bytes"] += grid.n_chunks * grid.chunk_bytes
            if one.pending is not None:
                self._entered.append((number, one.pending))

    def _request_box(self, crop: int, target: NDArray[Any], corner: Sequence[int], batch: tensorstore.Batch) -> None:
        """Request a part of a crop, or all of it."""
        wanted = self._wanted
        at = wanted.opened[wanted.image[crop]]
        z, y, x = (slice(first, first + n) for first, n in zip(corner, target.shape[1:], strict=True))
        region = int(wanted.frame[crop]), at.grid.choices[wanted.choice[crop]], z, y, x
        self._waiting[crop].append(at.pixels.request_into(target, region, batch))

    def _request_piece(
        self, blocks: TouchedBlocks, pair: int, pending: Pending | None, batch: tensorstore.Batch
    ) -> None:
        """Request the part of a crop that is in a block, which is read completely if it is pending."""
        crop = int(blocks.crop[pair])
        first, last, origin = (some[pair].tolist() for some in (blocks.firsts, blocks.lasts, blocks.origins))
        corner = self._wanted.corners[crop].tolist()
        target = self._wanted.targets[crop][:, *_ranges(first, last, corner)]
        if pending is None:
            self._request_box(crop, target, first, batch)
            return
        frame = int(self._wanted.frame[crop]) - origin[0]
        self._waiting[crop].append(_Cut(pending, (frame, slice(None), *_ranges(first, last, origin[1:])), target))

    def _read_rows(self, crops: NDArray[np.int64], threads: Executor) -> None:
        """Read crops whose images are stored as they lie in memory."""
        pieces = np.array_split(crops, min(max(len(crops) // _CROPS_PER_THREAD, 1), MAX_THREADS))
        counts = threads.map(self._read_rows_of, pieces) if len(pieces) > 1 else map(self._read_rows_of, pieces)
        for n_chunks, n_bytes in counts:
            self.counts["n_chunks"] += n_chunks
            self.counts["n_decoded"] += n_chunks
            self.counts["decoded_bytes"] += n_bytes

    def _read_rows_of(self, crops: NDArray[np.int64]) -> tuple[int, int]:
        wanted, n_chunks, n_bytes = self._wanted, 0, 0
        for crop in crops.tolist():
            at = wanted.opened[wanted.image[crop]]
            assert at.rows is not None
            channels, corner = at.channels[wanted.choice[crop]], wanted.corners[crop].tolist()
            try:
                read = at.rows.read_into(wanted.targets[crop], int(wanted.frame[crop]), channels, *corner)
            except Exception as error:  # raised when the crop is waited for
                self._waiting[crop].append(_Failed(error))
            else:
                n_chunks, n_bytes = n_chunks + read[0], n_bytes + read[1]
        return n_chunks, n_bytes


@dataclass(frozen=True)
class _Cut:
    """A part of a block that goes to a place in a crop once the block is read."""

    block: Pending
    part: tuple[int | slice, ...]
    target: NDArray[Any]

    def result(self) -> None:
        self.target[...] = np.asarray(self.block.result())[self.part]


@dataclass(frozen=True)
class _Failed:
    """A read that has failed."""

    error: Exception

    def result(self) -> None:
        raise self.error


def _ranges(first: Sequence[int], last: Sequence[int], origin: Sequence[int]) -> list[slice]:
    """Return the ranges from one corner to another, relative to an origin."""
    return [slice(a - o, b - o) for a, b, o in zip(first, last, origin, strict=True)]
