"""Pair loader: the training pairs of a rank for a loop of your own, with a state that counts what it returned."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch

from viscy_train.loading.batches import IndexedBatches
from viscy_train.loading.datasets import finish_batch
from viscy_train.loading.sampler import restore_sampler

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from viscy_train.loading.data_module import PairDataModule


class PairLoader:
    """Iterate over the training pairs of one rank, without a trainer of Lightning.

    Parameters
    ----------
    data : PairDataModule
        The data; `setup` need not have been called.
    rank : int, default 0
        Rank of this process.
    num_replicas : int, default 1
        Number of processes. Each draws its own batches, or its own part of each with ``data.sampler.split_batches``, so
        no other library must distribute them again.
    device : torch.device or str, default "cpu"
        Where crops are normalized, resampled and augmented.

    Notes
    -----
    A batch is a dict with ``anchor`` and ``positive``, float32, shape (n, n_channels, z_slices, side, side); ``row``,
    ``positive_row``, ``lineage`` and ``condition``, int64, shape (n,); and its ``epoch``, ``batch`` and ``first_slot``.
    It has the pixels with which ``viscy-train fit`` trains on the same batch.

    Examples
    --------
    ::

        loader = PairLoader(data)
        for epoch in range(10):
            loader.set_epoch(epoch)
            for batch in loader:
                ...
    """

    def __init__(
        self, data: PairDataModule, *, rank: int = 0, num_replicas: int = 1, device: torch.device | str = "cpu"
    ) -> None:
        self._data, self._device = data, torch.device(device)
        self._rank, self._num_replicas = rank, num_replicas
        self.sampler = data.make_sampler(rank, num_replicas)
        """The sampler of this rank."""
        # Copied before any batch is drawn: the sampler itself runs ahead of the loop where batches are read ahead.
        self._state = self.sampler.state_dict()
        self._loader = data.make_pair_loader(IndexedBatches(self.sampler, data.train_rows, rank, num_replicas))

    def __len__(self) -> int:
        """Return the number of batches of this rank in a complete epoch."""
        return len(self.sampler)

    def __iter__(self) -> Iterator[dict[str, Any]]:
        """Yield the remaining batches of the epoch."""
        self.sampler.load_state_dict(self._state)
        for batch in self._loader:
            self._state = self._state_after(batch)
            yield self._data.augment(finish_batch(self._moved(batch)))

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch of the next ``iter()``; one that was loaded keeps its position."""
        if epoch != self._state["epoch"]:
            self._state |= {"epoch": epoch, "position": 0}

    def state_dict(self) -> dict[str, Any]:
        """Return the state after the last batch that was returned, whatever was read ahead: a small dict."""
        return dict(self._state)

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Continue after the last batch that was returned, on any number of ranks.

        Raises
        ------
        UserError
            If the state belongs to other anchors or another composition.
        """
        restore_sampler(self.sampler, state_dict)
        self._state = self.sampler.state_dict()

    def _state_after(self, batch: Mapping[str, Any]) -> dict[str, Any]:
        epoch, index = int(batch["epoch"]), int(batch["batch"])
        position = index + (1 if self.sampler.split_batches else self._num_replicas - self._rank)
        if position >= self.sampler.planned().n_batches:
            epoch, position = epoch + 1, 0
        return self._state | {"epoch": epoch, "position": position}

    def _moved(self, batch: Mapping[str, Any]) -> dict[str, Any]:
        return {name: value.to(self._device) for name, value in batch.items()}
