"""Contrastive module: the training step, on pairs of crops of one cell, or of related cells, at two times."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import torch
from lightning.pytorch import LightningModule
from torch.optim.lr_scheduler import LambdaLR

from viscy_train.config.checks import require
from viscy_train.config.schema import EncoderConfig, FilePath, LossConfig, OptimizerConfig
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
    split_batches : bool
        Whether the processes share each batch, of which every process has a slice of the same size; otherwise each has
        a batch of its own. It must be as in the loaders of training and validation.
    init_from : path, optional
        File of the weights that a new run starts from, which ``viscy-train fit`` loads: a checkpoint, an encoder that
        ``viscy-train export`` wrote, or weights of the same network of timm.

    Notes
    -----
    The negatives of an anchor are the other crops of its batch, which is why the composition of batches matters. If R
    processes share a batch, the loss and the gradient averaged by DDP equal those of one process with that batch. If
    each has its own, they equal those of one process that accumulates the gradients of R batches or, with the negatives
    of the step, those of one process with all R batches in one. For networks with batch normalization, this requires
    ``trainer.sync_batchnorm``. The loss of a training step is the same number on all processes.
    """

    def __init__(
        self,
        encoder: EncoderConfig = EncoderConfig(),  # noqa: B008 (frozen)
        loss: LossConfig = LossConfig(),  # noqa: B008
        optimizer: OptimizerConfig = OptimizerConfig(),  # noqa: B008
        n_channels: int = 1,
        z_slices: int = 1,
        crop: int = 64,
        split_batches: bool = False,
        init_from: FilePath | None = None,
    ) -> None:
        super().__init__()
        rule = "model.encoder.pretrained must be false if model.init_from names the weights to start from"
        require(init_from is None or not encoder.pretrained, rule, encoder.pretrained)
        self.encoder = Encoder(n_channels, z_slices, crop, encoder)
        self.loss = make_loss(loss)
        self._positives = loss.positives
        self._shares_batches = split_batches
        self._compares_ranks = split_batches or loss.negatives == "step"
        self._options = optimizer
        self.init_from = None if init_from is None else Path(init_from)
        """File of the weights that a new run starts from."""

    @property
    def split_batches(self) -> bool:
        """Whether the processes share each batch."""
        return self._shares_batches

    def training_step(self, batch: Mapping[str, Tensor]) -> Tensor:
        """Return the loss of a batch of pairs, crops of shape (n_pairs, n_channels, z_slices, side, side)."""
        loss = self._compute_loss(self._project(batch), batch)
        if self.trainer.world_size == 1 or self._compares_ranks:
            return loss
        # The mean over the batches of the step, with the gradient of this process's own.
        return cast("Tensor", self.all_gather(loss.detach())).mean() + (loss - loss.detach())

    def validation_step(self, batch: Mapping[str, Tensor]) -> None:
        """Log the loss, and recall@1 in the batch: how often the nearest positive is that of the same lineage."""
        projections, lineage = self._project(batch), batch["lineage"]
        anchors, positives = projections.split(len(lineage))
        metrics = {
            "val/loss": self._compute_loss(projections, batch),
            "val/recall_at_1": _recall_at_1(anchors, lineage, *map(self._complete, (positives, lineage))),
        }
        self.log_dict(metrics, on_epoch=True, sync_dist=True, batch_size=len(lineage))

    def predict_step(self, batch: Mapping[str, Any]) -> dict[str, Any]:
        """Return the `row` of each crop, its embedding and its projection, both float32, shape (n_crops, length)."""
        embeddings = self.encoder(batch["crops"])
        projections = self.encoder.project(embeddings)
        return {"row": batch["row"], "embeddings": embeddings.float(), "projections": projections.float()}

    def configure_optimizers(self) -> Any:
        """Return AdamW, with a constant learning rate or with linear warmup followed by cosine decay to 0."""
        options = self._options
        optimizer = torch.optim.AdamW(
            self._parameter_groups(), lr=options.learning_rate, weight_decay=options.weight_decay
        )
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

    def optimizer_step(self, *args: Any, **kwargs: Any) -> None:
        """Update the weights, and keep a learned temperature within its limit."""
        super().optimizer_step(*args, **kwargs)
        self.loss.clamp_temperature()

    def on_train_start(self) -> None:
        """Use the configured settings of the optimizer, which a checkpoint has replaced by its own."""
        options = self._options
        factors = [config.scheduler for config in self.trainer.lr_scheduler_configs]
        factor = math.prod(one.lr_lambdas[0](one.last_epoch) for one in factors if isinstance(one, LambdaLR))
        for optimizer in self.trainer.optimizers:
            for group, configured in zip(optimizer.param_groups, self._parameter_groups(), strict=True):
                group["weight_decay"] = configured.get("weight_decay", options.weight_decay)
                group |= {"initial_lr": options.learning_rate, "lr": options.learning_rate * factor}
        for schedule in factors:
            schedule.base_lrs = [options.learning_rate] * len(schedule.base_lrs)

    def _parameter_groups(self) -> list[dict[str, Any]]:
        """Return the weights, and apart from them a learned temperature, which does not decay."""
        temperature = self.loss.log_temperature
        groups: list[dict[str, Any]] = [{"params": [one for one in self.parameters() if one is not temperature]}]
        return groups if temperature is None else [*groups, {"params": [temperature], "weight_decay": 0.0}]

    def _project(self, batch: Mapping[str, Tensor]) -> Tensor:
        return self.encoder.project(self.encoder(torch.cat([batch["anchor"], batch["positive"]])))

    def _compute_loss(self, projections: Tensor, batch: Mapping[str, Tensor]) -> Tensor:
        labels = make_labels(batch, self._positives, self.global_rank).repeat(2)
        if not self._compares_ranks:
            return self.loss(projections, labels)
        return self.loss(projections, labels, self._gather, self.global_rank)

    def _complete(self, part: Tensor) -> Tensor:
        """Return the rows of the batch of which a tensor is this process's slice."""
        return self._gather(part).flatten(0, 1) if self._shares_batches else part

    def _gather(self, tensor: Tensor) -> Tensor:
        """Return the tensors of all processes, which must have the same shape, in one more dimension."""
        return cast("Tensor", self.all_gather(tensor)) if self.trainer.world_size > 1 else tensor[None]


def _recall_at_1(anchors: Tensor, of_anchors: Tensor, positives: Tensor, of_positives: Tensor) -> Tensor:
    """Return the fraction of anchors whose nearest positive, by cosine similarity, is of the same lineage."""
    dtype = torch.promote_types(anchors.dtype, torch.float32)
    with torch.autocast(anchors.device.type, enabled=False):  # in half precision, many similarities are equal
        anchors, positives = (torch.nn.functional.normalize(part.to(dtype)) for part in (anchors, positives))
        nearest = (anchors @ positives.T).argmax(dim=1)
    return (of_positives[nearest] == of_anchors).float().mean()
