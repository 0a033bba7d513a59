"""Projects to try things on: the simulated demo and the public HeLa time-lapse.

Imports `anchors`; only `cli` imports it.
"""
