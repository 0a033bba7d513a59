"""Ranks: which of how many processes this one is, and shards of a dataset that stay with their rank."""

from __future__ import annotations

from collections.abc import Iterator, Sized
from types import FrameType
from typing import Any

import numpy as np
import torch.distributed as dist
from torch.utils.data import DistributedSampler

from viscy_data._options import flag, integer
from viscy_data._random.hash import derive, epoch_key


def rank_and_world_size() -> tuple[int, int]:
    """Return the rank of this process and how many there are: (0, 1) unless `torch.distributed` is initialised."""
    if dist.is_available() and dist.is_initialized():
        return dist.get_rank(), dist.get_world_size()
    return 0, 1


def ranks_dealt_to_by(caller: FrameType) -> int | None:
    """Return to how many ranks accelerate deals out the batches that it draws, None where the caller is another.

    A loader prepared by accelerate wraps its batch sampler in a ``BatchSamplerShard``, which draws every batch and
    passes on each R-th. It gives the sampler no sign of that but the call itself; a sampler that dealt its batches out
    as well would lose all but every R-th without a word.
    """
    drawn_by: Any = caller.f_locals.get("self")
    kind = type(drawn_by)
    if kind.__name__ == "BatchSamplerShard" and kind.__module__.partition(".")[0] == "accelerate":
        return drawn_by.num_processes
    return None


class ShardedDistributedSampler(DistributedSampler):
    """Shuffle, on every rank, the rank's own contiguous shard of a dataset.

    A rank has the same shard in every epoch, so what it caches of the dataset's files stays useful; torch's own
    ``DistributedSampler`` deals every index to another rank in every epoch.

    Parameters
    ----------
    dataset : sized
        Only its length is used.
    num_replicas, rank : int, optional
        Number of processes and which one this is, both or neither; by default as `torch.distributed` says, 1 and 0
        where it is not initialised.
    shuffle : bool, default True
        Whether the shard is shuffled, in each epoch anew; else it is in ascending order.
    seed : int, default 0
        Non-negative, the same on all ranks. Orders of different seeds, epochs or ranks are unrelated.
    drop_last : bool, default False
        What is done where the length is not a multiple of `num_replicas` and some shards are longer by one. True: each
        of those leaves out one index, another one in each epoch, and none repeats. False: the shorter ones repeat one
        index of theirs, and every index is seen.

    Raises
    ------
    TypeError, ValueError
        If an option has the wrong type or is out of its range.

    Notes
    -----
    As with any ``DistributedSampler``, call ``set_epoch`` before each epoch (Lightning and accelerate do): without it
    the order of epoch 0 repeats. All ranks yield equally many indices. An empty shard, of a dataset shorter than the
    number of ranks, borrows the first index of the next one.

    Examples
    --------
    >>> from viscy_data import ShardedDistributedSampler
    >>> dataset = ["a", "b", "c", "d", "e", "f"]
    >>> ranks = [ShardedDistributedSampler(dataset, num_replicas=2, rank=rank) for rank in (0, 1)]
    >>> [sorted(rank) for rank in ranks]
    [[0, 1, 2], [3, 4, 5]]
    """

    def __init__(
        self,
        dataset: Sized,
        num_replicas: int | None = None,
        rank: int | None = None,
        shuffle: bool = True,
        seed: int = 0,
        drop_last: bool = False,
    ) -> None:
        rank, num_replicas = ranks(rank, num_replicas) or rank_and_world_size()
        super().__init__(
            dataset,  # ty: ignore[invalid-argument-type]  # torch asks for a Dataset and uses its length only
            num_replicas,
            rank,
            shuffle=flag("shuffle", shuffle),
            seed=integer("seed", seed, at_least=0),
            drop_last=flag("drop_last", drop_last),
        )

    def __iter__(self) -> Iterator[int]:
        """Yield the indices of this rank's shard, shuffled, with as many dropped or repeated as make ranks equal."""
        n = len(self.dataset)  # ty: ignore[invalid-argument-type]
        start, stop = self.rank * n // self.num_replicas, (self.rank + 1) * n // self.num_replicas
        shard = np.arange(start, max(stop, start + 1))
        if self.shuffle:
            words = derive(epoch_key(self.seed, self.epoch), self.rank, np.arange(len(shard)))
            shard = shard[np.argsort(words, kind="stable")]
        return iter(np.resize(shard, self.num_samples).tolist())

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch, non-negative, of the next ``iter()``."""
        super().set_epoch(integer("epoch", epoch, at_least=0))


def ranks(rank: Any, num_replicas: Any) -> tuple[int, int] | None:
    """Return rank and number of replicas as given, None where neither is; raise where they are off."""
    if rank is None and num_replicas is None:
        return None
    if rank is None or num_replicas is None:
        raise ValueError(
            f"num_replicas and rank must be given together or not at all, got num_replicas={num_replicas}, rank={rank}"
        )
    num_replicas = integer("num_replicas", num_replicas, at_least=1, at_most=2**48)
    rank = integer("rank", rank, at_least=0)
    if rank >= num_replicas:
        raise ValueError(f"rank must be in [0, num_replicas), got {rank} of {num_replicas}")
    return rank, num_replicas
