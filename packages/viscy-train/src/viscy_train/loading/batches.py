"""Batches: what batch samplers pass to the datasets, as rows of the anchor table with the key of the batch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from numpy.typing import NDArray

    from viscy_data import ComposedBatches

_PREDICTION_BATCH_SIZE = 256


@dataclass(frozen=True, eq=False)
class Batch:
    """The anchors of a batch, and the epoch and batch index from which its random numbers are derived.

    Parameters
    ----------
    rows : numpy.ndarray
        Rows of the anchors in the anchor table, shape (n,), dtype int64.
    epoch : int
        Epoch of the batch.
    index : int
        Index of the batch in the epoch's global sequence, over all ranks.
    first_slot : int, default 0
        Slot of the batch in which the first anchor is, if these are only a part of the batch.
    """

    rows: NDArray[np.int64]
    epoch: int
    index: int
    first_slot: int = 0

    @classmethod
    def of_rank(cls, rows: NDArray[np.int64], epoch: int, index: int, *, rank: int, batch_size: int) -> Batch:
        """Return what a rank trained on, given its rows: all batches are full, so fewer are its part of a batch."""
        return cls(rows, epoch, index, rank * len(rows) if len(rows) < batch_size else 0)


class IndexedBatches:
    """Batch sampler that yields each batch of `ComposedBatches` with its epoch and index.

    Parameters
    ----------
    sampler : ComposedBatches
        Composes the batches, as indices into `rows`.
    rows : numpy.ndarray
        Rows of the anchor table that the sampler was constructed with, shape (n_anchors,).
    rank, num_replicas : int
        Rank and number of processes of the sampler.

    """

    def __init__(self, sampler: ComposedBatches, rows: NDArray[np.int64], rank: int = 0, num_replicas: int = 1) -> None:
        self._sampler = sampler
        self._rows = np.asarray(rows, dtype=np.int64)
        self._rank, self._num_replicas = rank, num_replicas

    def __len__(self) -> int:
        return len(self._sampler)

    def __iter__(self) -> Iterator[Batch]:
        """Yield this rank's batches of the next epoch, or the remaining ones of a resumed epoch."""
        batches: Any = iter(self._sampler)
        for anchors in batches:
            after = batches.state_dict()  # the epoch is known only when a batch was drawn
            yield self._batch(self._rows[np.asarray(anchors)], after["epoch"], after["position"])

    def _batch(self, rows: NDArray[np.int64], epoch: int, next_step: int) -> Batch:
        if self._sampler.split_batches:
            return Batch(rows, epoch, next_step - 1, self._rank * len(rows))
        return Batch(rows, epoch, next_step - self._num_replicas + self._rank)

    @property
    def sampler(self) -> Any:
        """What chooses the epoch: Lightning calls its ``set_epoch``."""
        return self._sampler

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch of the next ``iter()``."""
        self._sampler.set_epoch(epoch)


class TrainingBatches(IndexedBatches):
    """Batch sampler that yields the batches of an epoch from the next one to train on.

    Parameters
    ----------
    sampler, rows, rank, num_replicas
        As for `IndexedBatches`.
    first_batch : callable
        Returns the index of the first batch to load for an epoch of the trainer, in the epoch's global sequence.
    is_repeated : bool, default False
        Whether each epoch of the trainer has the batches of epoch 0, as for ``trainer.overfit_batches``.
    """

    def __init__(
        self,
        sampler: ComposedBatches,
        rows: NDArray[np.int64],
        rank: int,
        num_replicas: int,
        first_batch: Callable[[int], int],
        *,
        is_repeated: bool = False,
    ) -> None:
        super().__init__(sampler, rows, rank, num_replicas)
        self._first_batch, self._is_repeated = first_batch, is_repeated
        self._epoch = 0

    @property
    def sampler(self) -> Any:
        """The object itself, because the sampler alone does not know where an epoch resumes."""
        return self

    def __iter__(self) -> Iterator[Batch]:
        """Yield this rank's remaining batches of the epoch, looked up when the first one is requested."""
        first, total = self._first_batch(self._epoch), self._sampler.planned().n_batches
        if first < total:
            cursor = {"epoch": 0 if self._is_repeated else self._epoch, "position": first}
            self._sampler.load_state_dict(self._sampler.state_dict() | cursor)
            yield from super().__iter__()

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch of the trainer."""
        self._epoch = epoch


class RepeatedBatches(IndexedBatches):
    """Batch sampler that yields the same batches in every epoch, so that validation metrics can be compared."""

    @property
    def sampler(self) -> Any:
        """The object itself, which ignores the epoch that Lightning sets."""
        return self

    def __iter__(self) -> Iterator[Batch]:
        """Yield this rank's batches of the first epoch."""
        self._sampler.set_epoch(0)
        yield from super().__iter__()

    def set_epoch(self, epoch: int) -> None:
        """Ignore the epoch that Lightning sets."""


class SequentialBatches:
    """Batch sampler that yields all rows of a table in order, every n-th batch on each of n processes.

    Parameters
    ----------
    n_rows : int
        Number of rows of the table.
    rank, num_replicas : int
        Rank of this process, and number of processes.
    """

    def __init__(self, n_rows: int, rank: int, num_replicas: int) -> None:
        self._n_rows = n_rows
        self._starts = range(rank * _PREDICTION_BATCH_SIZE, n_rows, num_replicas * _PREDICTION_BATCH_SIZE)

    def __len__(self) -> int:
        return len(self._starts)

    def __iter__(self) -> Iterator[list[int]]:
        return (list(range(start, min(start + _PREDICTION_BATCH_SIZE, self._n_rows))) for start in self._starts)
