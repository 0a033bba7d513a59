"""Benchmarks that compare `FlexibleBatchSampler` with other samplers: ``make bench``, ``make bench-full``."""
