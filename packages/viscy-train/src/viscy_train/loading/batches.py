"""Batches: batch samplers that pass on epoch, number and rows."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import count
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

    from viscy_data import FlexibleBatchSampler


@dataclass(frozen=True, eq=False)
class Batch:
    """What a dataset is asked for.

    Parameters
    ----------
    rows : numpy.ndarray
        Rows of the anchors in the table of cells, shape (n,), dtype int64.
    epoch : int
        The epoch it is of.
    number : int
        Its place in the epoch's global sequence, that of all ranks.
    """

    rows: NDArray[np.int64]
    epoch: int
    number: int


class NumberedBatches:
    """Batches of a sampler that know their epoch and number; a batch sampler for a data loader.

    Parameters
    ----------
    sampler : FlexibleBatchSampler
        Composes the batches, as positions in `rows`.
    rows : numpy.ndarray
        Rows of the table of cells that the sampler was made with, shape (n_anchors,).
    rank, num_replicas : int
        Those of the sampler.

    Attributes
    ----------
    sampler : FlexibleBatchSampler
        The same; Lightning calls its ``set_epoch``, and its state is that of the sequence.
    """

    def __init__(
        self, sampler: FlexibleBatchSampler, rows: NDArray[np.int64], rank: int = 0, num_replicas: int = 1
    ) -> None:
        self.sampler = sampler
        self._rows = np.asarray(rows, dtype=np.int64)
        self._rank, self._num_replicas = rank, num_replicas

    def __len__(self) -> int:
        return len(self.sampler)

    def __iter__(self) -> Iterator[Batch]:
        """Yield this rank's batches of the sampler's next epoch, or of the rest of one that it is to go on with."""
        drawn: Any = iter(self.sampler)
        start = drawn.state_dict()
        numbers = count(start["position"] + self._rank, self._num_replicas)
        return (
            Batch(self._rows[np.asarray(positions)], start["epoch"], number)
            # the batches end, the numbers do not
            for positions, number in zip(drawn, numbers, strict=False)
        )

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch of the next ``iter()``."""
        self.sampler.set_epoch(epoch)


_CROPS_AT_ONCE = 256


class RowBatches:
    """All rows of a table in their order, in batches of which each process has every nth.

    Parameters
    ----------
    n_rows : int
        Of the table.
    rank, num_replicas : int
        Which process, of how many.
    """

    def __init__(self, n_rows: int, rank: int, num_replicas: int) -> None:
        self._n_rows = n_rows
        self._starts = range(rank * _CROPS_AT_ONCE, n_rows, num_replicas * _CROPS_AT_ONCE)

    def __len__(self) -> int:
        return len(self._starts)

    def __iter__(self) -> Iterator[list[int]]:
        return (list(range(start, min(start + _CROPS_AT_ONCE, self._n_rows))) for start in self._starts)


class SameBatches(NumberedBatches):
    """Batches that are the same each time, so that one validation can be compared with another."""

    def __iter__(self) -> Iterator[Batch]:
        """Yield this rank's batches of the first epoch."""
        self.sampler.set_epoch(0)
        return super().__iter__()

    def set_epoch(self, epoch: int) -> None:
        """Stay with the first epoch, whichever Lightning is in."""
