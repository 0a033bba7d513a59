"""A reference sampler that satisfies every law, and mutants of it that break one law each.

This sub-package imports `assertions` and `conformance`; only tests import it.
"""
