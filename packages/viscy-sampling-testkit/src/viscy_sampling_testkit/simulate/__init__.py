"""Ranks, training runs and data loaders, simulated in one process or run as real processes.

Imports `tables` alone; `assertions` and `conformance` may import it.
"""
