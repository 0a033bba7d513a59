"""The iterator of one epoch: this rank's batches, starting at a cursor into the global sequence."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(slots=True)
class Cursor:
    """Where a sampler is in its sequence: an epoch and a batch index.

    An iterator advances the cursor that the sampler had when the first batch was drawn. `set_epoch` and
    `load_state_dict` replace the sampler's cursor, so iterators in use no longer affect the sampler.
    """

    epoch: int = 0
    batch_index: int = 0
    """Index of the next batch in the epoch's global sequence."""
    is_chosen: bool = True
    """Whether it was chosen (initially, by `set_epoch` or by `load_state_dict`), as opposed to reached by iterating."""

    def start(self) -> tuple[int, int]:
        """Return the epoch and the batch index at which a new iterator starts."""
        return (self.epoch, self.batch_index) if self.is_chosen else (self.epoch + 1, 0)


class EpochIterator(Iterator[Any]):
    """Iterate over a rank's batches.

    The epoch is the one that is set when the first batch is drawn, because frameworks call ``iter()`` first, then
    ``set_epoch``. The iterator has a state of its own in addition to the sampler's: torchdata's
    ``StatefulDataLoader`` restores both. An iterator that is restored at the end of an epoch must be exhausted, while
    the sampler is at the start of the next epoch.

    Parameters
    ----------
    cursor
        Function that returns the sampler's cursor; called when the first batch is drawn.
    batches
        Function of an epoch and a batch index in its global sequence that returns by how much the batch index advances
        with each batch, and the rank's batches from there on.
    total
        Number of batches in the epoch, on all ranks together.
    """

    def __init__(
        self,
        cursor: Callable[[], Cursor],
        batches: Callable[[int, int], tuple[int, Iterator[Any]]],
        total: int,
    ) -> None:
        self._cursor_of_sampler, self._batches_from, self._total = cursor, batches, total
        self._restored: tuple[int, int] | None = None
        self._batches: Iterator[Any] | None = None

    def __next__(self) -> Any:
        """Return the next batch."""
        for batch in self._batches or self._start():
            self._move_to(self._batch_index + self._stride)
            return batch
        if self._batch_index < self._total:
            self._move_to(self._total)
        raise StopIteration

    def state_dict(self) -> dict[str, int]:
        """Return the epoch and the index of the batch after the last one drawn."""
        epoch, batch_index = (self._epoch, self._batch_index) if self._batches else self._next_start()
        return {"epoch": epoch, "position": batch_index}

    def load_state_dict(self, state_dict: Mapping[str, int]) -> None:
        """Resume from a state; the iterator is exhausted if the state is that of the end of an epoch."""
        self._restored, self._batches = (state_dict["epoch"], state_dict["position"]), None

    def _next_start(self) -> tuple[int, int]:
        return self._restored or self._cursor_of_sampler().start()

    def _start(self) -> Iterator[Any]:
        self._epoch, self._batch_index = self._next_start()
        self._cursor = self._cursor_of_sampler()
        self._stride, self._batches = self._batches_from(self._epoch, self._batch_index)
        return self._batches

    def _move_to(self, batch_index: int) -> None:
        self._batch_index = batch_index
        self._cursor.epoch, self._cursor.batch_index, self._cursor.is_chosen = self._epoch, batch_index, False
