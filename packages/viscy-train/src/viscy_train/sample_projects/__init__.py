"""Sample projects: the simulated demo and the public HeLa time-lapse.

Imports `anchors` and `run`; only `cli` imports it.
"""
