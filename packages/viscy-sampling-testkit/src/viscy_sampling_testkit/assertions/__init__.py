"""Assertions that check one property each, exactly or at a stated false-alarm rate, and the power of the latter.

This sub-package imports `simulate` only; `conformance` and `mutants` may import it.
"""
