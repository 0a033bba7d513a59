"""Sharding: which batches, or slots of batches, a rank yields, and who picks them, the sampler or the loader.

Batches must be split over ranks exactly once. Some loaders split the batches of any sampler: accelerate's draw every
batch on every rank and keep each R-th one. The user states with ``sharded_by`` who does it. Without a statement, the
sampler looks at its callers when a sequence begins, which finds accelerate's loaders only if they are among them.
"""

from __future__ import annotations

import logging
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, get_args

from viscy_data._options import flag
from viscy_data._ranks import check_ranks
from viscy_data._torch import is_sampler, rank_and_world_size

if TYPE_CHECKING:
    from collections.abc import Iterator

_log = logging.getLogger("viscy_data.sampler")

ShardedBy = Literal["sampler", "loader"]
_STATE_IT = 'say who splits the batches with sharded_by="sampler" or sharded_by="loader"'


class RankSlots(NamedTuple):
    """Which slots of each of its batches a rank yields: the `part`-th of `n_parts` equal parts."""

    part: int = 0
    n_parts: int = 1

    def of(self, n_slots: int) -> slice:
        """Return the slots of a batch; in a composed batch, their order is random already."""
        size = n_slots // self.n_parts
        return slice(self.part * size, (self.part + 1) * size)


ALL_SLOTS = RankSlots()


class RankStride(NamedTuple):
    """Which batches of the global sequence a rank yields, relative to the first batch of a step."""

    first: int
    """The first batch that the rank yields."""
    stride: int
    """From one such batch to the next."""
    step: int
    """Number of batches in a step, on all ranks together."""
    slots: RankSlots = ALL_SLOTS
    """The slots of these batches."""


class LoaderShard(NamedTuple):
    """A caller that splits the batches it draws over ranks."""

    name: str
    """Its class."""
    num_replicas: int
    """Number of ranks."""
    is_known: bool
    """Whether it draws every batch on the ranks that draw, so that the sampler can leave the splitting to it."""
    cuts: bool
    """Whether each rank gets a part of every batch, as opposed to a batch of its own."""
    fills: bool
    """Whether it fills up, or shares unevenly, a batch that is shorter than `batch_size`."""


class BatchSizes(NamedTuple):
    """Numbers of slots of an epoch's batches."""

    full: int
    """Slots of a full batch."""
    short: int
    """Slots of the short last batch, 0 if there is none."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Sharding:
    """Who splits what over the ranks, and the ranks, if they were given."""

    sharded_by: ShardedBy | None
    split_batches: bool
    given_ranks: tuple[int, int] | None

    @classmethod
    def from_options(cls, *, sharded_by: Any, split_batches: Any, rank: Any, num_replicas: Any) -> Sharding:
        """Check the options; raise as `FlexibleBatchSampler` documents."""
        if sharded_by is not None and not isinstance(sharded_by, str):
            raise TypeError(f"sharded_by must be None or text, got {sharded_by!r}")
        if sharded_by not in (None, *get_args(ShardedBy)):
            raise ValueError(f'sharded_by must be None, "sampler" or "loader", got {sharded_by!r}')
        return cls(
            sharded_by=sharded_by,
            split_batches=flag("split_batches", split_batches),
            given_ranks=check_ranks(rank, num_replicas),
        )

    @property
    def rank(self) -> int:
        """The rank of this process, now."""
        return self._ranks()[0]

    @property
    def num_replicas(self) -> int:
        """The number of ranks, now."""
        return self._ranks()[1]

    def check_given_ranks(self, sizes: BatchSizes) -> None:
        """Raise ValueError if batches are to be shared by a given number of ranks that does not divide them."""
        if self.split_batches and self.given_ranks is not None:
            _check_ranks_divide(sizes, self.num_replicas)

    def rank_stride(self, sizes: BatchSizes, *, warn: bool = False) -> RankStride:
        """Return what this rank yields, according to the current state of `torch.distributed`.

        Parameters
        ----------
        sizes
            Slots of the batches.
        warn
            Whether to log a warning where the batches may be split a second time.

        Raises
        ------
        RuntimeError
            If the batches would be split twice, or distributed by a loader that was to cut them.
        ValueError
            If the ranks cannot share a batch evenly.
        """
        rank, num_replicas = self._ranks()
        shard = find_loader_shard()
        if self.split_batches:
            _check_shard_cuts(shard, sizes)
        if self.sharded_by == "loader" or (shard is not None and self.sharded_by is None and shard.is_known):
            return self._stride_for_loader(shard, num_replicas, sizes)
        if shard is not None and num_replicas > 1:
            raise RuntimeError(
                f"batches must be split over ranks once, but {shard.name} splits those of a sampler that has split "
                f'them over {num_replicas} ranks already; set sharded_by="loader", or use a loader that does not '
                "split them"
            )
        if warn and shard is None and self.sharded_by is None and self.given_ranks is None and num_replicas > 1:
            _warn_if_accelerate_may_split()
        if self.split_batches:
            _check_ranks_divide(sizes, num_replicas)
            return RankStride(first=0, stride=1, step=1, slots=RankSlots(rank, num_replicas))
        return RankStride(first=rank, stride=num_replicas, step=num_replicas)

    def _stride_for_loader(self, shard: LoaderShard | None, num_replicas: int, sizes: BatchSizes) -> RankStride:
        """Return the stride of a sampler that yields whole batches, all of them, to a loader that splits them."""
        if self.split_batches:
            _check_ranks_divide(sizes, num_replicas if shard is None else shard.num_replicas)
            return RankStride(first=0, stride=1, step=1)
        if shard is None or self.sharded_by == "loader":
            return RankStride(first=0, stride=1, step=num_replicas)
        return RankStride(first=0, stride=1, step=1 if shard.cuts else shard.num_replicas)

    def _ranks(self) -> tuple[int, int]:
        return self.given_ranks or rank_and_world_size()


def _check_ranks_divide(sizes: BatchSizes, num_replicas: int) -> None:
    """Raise ValueError unless every batch can be cut into as many equal parts as there are ranks."""
    if sizes.full % num_replicas:
        below = sizes.full // num_replicas * num_replicas
        nearest = " or ".join(str(size) for size in (below, below + num_replicas) if size)
        raise ValueError(
            f"with split_batches=True, num_replicas must divide batch_size, got {num_replicas} ranks for {sizes.full} "
            f"slots; choose batch_size={nearest}, or another number of ranks"
        )
    if sizes.short % num_replicas:
        raise ValueError(
            "with split_batches=True and drop_last=False, num_replicas must divide the short last batch, got "
            f"{num_replicas} ranks for {sizes.short} slots; set drop_last=True, or choose another batch_size"
        )


def _check_shard_cuts(shard: LoaderShard | None, sizes: BatchSizes) -> None:
    """Raise if a caller would not cut each batch into equal parts, as `split_batches` promises."""
    if shard is not None and not shard.cuts:
        raise RuntimeError(
            f"with split_batches=True, all ranks must share each batch, but {shard.name} distributes whole batches "
            f"over {shard.num_replicas} ranks; with accelerate, set DataLoaderConfiguration(split_batches=True), "
            "otherwise use a loader that does not split batches"
        )
    if shard is not None and shard.fills and sizes.short:
        raise ValueError(
            "with split_batches=True and drop_last=False, all ranks must share the short last batch, but "
            f"{shard.name} fills up, or shares unevenly, its {sizes.short} slots; set drop_last=True"
        )


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
    if is_sampler(caller, "DistributedSampler"):
        num_replicas, is_known, is_shard = caller.num_replicas, False, False
    elif _is_of(caller, "BatchSamplerShard"):
        num_replicas, is_known, is_shard = caller.num_processes, True, True
    elif _is_of(caller, "DataLoaderDispatcher"):
        num_replicas, is_known, is_shard = caller.state.num_processes, True, False
    else:
        return None
    if num_replicas == 1:
        return None
    cuts = bool(getattr(caller, "split_batches", False))
    return LoaderShard(type(caller).__name__, num_replicas, is_known, cuts, fills=cuts and is_shard)


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
