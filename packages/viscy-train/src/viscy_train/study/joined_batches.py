"""Joined batches: the batches of several processes as one batch, as a loss sees them that compares all of a step."""

from __future__ import annotations

from itertools import batched
from typing import TYPE_CHECKING

import numpy as np

from viscy_train.loading.batches import Batch
from viscy_train.loading.data_module import PairDataModule

if TYPE_CHECKING:
    from collections.abc import Iterator

    from torch.utils.data import DataLoader

    from viscy_train.loading.batches import TrainingBatches


class JoinedBatches:
    """Batch sampler that yields as one batch what several processes train on in a step.

    Parameters
    ----------
    batches : TrainingBatches
        The batches of one process, in the order of the global sequence.
    n_joined : int
        Number of processes. The last batches of an epoch that are too few for a step are left out.
    """

    def __init__(self, batches: TrainingBatches, n_joined: int) -> None:
        self._batches, self._n_joined = batches, n_joined

    def __len__(self) -> int:
        return len(self._batches) // self._n_joined

    def __iter__(self) -> Iterator[Batch]:
        """Yield the steps of an epoch; a batch has the index of its last part, after which training continues."""
        for parts in batched(self._batches, self._n_joined):
            if len(parts) == self._n_joined:
                yield Batch(np.concatenate([part.rows for part in parts]), parts[-1].epoch, parts[-1].index)

    @property
    def sampler(self) -> JoinedBatches:
        """The object itself, because the epoch of its parts is that of the trainer."""
        return self

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch of the trainer."""
        self._batches.set_epoch(epoch)


class StudyPairs(PairDataModule):
    """Load pairs as `PairDataModule`, where a study can join batches.

    The parameters are those of `viscy_train.loading.run_data.RunData`.
    """

    n_joined: int = 1
    """Number of consecutive batches that are loaded as one."""

    def train_dataloader(self) -> DataLoader:
        """Return the loader of the training pairs."""
        batches = self.training_batches()
        return self._make_loader(self._pairs, batches if self.n_joined == 1 else JoinedBatches(batches, self.n_joined))
