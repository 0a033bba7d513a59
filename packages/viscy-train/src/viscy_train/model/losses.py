"""Losses: the contrastive loss, and the labels that say which crops of a batch attract each other."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from viscy_train.config.schema import MIN_LEARNED_TEMPERATURE
from viscy_train.model.contrastive_loss import contrastive_loss

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from viscy_train.config.schema import LossConfig


class ContrastiveLoss(nn.Module):
    """The configured contrastive loss, see `viscy_train.model.contrastive_loss.contrastive_loss`.

    Parameters
    ----------
    config : LossConfig
        Temperature and hardness.
    """

    log_temperature: nn.Parameter | None

    def __init__(self, config: LossConfig) -> None:
        super().__init__()
        self._fixed, self._hardness = config.temperature, config.hardness
        start = torch.tensor(math.log(config.temperature))
        self.log_temperature = nn.Parameter(start) if config.learn_temperature else None

    @property
    def temperature(self) -> float | Tensor:
        """The temperature: a number, or a tensor if it is learned."""
        return self._fixed if self.log_temperature is None else self.log_temperature.exp()

    def forward(
        self, projections: Tensor, labels: Tensor, gather: Callable[[Tensor], Tensor] | None = None, rank: int = 0
    ) -> Tensor:
        """Return the loss of a batch of projections, shape (n_crops, length), and labels, shape (n_crops,)."""
        return contrastive_loss(projections, labels, self.temperature, self._hardness, gather=gather, rank=rank)

    @torch.no_grad()
    def clamp_temperature(self) -> None:
        """Raise a learned temperature to the minimum, after a step of the optimizer."""
        if self.log_temperature is not None:
            self.log_temperature.clamp_(min=math.log(MIN_LEARNED_TEMPERATURE))


def make_loss(config: LossConfig) -> ContrastiveLoss:
    """Return the loss as a function of projections, shape (n_crops, projection), and labels, shape (n_crops,).

    Parameters
    ----------
    config : LossConfig
        The configured loss.

    Returns
    -------
    ContrastiveLoss
        Crops with the same label attract each other, all others repel. Both names of losses stand for the supervised
        contrastive loss (Khosla et al. 2020), because with one label per pair, it is the NT-Xent loss of SimCLR (Chen
        et al. 2020).
    """
    return ContrastiveLoss(config)


def make_labels(batch: Mapping[str, Tensor], positives: str, rank: int) -> Tensor:
    """Return a label for each pair of a batch; crops with the same label attract each other.

    Parameters
    ----------
    batch : mapping
        Must have the keys `lineage` and `condition`, shape (n_pairs,).
    positives : {"lineage", "pair", "condition"}
        What the crops that attract each other have in common.
    rank : int
        Rank of this process. Its pairs have other labels than those of the other processes, which must have as many.

    Returns
    -------
    torch.Tensor
        Labels, shape (n_pairs,), dtype int64.
    """
    if positives == "pair":
        n_pairs = len(batch["lineage"])
        return torch.arange(rank * n_pairs, (rank + 1) * n_pairs, device=batch["lineage"].device)
    return batch[positives]
