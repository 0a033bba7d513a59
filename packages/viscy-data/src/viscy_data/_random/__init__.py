"""Counter-based random numbers and keyed permutations, each a pure function of a key.

Imports nothing else of the package; `_compose` and `distributed` may import it.
"""
