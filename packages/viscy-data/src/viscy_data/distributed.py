"""The sharded sampler: on every rank, the shard of a dataset that stays with it."""

from __future__ import annotations

from collections.abc import Iterator, Sized

import numpy as np
from torch.utils.data import DistributedSampler

from viscy_data._options import flag, integer
from viscy_data._random.hash import derive, epoch_key
from viscy_data._ranks import check_ranks
from viscy_data._torch import rank_and_world_size

__all__ = ["ShardedDistributedSampler", "rank_and_world_size"]


class ShardedDistributedSampler(DistributedSampler):
    """Shuffle, on every rank, the rank's own contiguous shard of a dataset.

    A rank has the same shard in every epoch, so the dataset's files that it caches stay useful. Torch's own
    ``DistributedSampler`` assigns every index to another rank in every epoch.

    Parameters
    ----------
    dataset : sized
        The dataset, of which only the length is used.
    num_replicas, rank : int, optional
        Number of ranks and the rank of this process, either both or neither; ``num_replicas=1`` alone means rank 0. By
        default they come from `torch.distributed`, and are 1 and 0 if it is not initialized.
    shuffle : bool, default True
        Whether to shuffle the shard, differently in each epoch; otherwise it is in ascending order.
    seed : int, default 0
        Non-negative, the same on all ranks. Orders of different seeds, epochs or ranks are unrelated.
    drop_last : bool, default False
        What to do if the length is not a multiple of `num_replicas`, so that some shards have one index more. If True,
        each of those shards leaves out one index, a different one in each epoch, and no index is repeated. If False,
        the other shards repeat one of their indices, and every index is used.

    Raises
    ------
    TypeError, ValueError
        If an option has the wrong type or is out of range.

    Notes
    -----
    As with any ``DistributedSampler``, call ``set_epoch`` before each epoch (Lightning and accelerate do so);
    otherwise, the order of epoch 0 is repeated. All ranks yield equally many indices. If the dataset is shorter than
    the number of ranks, an empty shard borrows the first index of the next one.

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
        rank, num_replicas = check_ranks(rank, num_replicas) or rank_and_world_size()
        super().__init__(
            dataset,  # ty: ignore[invalid-argument-type]  # torch asks for a Dataset and uses only its length
            num_replicas,
            rank,
            shuffle=flag("shuffle", shuffle),
            seed=integer("seed", seed, at_least=0),
            drop_last=flag("drop_last", drop_last),
        )

    def __iter__(self) -> Iterator[int]:
        """Yield the indices of this rank's shard, with one dropped or repeated where ranks would be unequal.

        The epoch is the one that is set when the first index is drawn.
        """
        n = len(self.dataset)  # ty: ignore[invalid-argument-type]
        start, stop = self.rank * n // self.num_replicas, (self.rank + 1) * n // self.num_replicas
        shard = np.arange(start, max(stop, start + 1))
        if self.shuffle:
            bits = derive(epoch_key(self.seed, self.epoch), self.rank, np.arange(len(shard)))
            shard = shard[np.argsort(bits, kind="stable")]
        yield from np.resize(shard, self.num_samples).tolist()

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch, non-negative, of the next ``iter()``."""
        super().set_epoch(integer("epoch", epoch, at_least=0))
