"""The iterator of one epoch: this rank's batches, from a place in the global sequence on."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping


class EpochIterator(Iterator[list[int]]):
    """Iterate over a rank's batches.

    It has a state of its own, beside the sampler's: torchdata's ``StatefulDataLoader`` restores both, and an iterator
    that it restores at the end of an epoch has to be at its end, while the sampler is at the start of the next one.

    Parameters
    ----------
    draw
        Called with an epoch and a position in its global sequence; yields each batch with the position after it.
    epoch, position
        Where to start. Nothing is drawn before the first batch is asked for.
    """

    def __init__(self, draw: Callable[[int, int], Iterator[tuple[int, list[int]]]], epoch: int, position: int) -> None:
        self._draw = draw
        self._epoch, self._position = epoch, position
        self._batches = draw(epoch, position)

    def __next__(self) -> list[int]:
        """Return the next batch."""
        self._position, batch = next(self._batches)
        return batch

    def state_dict(self) -> dict[str, int]:
        """Return the epoch and the position after the last batch."""
        return {"epoch": self._epoch, "position": self._position}

    def load_state_dict(self, state_dict: Mapping[str, int]) -> None:
        """Go on from a state, with nothing where that is the end of an epoch."""
        self.__init__(self._draw, state_dict["epoch"], state_dict["position"])
