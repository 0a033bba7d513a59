"""Contrastive module: the training step, over pairs of crops of the same cell or its kin at two times."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import torch
from lightning.pytorch import LightningModule

from viscy_train.config.schema import EncoderConfig, LossConfig, OptimizerConfig
from viscy_train.errors import UserError
from viscy_train.model.encoder import Encoder
from viscy_train.model.losses import labels_of, make_loss

if TYPE_CHECKING:
    from collections.abc import Mapping

    from torch import Tensor


class ContrastiveModule(LightningModule):
    """Train an encoder to tell a cell from the others of its batch.

    Parameters
    ----------
    encoder : EncoderConfig
        The network.
    loss : LossConfig
        What it is trained for.
    optimizer : OptimizerConfig
        AdamW and its learning rate over the run.
    n_channels, z_slices, crop : int
        Channels, slices and side of a crop, the last in pixels.

    Notes
    -----
    An anchor's negatives are all other crops of the batches of all processes: that is why the batches' composition
    matters. With R processes the loss, and the gradient after DDP's averaging, are those of one process with the R
    batches together; for networks with batch normalization, with ``trainer.sync_batchnorm``.
    """

    def __init__(
        self,
        encoder: EncoderConfig = EncoderConfig(),  # noqa: B008 (frozen)
        loss: LossConfig = LossConfig(),  # noqa: B008
        optimizer: OptimizerConfig = OptimizerConfig(),  # noqa: B008
        n_channels: int = 1,
        z_slices: int = 1,
        crop: int = 64,
    ) -> None:
        super().__init__()
        self.encoder = Encoder(n_channels, z_slices, crop, encoder)
        self._loss = make_loss(loss)
        self._positives = loss.positives
        self._options = optimizer

    def training_step(self, batch: Mapping[str, Tensor]) -> Tensor:
        """Return the loss of a batch of pairs, crops of shape (n_pairs, n_channels, z_slices, side, side)."""
        return self._loss_of(self._projections(batch), batch)

    def validation_step(self, batch: Mapping[str, Tensor]) -> None:
        """Log the loss, and how often the nearest of a batch's positives is of the anchor's lineage."""
        projections = self._projections(batch)
        n_pairs = len(batch["lineage"])
        metrics = {
            "val/loss": self._loss_of(projections, batch),
            "val/found again": _share_found(*projections.split(n_pairs), batch["lineage"]),
        }
        self.log_dict(metrics, on_epoch=True, sync_dist=True, batch_size=n_pairs)

    def predict_step(self, batch: Mapping[str, Any]) -> dict[str, Any]:
        """Return embeddings, shape (n_crops, features), their projections, both float32, and the `row` of each."""
        embeddings = self.encoder(batch["crops"])
        projections = self.encoder.project(embeddings)
        return {"row": batch["row"], "embeddings": embeddings.float(), "projections": projections.float()}

    def configure_optimizers(self) -> Any:
        """Return AdamW, whose learning rate rises from 0 and falls to 0 along a cosine, or stays as it is."""
        options = self._options
        optimizer = torch.optim.AdamW(self.parameters(), lr=options.learning_rate, weight_decay=options.weight_decay)
        if options.schedule == "constant":
            return optimizer
        n_steps = self.trainer.estimated_stepping_batches
        if math.isinf(n_steps):
            raise UserError(
                "model.optimizer.schedule cosine needs to know the end: set trainer.max_epochs or trainer.max_steps, "
                "or choose constant"
            )
        warmup = max(1, round(options.warmup_fraction * n_steps))

        def factor(step: int) -> float:
            if step < warmup:
                return (step + 1) / (warmup + 1)
            return 0.5 * (1 + math.cos(math.pi * min(1.0, (step - warmup) / max(1, n_steps - warmup))))

        schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, factor)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}

    def _projections(self, batch: Mapping[str, Tensor]) -> Tensor:
        return self.encoder.project(self.encoder(torch.cat([batch["anchor"], batch["positive"]])))

    def _loss_of(self, projections: Tensor, batch: Mapping[str, Tensor]) -> Tensor:
        labels = labels_of(batch, self._positives, self.global_rank).repeat(2)
        if self.trainer.world_size > 1:
            projections = self._gathered(projections)
            of_all: Any = self.all_gather(labels)
            labels = of_all.flatten()
        return self._loss(projections, labels)

    def _gathered(self, projections: Tensor) -> Tensor:
        """Return the projections of all processes, with the gradient of those of this one.

        Each process has the gradient of the whole loss with respect to its own crops, and DDP averages what should be
        summed up. No process waits for another in the backward pass, where DDP has an order of its own.
        """
        if projections.requires_grad:
            n_processes = self.trainer.world_size
            projections.register_hook(lambda gradient: gradient * n_processes)
        parts = list(self.all_gather(projections.detach()))
        parts[self.global_rank] = projections
        return torch.cat(parts)


def _share_found(anchors: Tensor, positives: Tensor, lineage: Tensor) -> Tensor:
    """Return how often the positive nearest to an anchor, by angle, is of its lineage."""
    anchors, positives = torch.nn.functional.normalize(anchors), torch.nn.functional.normalize(positives)
    return (lineage[(anchors @ positives.T).argmax(dim=1)] == lineage).float().mean()
