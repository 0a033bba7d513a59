"""Contrastive module: the training step, on pairs of crops of one cell, or of related cells, at two times."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import torch
from lightning.pytorch import LightningModule
from torch.optim.lr_scheduler import LambdaLR

from viscy_train.config.schema import EncoderConfig, LossConfig, OptimizerConfig
from viscy_train.errors import UserError
from viscy_train.model.encoder import Encoder
from viscy_train.model.losses import make_labels, make_loss

if TYPE_CHECKING:
    from collections.abc import Mapping

    from torch import Tensor


class ContrastiveModule(LightningModule):
    """Train an encoder to distinguish each cell from the others in its batch.

    Parameters
    ----------
    encoder : EncoderConfig
        The network.
    loss : LossConfig
        The loss.
    optimizer : OptimizerConfig
        AdamW and its learning rate schedule.
    n_channels, z_slices, crop : int
        Number of channels, number of slices, and side in pixels of a crop.

    Notes
    -----
    The negatives of an anchor are the other crops in the batches of all processes, which is why the composition of
    batches matters. With R processes, the loss and the gradient averaged by DDP equal those of one process with all R
    batches. For networks with batch normalization, this requires ``trainer.sync_batchnorm``.
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
        return self._compute_loss(self._project(batch), batch)

    def validation_step(self, batch: Mapping[str, Tensor]) -> None:
        """Log the loss, and recall@1 within the batch: how often the nearest positive is of the anchor's lineage."""
        projections = self._project(batch)
        n_pairs = len(batch["lineage"])
        metrics = {
            "val/loss": self._compute_loss(projections, batch),
            "val/recall_at_1": _recall_at_1(*projections.split(n_pairs), batch["lineage"]),
        }
        self.log_dict(metrics, on_epoch=True, sync_dist=True, batch_size=n_pairs)

    def predict_step(self, batch: Mapping[str, Any]) -> dict[str, Any]:
        """Return the `row` of each crop, its embedding and its projection, both float32, shape (n_crops, length)."""
        embeddings = self.encoder(batch["crops"])
        projections = self.encoder.project(embeddings)
        return {"row": batch["row"], "embeddings": embeddings.float(), "projections": projections.float()}

    def configure_optimizers(self) -> Any:
        """Return AdamW, with a constant learning rate or with linear warmup followed by cosine decay to 0."""
        options = self._options
        optimizer = torch.optim.AdamW(self.parameters(), lr=options.learning_rate, weight_decay=options.weight_decay)
        if options.schedule == "constant":
            return optimizer
        n_steps = self.trainer.estimated_stepping_batches
        if math.isinf(n_steps):
            raise UserError(
                "model.optimizer.schedule cosine needs a finite run: set trainer.max_epochs or trainer.max_steps, or "
                "choose the schedule constant"
            )
        warmup = max(1, round(options.warmup_fraction * n_steps))

        def factor(step: int) -> float:
            if step < warmup:
                return (step + 1) / (warmup + 1)
            return 0.5 * (1 + math.cos(math.pi * min(1.0, (step - warmup) / max(1, n_steps - warmup))))

        schedule = LambdaLR(optimizer, factor)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}

    def on_train_start(self) -> None:
        """Use the configured settings of the optimizer, which a checkpoint has replaced by its own."""
        options = self._options
        factors = [config.scheduler for config in self.trainer.lr_scheduler_configs]
        factor = math.prod(one.lr_lambdas[0](one.last_epoch) for one in factors if isinstance(one, LambdaLR))
        for optimizer in self.trainer.optimizers:
            for group in optimizer.param_groups:
                group |= {"initial_lr": options.learning_rate, "weight_decay": options.weight_decay}
                group["lr"] = options.learning_rate * factor
        for schedule in factors:
            schedule.base_lrs = [options.learning_rate] * len(schedule.base_lrs)

    def _project(self, batch: Mapping[str, Tensor]) -> Tensor:
        return self.encoder.project(self.encoder(torch.cat([batch["anchor"], batch["positive"]])))

    def _compute_loss(self, projections: Tensor, batch: Mapping[str, Tensor]) -> Tensor:
        labels = make_labels(batch, self._positives, self.global_rank).repeat(2)
        if self.trainer.world_size > 1:
            projections = self._gather(projections)
            gathered: Any = self.all_gather(labels)
            labels = gathered.flatten()
        return self._loss(projections, labels)

    def _gather(self, projections: Tensor) -> Tensor:
        """Return the projections of all processes; gradients flow only into those of this process.

        Each process computes the gradient of the complete loss with respect to its own crops. DDP averages these
        gradients, but they must be summed, hence the factor. The backward pass needs no communication, which could
        interfere with the order in which DDP reduces gradients.
        """
        if projections.requires_grad:
            n_processes = self.trainer.world_size
            projections.register_hook(lambda gradient: gradient * n_processes)
        parts = list(self.all_gather(projections.detach()))
        parts[self.global_rank] = projections
        return torch.cat(parts)


def _recall_at_1(anchors: Tensor, positives: Tensor, lineage: Tensor) -> Tensor:
    """Return the fraction of anchors whose nearest positive, by cosine similarity, is of the same lineage."""
    anchors, positives = torch.nn.functional.normalize(anchors), torch.nn.functional.normalize(positives)
    return (lineage[(anchors @ positives.T).argmax(dim=1)] == lineage).float().mean()
