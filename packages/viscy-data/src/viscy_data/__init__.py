"""Batches of tracked cells for contrastive learning."""

from viscy_data._compose.planned import PlannedComposition
from viscy_data.distributed import ShardedDistributedSampler
from viscy_data.index import AnchorIndex
from viscy_data.sampler import FlexibleBatchSampler

__all__ = ["AnchorIndex", "FlexibleBatchSampler", "PlannedComposition", "ShardedDistributedSampler"]
