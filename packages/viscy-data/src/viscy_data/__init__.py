"""Batches of tracked cells for contrastive learning."""

from viscy_data.sampler import FlexibleBatchSampler

__all__ = ["FlexibleBatchSampler"]
