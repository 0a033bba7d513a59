"""The iterator of one epoch: this rank's batches, from a place in the global sequence on."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(slots=True)
class Place:
    """Where in its sequence a sampler is.

    Iterators move the place that they were made at. Who chooses another one makes a new place, which no older iterator
    moves.
    """

    epoch: int = 0
    position: int = 0
    """Of the next batch, in the epoch's global sequence."""
    is_chosen: bool = True
    """Whether it was chosen (at first, by set_epoch or load_state_dict), not reached by drawing."""


class EpochIterator(Iterator[Any]):
    """Iterate over a rank's batches.

    It has a state of its own, beside the sampler's: torchdata's ``StatefulDataLoader`` restores both, and an iterator
    that it restores at the end of an epoch has to be at its end, while the sampler is at the start of the next one.

    Parameters
    ----------
    batches
        Called with an epoch and a position in its global sequence; returns the rank's batches from there on.
    stride
        By how much the position moves from batch to batch.
    total
        Batches of the epoch, on all ranks together.
    place
        Of the sampler.
    epoch, position
        Where to start. Nothing is drawn before the first batch is asked for.
    """

    def __init__(
        self,
        batches: Callable[[int, int], Iterator[Any]],
        stride: int,
        total: int,
        place: Place,
        epoch: int,
        position: int,
    ) -> None:
        self._draw, self._stride, self._total, self._place = batches, stride, total, place
        self._start(epoch, position)

    def __next__(self) -> Any:
        """Return the next batch."""
        for batch in self._batches:
            self._move_to(self._position + self._stride)
            return batch
        if self._position < self._total:
            self._move_to(self._total)
        raise StopIteration

    def state_dict(self) -> dict[str, int]:
        """Return the epoch and the position after the last batch."""
        return {"epoch": self._epoch, "position": self._position}

    def load_state_dict(self, state_dict: Mapping[str, int]) -> None:
        """Go on from a state, with nothing where that is the end of an epoch."""
        self._start(state_dict["epoch"], state_dict["position"])

    def _start(self, epoch: int, position: int) -> None:
        self._epoch, self._position = epoch, position
        self._batches = self._draw(epoch, position)

    def _move_to(self, position: int) -> None:
        self._position = position
        self._place.epoch, self._place.position, self._place.is_chosen = self._epoch, position, False
