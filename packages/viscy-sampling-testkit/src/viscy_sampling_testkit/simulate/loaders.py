"""A data loader that returns positions: it shows what workers and prefetching do to a sampler's batches."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from viscy_sampling_testkit.tables._sizes import check_count


class PositionLoader:
    """Pass a sampler's batches through a data loader, and yield them as lists of positions.

    It satisfies the protocol `ResumableBatchSampler`, so it can replace a sampler in `simulate_ranks`,
    `simulate_training`, `spawn_training` and `assert_resumes`.

    With workers, a plain loader draws ``num_workers * prefetch_factor`` batches ahead of the batch that it yields. The
    sampler's own state is ahead of training by as many batches, and a run that resumes from it skips them. This loader
    reproduces that; a `stateful` loader saves its own cursor instead.

    Parameters
    ----------
    sampler : ResumableBatchSampler
        The sampler.
    num_workers : int, default 0
        Number of worker processes; 0 loads in the main process.
    prefetch_factor : int, optional
        Number of batches that each worker loads in advance; by default torch's 2.
    persistent_workers : bool, default False
        Whether workers are kept from epoch to epoch.
    stateful : bool, default False
        If True, the loader is torchdata's ``StatefulDataLoader`` and the state is the loader's. If False, the loader is
        ``torch.utils.data.DataLoader`` and the state is the sampler's.
    timeout : float, default 60.0
        Seconds to wait for a batch from a worker.

    Raises
    ------
    ImportError
        If `stateful` is True and torchdata is not installed.
    TypeError
        If `num_workers` is not an integer.
    ValueError
        If `num_workers` is negative, or an option that needs workers is given without any (raised by torch).
    """

    def __init__(
        self,
        sampler: Any,
        *,
        num_workers: int = 0,
        prefetch_factor: int | None = None,
        persistent_workers: bool = False,
        stateful: bool = False,
        timeout: float = 60.0,
    ) -> None:
        check_count("num_workers", num_workers, at_least=0)
        self.sampler, self.stateful = sampler, stateful
        self._options = {
            "batch_sampler": sampler,
            "collate_fn": list,
            "num_workers": num_workers,
            "prefetch_factor": prefetch_factor,
            "persistent_workers": persistent_workers,
            "timeout": timeout if num_workers else 0,
        }
        self._loader: Any = self._open()

    def __iter__(self) -> Iterator[list[int]]:
        if self._loader is None:
            self._loader = self._open()
        yield from self._loader

    def __len__(self) -> int:
        return len(self.sampler)

    def set_epoch(self, epoch: int) -> None:
        """Choose the sampler's next epoch."""
        self.sampler.set_epoch(epoch)

    def state_dict(self) -> Any:
        """Return the state of a stateful loader, and otherwise that of the sampler."""
        return self._loader.state_dict() if self.stateful else self.sampler.state_dict()

    def load_state_dict(self, state: Any, /) -> None:
        """Load what `state_dict` returned."""
        (self._loader if self.stateful else self.sampler).load_state_dict(state)

    def close(self) -> None:
        """Stop the workers; an iterator that is still referenced keeps its workers until it is released."""
        self._loader = None

    def _open(self) -> Any:
        return _loader_class(self.stateful)(_Positions(), **self._options)


class _Positions:
    """A dataset whose items are their own positions."""

    def __getitem__(self, position: int) -> int:
        return int(position)


def _loader_class(stateful: bool) -> Any:
    if not stateful:
        from torch.utils.data import DataLoader

        return DataLoader
    try:
        from torchdata.stateful_dataloader import StatefulDataLoader
    except ImportError as error:
        raise ImportError("stateful=True needs torchdata; install viscy-sampling-testkit[torchdata]") from error
    return StatefulDataLoader
