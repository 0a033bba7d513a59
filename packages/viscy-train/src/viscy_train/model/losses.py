"""Losses: which crops of a batch belong together, and the contrastive loss that says so."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from pytorch_metric_learning.losses import SupConLoss

if TYPE_CHECKING:
    from collections.abc import Mapping

    from torch import Tensor, nn

    from viscy_train.config.schema import LossConfig


def make_loss(config: LossConfig) -> nn.Module:
    """Return the loss of projections, shape (n_crops, projection), and labels, shape (n_crops,).

    Parameters
    ----------
    config : LossConfig
        Which, and its temperature.

    Returns
    -------
    torch.nn.Module
        The supervised contrastive loss (Khosla et al. 2020) of pytorch-metric-learning: crops with the same label
        attract each other, all others of the batch repel. Where labels are those of pairs, it is NT-Xent of SimCLR
        (Chen et al. 2020). The class of that name compares every pair of like crops with every pair of unlike ones,
        which takes a hundred times as long for the crops of two processes with 64 pairs each.
    """
    return SupConLoss(temperature=config.temperature)


def labels_of(batch: Mapping[str, Tensor], positives: str, rank: int) -> Tensor:
    """Return the labels of a batch's anchors; a positive has that of its anchor.

    Parameters
    ----------
    batch : mapping
        With `lineage` and `condition`, shape (n_pairs,).
    positives : str
        What belongs together: ``lineage``, ``pair`` or ``condition``.
    rank : int
        Of this process, whose pairs are others than those of the rest.

    Returns
    -------
    torch.Tensor
        Shape (n_pairs,), int64.
    """
    if positives == "pair":
        n_pairs = len(batch["lineage"])
        return torch.arange(rank * n_pairs, (rank + 1) * n_pairs, device=batch["lineage"].device)
    return batch[positives]
