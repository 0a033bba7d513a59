"""The iterator of one epoch: this rank's batches, starting at a cursor into the global sequence."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(slots=True)
class Cursor:
    """Where a sampler is in its sequence: an epoch and a batch index.

    An iterator advances the cursor it was made with. `set_epoch` and `load_state_dict` replace the sampler's cursor, so
    iterators made before no longer affect the sampler.
    """

    epoch: int = 0
    batch_index: int = 0
    """Index of the next batch in the epoch's global sequence."""
    is_chosen: bool = True
    """Whether it was chosen (initially, by `set_epoch` or by `load_state_dict`), as opposed to reached by iterating."""


class EpochIterator(Iterator[Any]):
    """Iterate over a rank's batches.

    The iterator has a state of its own in addition to the sampler's: torchdata's ``StatefulDataLoader`` restores both.
    An iterator that is restored at the end of an epoch must be exhausted, while the sampler is at the start of the next
    epoch.

    Parameters
    ----------
    batches
        Function of an epoch and a batch index in its global sequence that returns the rank's batches from there on.
    stride
        By how much the batch index advances with each batch.
    total
        Number of batches in the epoch, on all ranks together.
    cursor
        The sampler's cursor.
    epoch, batch_index
        Where to start. The cursor moves only when the first batch is drawn.
    """

    def __init__(
        self,
        batches: Callable[[int, int], Iterator[Any]],
        stride: int,
        total: int,
        cursor: Cursor,
        epoch: int,
        batch_index: int,
    ) -> None:
        self._batches_from, self._stride, self._total, self._cursor = batches, stride, total, cursor
        self._start(epoch, batch_index)

    def __next__(self) -> Any:
        """Return the next batch."""
        for batch in self._batches:
            self._move_to(self._batch_index + self._stride)
            return batch
        if self._batch_index < self._total:
            self._move_to(self._total)
        raise StopIteration

    def state_dict(self) -> dict[str, int]:
        """Return the epoch and the index of the batch after the last one drawn."""
        return {"epoch": self._epoch, "position": self._batch_index}

    def load_state_dict(self, state_dict: Mapping[str, int]) -> None:
        """Resume from a state; the iterator is exhausted if the state is that of the end of an epoch."""
        self._start(state_dict["epoch"], state_dict["position"])

    def _start(self, epoch: int, batch_index: int) -> None:
        self._epoch, self._batch_index = epoch, batch_index
        self._batches = self._batches_from(epoch, batch_index)

    def _move_to(self, batch_index: int) -> None:
        self._batch_index = batch_index
        self._cursor.epoch, self._cursor.batch_index, self._cursor.is_chosen = self._epoch, batch_index, False
