"""From the number of a batch to its anchors: quotas, schedule, rounding, draws.

Imports `_random` and reads an `AnchorIndex`; only `sampler` imports it.
"""
