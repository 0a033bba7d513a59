"""A reference sampler that obeys every law, and mutants of it that break one law each.

Imports `assertions` and `conformance`; nothing but tests imports it.
"""
