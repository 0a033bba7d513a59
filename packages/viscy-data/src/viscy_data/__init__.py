"""Batches of tracked cells for contrastive learning.

The names below and the modules `sampler`, `index` and `distributed` are public; everything else is private.
"""

from viscy_data._compose.planned import PlannedComposition
from viscy_data._from_viscy import from_viscy
from viscy_data.distributed import ShardedDistributedSampler
from viscy_data.index import AnchorIndex
from viscy_data.sampler import FlexibleBatchSampler

__all__ = ["AnchorIndex", "FlexibleBatchSampler", "PlannedComposition", "ShardedDistributedSampler", "from_viscy"]
