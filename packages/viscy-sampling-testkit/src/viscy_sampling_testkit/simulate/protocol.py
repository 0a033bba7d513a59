"""The protocol of a resumable batch sampler: the methods that the training simulators call."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Protocol, runtime_checkable


@runtime_checkable
class ResumableBatchSampler(Protocol):
    """A batch sampler of one rank whose cursor (epoch and batch index) can be saved and loaded.

    A stateful data loader whose batches are positions satisfies the protocol, too; see `PositionLoader`.
    """

    def __iter__(self) -> Iterator[Sequence[int]]:
        """Return an iterator over the batches of one epoch, or over its remaining batches after a state was loaded."""
        ...

    def __len__(self) -> int:
        """Return the number of batches that this rank has in a full epoch."""
        ...

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch of the next iterator; choosing the epoch of a state just loaded keeps its cursor."""
        ...

    def state_dict(self) -> Any:
        """Return the cursor after the last batch drawn; every rank loads the state of rank 0."""
        ...

    def load_state_dict(self, state: Any, /) -> None:
        """Move to the cursor of a state; the end of an epoch is the start of the next."""
        ...


def check_protocol(sampler: Any) -> ResumableBatchSampler:
    """Return the sampler if it satisfies the protocol; otherwise raise a TypeError that lists the missing methods."""
    methods = ("__iter__", "__len__", "set_epoch", "state_dict", "load_state_dict")
    missing = [name for name in methods if not hasattr(sampler, name)]
    if missing:
        raise TypeError(
            "make_sampler must return a ResumableBatchSampler, "
            f"got {type(sampler).__name__}, which lacks {', '.join(missing)}; add them"
        )
    return sampler
