"""Loader: the data loader of a dataset whose batches are composed by a batch sampler."""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, Literal
from weakref import WeakSet

import torch
from torch.utils.data import DataLoader
from torch.utils.data._utils.pin_memory import pin_memory

from viscy_train.loading.datasets import no_collation
from viscy_train.loading.read_ahead import ReadAhead
from viscy_train.loading.sockets import use_short_paths
from viscy_train.loading.stall import StallWatch, describe_reader, describe_worker
from viscy_train.loading.worker_exit import exit_with_trainer

if TYPE_CHECKING:
    from collections.abc import Iterator

    from torch.utils.data import Dataset


@dataclass(frozen=True, kw_only=True)
class Workers:
    """What reads batches ahead.

    Parameters
    ----------
    kind : {"threads", "processes"}
        Threads of this process, or processes.
    n : int
        How many; 0 reads each batch when it is needed.
    start_method : str, optional
        How processes are started; by default, Python's default.
    """

    kind: Literal["threads", "processes"] = "threads"
    n: int = 0
    start_method: str | None = None


class DeferredLoader(DataLoader):
    """A data loader that starts an epoch when its first batch is requested.

    Parameters
    ----------
    dataset, **options
        As for torch's loader.
    n_threads : int, default 0
        Number of threads that read ahead, if there are no worker processes.
    stall_watch : StallWatch, optional
        Says for what the process waits, if that takes long.

    Notes
    -----
    The workers of torch's loader read ahead from ``iter()`` on. Lightning calls ``iter()`` before it has restored the
    epoch, and for some epochs a second time. It also makes copies of loaders, with the attributes that are named like
    parameters.
    """

    def __init__(
        self, dataset: Dataset, *, n_threads: int = 0, stall_watch: StallWatch | None = None, **options: Any
    ) -> None:
        super().__init__(dataset, **options)
        self.n_threads, self.stall_watch = n_threads, stall_watch
        self._open: WeakSet[ReadAhead] = WeakSet()

    def __iter__(self) -> Any:
        """Yield the batches of an epoch."""
        return self._read_ahead() if self.n_threads else self._batches()

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

    def _read_ahead(self) -> Iterator[Any]:
        dataset: Any = self.dataset
        is_pinned = self.pin_memory and torch.cuda.is_available()
        # A thread begins with the first device of the machine, where other processes may train.
        prepare = partial(torch.cuda.set_device, torch.cuda.current_device()) if is_pinned else _nothing
        read = partial(_read_pinned, dataset) if is_pinned else dataset.__getitems__
        batches = ReadAhead(read, self.batch_sampler or (), self.n_threads, prepare)
        self._open.add(batches)
        try:
            while True:
                watch = self.stall_watch
                try:
                    with nullcontext() if watch is None else watch.waiting(partial(describe_reader, batches)):
                        batch = next(batches)
                except StopIteration:
                    return
                yield batch
                del batch
        finally:
            batches.close()

    def close(self) -> None:
        """End the threads of epochs that have not ended."""
        for batches in list(self._open):
            batches.close()


def make_loader(
    dataset: Dataset, batches: Any, workers: Workers = Workers(), stall_watch: StallWatch | None = None
) -> DeferredLoader:
    """Return a data loader.

    Parameters
    ----------
    dataset : torch.utils.data.Dataset
        Its ``__getitems__`` reads a complete batch; for threads, in several of them at the same time.
    batches : iterable
        Batch sampler; yields what the dataset reads.
    workers : Workers
        What reads ahead.
    stall_watch : StallWatch, optional
        Says for what the process waits, if that takes long.

    Returns
    -------
    torch.utils.data.DataLoader
        A loader whose worker processes persist between epochs and exit with this process, or whose threads end with the
        epoch.
    """
    n_processes = workers.n if workers.kind == "processes" else 0
    if n_processes:
        use_short_paths()
    collate: Any = no_collation
    return DeferredLoader(
        dataset,
        batch_sampler=batches,
        collate_fn=collate,
        num_workers=n_processes,
        multiprocessing_context=workers.start_method if n_processes else None,
        worker_init_fn=exit_with_trainer,
        persistent_workers=n_processes > 0,
        pin_memory=torch.cuda.is_available(),
        n_threads=workers.n - n_processes,
        stall_watch=stall_watch,
    )


def _read_pinned(dataset: Any, batch: Any) -> Any:
    """Read a batch into pinned memory, from which it is copied to the device while the process continues."""
    return pin_memory(dataset.__getitems__(batch))


def _nothing() -> None:
    pass
