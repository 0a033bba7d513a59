"""Ranks, training runs and data loaders, simulated in one process or run in real processes.

This sub-package imports `tables` only; `assertions` and `conformance` may import it.
"""
