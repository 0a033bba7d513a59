"""Data module: the training loader, pairs of crops in batches of a stated composition."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lightning.pytorch import LightningDataModule
from torch.utils.data import DataLoader

from viscy_train.composition import make_sampler
from viscy_train.dataset import PairDataset

if TYPE_CHECKING:
    import pandas as pd

    from viscy_train.config import Config


class PairDataModule(LightningDataModule):
    """Load pairs of crops; Lightning must not touch the sampler (``use_distributed_sampler=False``).

    Parameters
    ----------
    anchors : pandas.DataFrame
        Table with the columns of `viscy_train.anchors.COLUMNS`.
    config : Config
        Names plates, channels and the batches' composition.
    """

    def __init__(self, anchors: pd.DataFrame, config: Config) -> None:
        super().__init__()
        self._dataset = PairDataset(anchors, config)
        self._sampler = make_sampler(anchors, config)

    def train_dataloader(self) -> DataLoader:
        """Return the loader of the current epoch, whose dataset knows the epoch."""
        if self.trainer is not None:
            self._dataset.epoch = self.trainer.current_epoch
        return DataLoader(self._dataset, batch_sampler=self._sampler)
