"""Assertions of one property each, exact or with a stated false-alarm rate, and what the latter can detect.

Imports `simulate` alone; `conformance` and `mutants` may import it.
"""
