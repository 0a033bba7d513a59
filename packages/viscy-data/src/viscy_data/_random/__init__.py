"""Counter-based random numbers and keyed permutations, each a pure function of a key.

This sub-package imports nothing else of the package; `_compose` and `distributed` may import it.
"""
