"""A rank: one of the processes that train together."""

from __future__ import annotations

from typing import Any

from viscy_data._options import integer


def check_ranks(rank: Any, num_replicas: Any) -> tuple[int, int] | None:
    """Return rank and number of ranks as given, or None if neither is; raise if they are invalid."""
    if rank is None and num_replicas is None:
        return None
    if num_replicas is not None:
        num_replicas = integer("num_replicas", num_replicas, at_least=1, at_most=2**48)
    if rank is None and num_replicas == 1:
        return 0, 1
    if rank is None or num_replicas is None:
        raise ValueError(
            f"num_replicas and rank must be given together or not at all, got num_replicas={num_replicas}, "
            f"rank={rank}; pass both, or neither to use torch.distributed, or num_replicas=1 alone for a single rank"
        )
    rank = integer("rank", rank, at_least=0)
    if rank >= num_replicas:
        raise ValueError(f"rank must be in [0, num_replicas), got {rank} of {num_replicas}; ranks count from 0")
    return rank, num_replicas
