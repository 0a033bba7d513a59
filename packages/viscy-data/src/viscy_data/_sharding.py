"""Sharding: which batches of the global sequence a rank yields, and who picks them, the sampler or the loader.

Batches must be split over ranks exactly once. Some loaders split the batches of any sampler: accelerate's draw every
batch on every rank and keep each R-th one. The user states with ``sharded_by`` who does it. Without a statement, the
sampler looks at its callers when a sequence begins, which finds accelerate's loaders only if they are among them.
"""

from __future__ import annotations

import logging
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, get_args

from torch.utils.data import DistributedSampler

from viscy_data.distributed import check_ranks, rank_and_world_size

if TYPE_CHECKING:
    from collections.abc import Iterator

_log = logging.getLogger("viscy_data.sampler")

ShardedBy = Literal["sampler", "loader"]
_STATE_IT = 'say who splits the batches with sharded_by="sampler" or sharded_by="loader"'


class RankStride(NamedTuple):
    """Which batches of the global sequence a rank yields, relative to the first batch of a step."""

    first: int
    """The first batch that the rank yields."""
    stride: int
    """From one such batch to the next."""
    step: int
    """Number of batches in a step, on all ranks together."""


class LoaderShard(NamedTuple):
    """A caller that splits the batches it draws over ranks."""

    name: str
    """Its class."""
    step: int
    """Number of batches that it draws for a step."""
    is_known: bool
    """Whether it draws every batch on the ranks that draw, so that the sampler can leave the splitting to it."""


@dataclass(frozen=True, slots=True)
class Sharding:
    """Who splits the batches over ranks, and the ranks, if they were given."""

    sharded_by: ShardedBy | None
    given_ranks: tuple[int, int] | None

    @classmethod
    def from_options(cls, sharded_by: Any, rank: Any, num_replicas: Any) -> Sharding:
        """Check the options; raise as `FlexibleBatchSampler` documents."""
        if sharded_by is not None and not isinstance(sharded_by, str):
            raise TypeError(f"sharded_by must be None or text, got {sharded_by!r}")
        if sharded_by not in (None, *get_args(ShardedBy)):
            raise ValueError(f'sharded_by must be None, "sampler" or "loader", got {sharded_by!r}')
        return cls(sharded_by, check_ranks(rank, num_replicas))

    def rank_stride(self, *, warn: bool = False) -> RankStride:
        """Return which batches this rank yields, according to the current state of `torch.distributed`.

        Parameters
        ----------
        warn
            Whether to log a warning where the batches may be split a second time.

        Raises
        ------
        RuntimeError
            If the batches would be split twice.
        """
        rank, num_replicas = self.given_ranks or rank_and_world_size()
        if self.sharded_by == "loader":
            return RankStride(first=0, stride=1, step=num_replicas)
        shard = find_loader_shard()
        if shard is not None and self.sharded_by is None and shard.is_known:
            return RankStride(first=0, stride=1, step=shard.step)
        if shard is not None and num_replicas > 1:
            raise RuntimeError(
                f"batches must be split over ranks once, but {shard.name} splits those of a sampler that has split "
                f'them over {num_replicas} ranks already; set sharded_by="loader", or use a loader that does not '
                "split them"
            )
        if warn and shard is None and self.sharded_by is None and self.given_ranks is None and num_replicas > 1:
            _warn_if_accelerate_may_split()
        return RankStride(first=rank, stride=num_replicas, step=num_replicas)


def find_loader_shard() -> LoaderShard | None:
    """Return the innermost caller that splits batches over several ranks, None if there is none."""
    return next(filter(None, map(_as_loader_shard, _callers())), None)


def _callers() -> Iterator[Any]:
    """Yield the objects whose methods are being called, from the innermost outwards."""
    frame: Any = sys._getframe(1)
    while frame is not None:
        if frame.f_code.co_varnames[:1] == ("self",):
            yield frame.f_locals.get("self")
        frame = frame.f_back


def _as_loader_shard(caller: Any) -> LoaderShard | None:
    """Return an object as a splitter of batches, if it is one of torch's or accelerate's, or of a subclass."""
    name = type(caller).__name__
    if isinstance(caller, DistributedSampler):
        shard = LoaderShard(name, caller.num_replicas, is_known=False)
    elif _is_of(caller, "BatchSamplerShard"):
        shard = LoaderShard(name, caller.num_processes, is_known=True)
    elif _is_of(caller, "DataLoaderDispatcher"):
        shard = LoaderShard(name, caller.state.num_processes, is_known=True)
    else:
        return None
    if shard.step == 1:
        return None
    return shard._replace(step=1) if getattr(caller, "split_batches", False) else shard


def _is_of(caller: Any, name: str) -> bool:
    """Return whether an object is of a class of accelerate, without an import of accelerate."""
    return any((kind.__module__, kind.__name__) == ("accelerate.data_loader", name) for kind in type(caller).__mro__)


def _warn_if_accelerate_may_split() -> None:
    """Log a warning where accelerate runs on several processes and its loader is not among the callers."""
    accelerate_state = sys.modules.get("accelerate.state")
    if accelerate_state is not None and accelerate_state.PartialState._shared_state:
        _log.warning(
            "accelerate is in use, and the sampler splits the batches over the ranks; if a loader that accelerate "
            "prepared draws them, it splits them a second time: %s",
            _STATE_IT,
        )
