"""Torch, asked only where something else has imported it: what is not loaded has no samplers and no ranks."""

from __future__ import annotations

import sys
from typing import Any


def rank_and_world_size() -> tuple[int, int]:
    """Return the rank of this process and the number of ranks: (0, 1) unless `torch.distributed` is initialized."""
    distributed = sys.modules.get("torch.distributed")
    # A build without distributed training lacks this function, and so does a module that is being imported.
    is_initialized = getattr(distributed, "is_initialized", None)
    if distributed is not None and is_initialized is not None and is_initialized():
        return distributed.get_rank(), distributed.get_world_size()
    return 0, 1


def is_sampler(value: Any, name: str = "Sampler") -> bool:
    """Return whether a value is an instance of a class of samplers of torch, given by name."""
    kind = getattr(sys.modules.get("torch.utils.data"), name, None)
    return kind is not None and isinstance(value, kind)
