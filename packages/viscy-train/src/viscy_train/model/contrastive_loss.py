"""Contrastive loss: the supervised contrastive loss of a batch that several ranks share, computed in blocks of rows.

Each crop i has a row: its logits a_ij = z_i·z_j / T with all other crops j of the batch, where z are the normalized
projections and T is the temperature. P are its positives, the k other crops with its label, and N its negatives, the m
crops with another label. Its loss is the "out" version of Khosla et al. 2020, "Supervised Contrastive Learning",

    l_i = log(sum_P exp(a_ip) + E) - mean_P a_ip,    E = m * sum_N q_n exp(a_in),    sum_N q_n = 1.

With equal weights q_n = 1/m, E is the sum over the negatives. With a hardness b > 0, the weights are those of the
hard-negative NT-Xent loss of Robinson et al. 2021, "Contrastive Learning with Hard Negative Samples", for tau_plus = 0:
q_n is proportional to exp(b a_in), so that negatives close to the anchor count more while their number stays m. With
one positive, this is their loss. With several, their E replaces the sum over the negatives, and the positives keep
their place in the denominator and in the mean. With S(c) = log sum_N exp(c a_in), S(0) = log m,

    log E = log m + S(1 + b) - S(b).

The derivatives are, for a positive and for a negative, where D = sum_P exp(a_ip) + E,

    dl_i/da_ip = exp(a_ip) / D - 1/k,
    dl_i/da_in = E/D * ((1 + b) exp((1 + b) a_in - S(1 + b)) - b exp(b a_in - S(b))).

A rank computes the rows of its own crops only. Five numbers of each row, exchanged by the ranks, give both the value
of the loss and all derivatives: z_i occurs in its own row and, as a column, in all others, and a_ij = a_ji. So the
backward pass computes the same blocks of logits again and needs no communication.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.autograd import Function
from torch.autograd.function import once_differentiable
from torch.nn.functional import normalize

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

# Number of logits in a block: 4 MB in float32. The largest of a pass are a few such blocks.
_BLOCK = 2**20


def contrastive_loss(
    projections: Tensor,
    labels: Tensor,
    temperature: float | Tensor,
    hardness: float = 0.0,
    *,
    gather: Callable[[Tensor], Tensor] | None = None,
    rank: int = 0,
) -> Tensor:
    """Return the loss of a batch: the mean over all its crops that have both a positive and a negative, 0 if none has.

    Parameters
    ----------
    projections : torch.Tensor
        Projections of the crops of this rank, shape (n_crops, length). float64 is computed in float64, all other types
        in float32, also under autocast.
    labels : torch.Tensor
        Their labels, shape (n_crops,), dtype int64. Crops with the same label attract each other, all others repel.
    temperature : float or torch.Tensor
        Temperature of the softmax, above 0. A tensor of one element gets a gradient.
    hardness : float, default 0.0
        How much negatives with large logits count more: weights proportional to exp(hardness * logit).
    gather : callable, optional
        Returns a tensor of all ranks that share the batch, shape ``(n_ranks, *shape)``. One rank by default.
        All ranks must have the same number of crops.
    rank : int, default 0
        Rank of this process among them.

    Returns
    -------
    torch.Tensor
        The loss, a scalar, which is equal on all ranks. The gradient is the part of this rank, multiplied by the number
        of ranks: if the ranks average their gradients, as DDP does, the result is the gradient of the loss.

    Notes
    -----
    Without hardness, this is SupConLoss of pytorch-metric-learning, except that a row whose loss is rounded to 0 counts
    in the mean. With one label per pair, it is the NT-Xent loss of SimCLR (Chen et al. 2020).

    Examples
    --------
    >>> projections = torch.tensor([[1.0, 0.0], [0.0, 1.0], [1.0, 0.0], [0.0, 1.0]])
    >>> contrastive_loss(projections, torch.tensor([0, 1, 0, 1]), temperature=1.0)  # log(e + 2) - 1
    tensor(0.5514)
    """
    dtype = torch.promote_types(projections.dtype, torch.float32)
    with torch.autocast(projections.device.type, enabled=False):
        own = normalize(projections.to(dtype))
        scale = 1 / torch.as_tensor(temperature, dtype=dtype, device=own.device)
        return _ContrastiveLoss.apply(own, scale, labels, hardness, gather or _alone, rank)


def _alone(tensor: Tensor) -> Tensor:
    return tensor[None]


class _ContrastiveLoss(Function):
    """The loss of normalized projections, given 1 / temperature."""

    @staticmethod
    def forward(
        ctx: Any,
        own: Tensor,
        scale: Tensor,
        labels: Tensor,
        hardness: float,
        gather: Callable[[Tensor], Tensor],
        rank: int,
    ) -> Tensor:
        everything, all_labels = gather(own).flatten(0, 1), gather(labels).flatten()
        first = rank * len(own)
        blocks = _blocks(own, everything, scale, all_labels, first)
        statistics = torch.cat([_row_statistics(*block, hardness) for _, *block in blocks])
        gathered = gather(statistics)
        statistics = gathered.flatten(0, 1)
        n_rows = (statistics[:, 1] > 0).sum().clamp(min=1)
        ctx.save_for_backward(own, scale, everything, all_labels, statistics, n_rows)
        ctx.hardness, ctx.first, ctx.n_ranks = hardness, first, len(gathered)
        return statistics[:, 0].sum() / n_rows

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> Any:
        own, scale, everything, labels, statistics, n_rows = ctx.saved_tensors
        by_projection, by_scale = torch.empty_like(own), torch.zeros_like(scale)
        with torch.autocast(own.device.type, enabled=False):
            for rows, logits, positive, negative in _blocks(own, everything, scale, labels, ctx.first):
                of_rows = statistics[ctx.first + rows.start : ctx.first + rows.stop].T[:, :, None]
                slopes = _slopes(logits, positive, negative, of_rows, ctx.hardness)
                by_scale += (slopes * logits).sum() / scale
                slopes += _slopes(logits, positive, negative, statistics.T[:, None], ctx.hardness)
                by_projection[rows] = slopes @ everything
        factor = gradient * ctx.n_ranks / n_rows
        return by_projection * (factor * scale), by_scale * factor, None, None, None, None


def _blocks(
    own: Tensor, everything: Tensor, scale: Tensor, labels: Tensor, first: int
) -> Iterator[tuple[slice, Tensor, Tensor, Tensor]]:
    """Yield blocks of own rows: which rows, and their logits, positives and negatives, shape (n_rows, n_columns)."""
    n_rows = max(1, _BLOCK // len(everything))
    for start in range(0, len(own), n_rows):
        rows = slice(start, min(start + n_rows, len(own)))
        crops = torch.arange(first + rows.start, first + rows.stop, device=labels.device)
        positive = labels[crops, None] == labels
        negative = ~positive
        positive.scatter_(1, crops[:, None], value=False)
        yield rows, (own[rows] @ everything.T).mul_(scale), positive, negative


def _row_statistics(logits: Tensor, positive: Tensor, negative: Tensor, hardness: float) -> Tensor:
    """Return what is needed of each row, shape (n_rows, 5): l, 1/k, log D, S(1 + b) - log(E/D), S(b) - log(E/D).

    For a row that does not count, these are 0, 0, inf, inf, inf, so that its derivatives are 0.
    """
    n_positives, n_negatives = (mask.sum(dim=1).to(logits.dtype) for mask in (positive, negative))
    mean = torch.where(positive, logits, 0).sum(dim=1) / n_positives
    hard = _log_sum_exp((1 + hardness) * logits, negative)
    weights = _log_sum_exp(hardness * logits, negative) if hardness else n_negatives.log()
    negatives = n_negatives.log() + hard - weights
    # Subtracted before the sum, because it is exact for one positive, however small the loss is.
    loss = torch.logaddexp(_log_sum_exp(logits, positive) - mean, negatives - mean)
    log_share = negatives - mean - loss
    statistics = torch.stack([loss, 1 / n_positives, loss + mean, hard - log_share, weights - log_share], dim=1)
    counts = (n_positives > 0) & (n_negatives > 0)
    return torch.where(counts[:, None], statistics, statistics.new_tensor([0, 0, *3 * [math.inf]]))


def _log_sum_exp(logits: Tensor, mask: Tensor) -> Tensor:
    return torch.where(mask, logits, -math.inf).logsumexp(dim=1)


def _slopes(logits: Tensor, positive: Tensor, negative: Tensor, statistics: Tensor, hardness: float) -> Tensor:
    """Return the derivatives of rows, given by their statistics, with respect to logits; 0 for a crop with itself."""
    _, inverse, log_total, hard, weights = statistics
    pull = (logits - log_total).exp_().sub_(inverse)
    push = ((1 + hardness) * logits).sub_(hard).exp_().mul_(1 + hardness)
    if hardness:
        push -= (hardness * logits).sub_(weights).exp_().mul_(hardness)
    return torch.where(positive, pull, torch.where(negative, push, 0))
