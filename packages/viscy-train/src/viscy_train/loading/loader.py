"""Loader: the data loader of a dataset whose batches are composed by a batch sampler."""

from __future__ import annotations

from contextlib import nullcontext
from functools import partial
from typing import TYPE_CHECKING, Any

import torch
from torch.utils.data import DataLoader

from viscy_train.loading.datasets import no_collation
from viscy_train.loading.sockets import use_short_paths
from viscy_train.loading.stall import StallWatch, describe_worker
from viscy_train.loading.worker_exit import exit_with_trainer

if TYPE_CHECKING:
    from collections.abc import Iterator

    from torch.utils.data import Dataset


class DeferredLoader(DataLoader):
    """A data loader that starts an epoch when its first batch is requested.

    Notes
    -----
    The workers of torch's loader read ahead from ``iter()`` on. Lightning calls ``iter()`` before it has restored the
    epoch, and for some epochs a second time.
    """

    stall_watch: StallWatch | None = None
    """Says for what the process waits, if that takes long."""

    def __iter__(self) -> Any:
        """Yield the batches of an epoch."""
        return self._batches()

    def _batches(self) -> Iterator[Any]:
        batches = super().__iter__()
        while True:
            watch = self.stall_watch
            try:
                with nullcontext() if watch is None else watch.waiting(partial(describe_worker, batches)):
                    batch = next(batches)
            except StopIteration:
                return
            yield batch


def make_loader(
    dataset: Dataset, batches: Any, num_workers: int, start_method: str | None, stall_watch: StallWatch | None = None
) -> DataLoader:
    """Return a data loader.

    Parameters
    ----------
    dataset : torch.utils.data.Dataset
        Its ``__getitems__`` reads a complete batch.
    batches : iterable
        Batch sampler; yields what the dataset reads.
    num_workers : int
        Number of worker processes; 0 reads in this process.
    start_method : str, optional
        How workers are started; by default, Python's default.
    stall_watch : StallWatch, optional
        Says for what the process waits, if that takes long.

    Returns
    -------
    torch.utils.data.DataLoader
        A loader whose workers persist between epochs and exit with this process.
    """
    if num_workers:
        use_short_paths()
    collate: Any = no_collation
    loader = DeferredLoader(
        dataset,
        batch_sampler=batches,
        collate_fn=collate,
        num_workers=num_workers,
        multiprocessing_context=start_method if num_workers else None,
        worker_init_fn=exit_with_trainer,
        persistent_workers=num_workers > 0,
        pin_memory=torch.cuda.is_available(),
    )
    loader.stall_watch = stall_watch
    return loader
