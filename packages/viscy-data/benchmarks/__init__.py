"""Benchmarks of `FlexibleBatchSampler` beside what other samplers cost: ``make bench``, ``make bench-full``."""
