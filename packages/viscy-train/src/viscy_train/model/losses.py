"""Losses: the contrastive loss, and the labels that say which crops of a batch attract each other."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from pytorch_metric_learning.losses import SupConLoss

if TYPE_CHECKING:
    from collections.abc import Mapping

    from torch import Tensor, nn

    from viscy_train.config.schema import LossConfig


def make_loss(config: LossConfig) -> nn.Module:
    """Return the loss as a function of projections, shape (n_crops, projection), and labels, shape (n_crops,).

    Parameters
    ----------
    config : LossConfig
        Name and temperature of the loss.

    Returns
    -------
    torch.nn.Module
        The supervised contrastive loss (Khosla et al. 2020) from pytorch-metric-learning: crops with the same label
        attract each other, all others repel. With one label per pair, it is the NT-Xent loss of SimCLR (Chen et al.
        2020). The NTXentLoss class is not used because it compares every positive pair with every negative pair, which
        takes a hundred times as long for two processes with 64 pairs each.
    """
    return SupConLoss(temperature=config.temperature)


def make_labels(batch: Mapping[str, Tensor], positives: str, rank: int) -> Tensor:
    """Return a label for each pair of a batch; crops with the same label attract each other.

    Parameters
    ----------
    batch : mapping
        Must have the keys `lineage` and `condition`, shape (n_pairs,).
    positives : {"lineage", "pair", "condition"}
        What the crops that attract each other have in common.
    rank : int
        Rank of this process. Its pairs have other labels than those of the other processes.

    Returns
    -------
    torch.Tensor
        Labels, shape (n_pairs,), dtype int64.
    """
    if positives == "pair":
        n_pairs = len(batch["lineage"])
        return torch.arange(rank * n_pairs, (rank + 1) * n_pairs, device=batch["lineage"].device)
    return batch[positives]
