"""From the number of a batch to its anchors: quotas, schedule, rounding, draws.

This sub-package imports `_random` and reads an `AnchorIndex`; `sampler` and the checks may import it.
"""
