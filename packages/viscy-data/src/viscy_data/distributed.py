"""Rank and world size."""

import torch.distributed as dist


def rank_and_world_size() -> tuple[int, int]:
    """Return rank and world size; (0, 1) where torch.distributed is not initialised."""
    if dist.is_available() and dist.is_initialized():
        return dist.get_rank(), dist.get_world_size()
    return 0, 1
