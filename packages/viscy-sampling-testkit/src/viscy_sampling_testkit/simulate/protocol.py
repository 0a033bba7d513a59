"""The protocol of a sampler that can be stopped and resumed: what the simulators of training ask of it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Protocol, runtime_checkable


@runtime_checkable
class ResumableBatchSampler(Protocol):
    """A batch sampler of one rank, whose place in the sequence can be saved and loaded.

    Data loaders that can be saved keep it, too, if their batches are positions; see `PositionLoader`.
    """

    def __iter__(self) -> Iterator[Sequence[int]]:
        """Return an iterator over the batches of one epoch, or of the rest of it after a state was loaded."""
        ...

    def __len__(self) -> int:
        """Return the number of batches that this rank has in a whole epoch."""
        ...

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch of the next iterator; the epoch of a state that was just loaded keeps its place."""
        ...

    def state_dict(self) -> Any:
        """Return the place after the last batch that was drawn; that of rank 0 is loaded by every rank."""
        ...

    def load_state_dict(self, state: Any, /) -> None:
        """Take the place that a state gives; that of an epoch's end is the start of the next."""
        ...


def checked(sampler: Any) -> ResumableBatchSampler:
    """Return a sampler that keeps the protocol; TypeError for any other, with what it lacks."""
    methods = ("__iter__", "__len__", "set_epoch", "state_dict", "load_state_dict")
    lacks = [name for name in methods if not hasattr(sampler, name)]
    if lacks:
        kind = f"got {type(sampler).__name__}, which lacks {', '.join(lacks)}"
        raise TypeError(f"make_sampler must return a ResumableBatchSampler, {kind}")
    return sampler
