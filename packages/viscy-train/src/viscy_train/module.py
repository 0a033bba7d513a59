"""Contrastive module: the training step, NT-Xent over pairs of crops of the same cell."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from lightning.pytorch import LightningModule
from pytorch_metric_learning.losses import NTXentLoss

from viscy_train.encoder import Encoder

if TYPE_CHECKING:
    from torch import Tensor

    from viscy_train.config import Config


class ContrastiveModule(LightningModule):
    """Train an encoder to tell a cell from the others of its batch.

    Parameters
    ----------
    config : Config
        Sizes, learning rate and temperature.

    Notes
    -----
    An anchor's negatives are all other crops of its process's batch: that is why the batch's composition matters.
    """

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.encoder = Encoder(len(config.channels), config.encoder)
        self._loss = NTXentLoss(temperature=config.training.temperature)
        self._learning_rate = config.training.learning_rate

    def training_step(self, batch: dict[str, Tensor]) -> Tensor:
        """Return the loss of a batch of pairs, crops of shape (n_pairs, n_channels, side, side)."""
        crops = torch.cat([batch["anchor"], batch["positive"]])
        pair = torch.arange(len(batch["anchor"]), device=crops.device).repeat(2)
        loss = self._loss(self.encoder.project(self.encoder(crops)), pair)
        self.log("loss", loss, sync_dist=True, batch_size=len(batch["anchor"]))
        return loss

    def configure_optimizers(self) -> Any:
        """Return AdamW."""
        return torch.optim.AdamW(self.parameters(), lr=self._learning_rate)
