"""Synthetic anchor tables, seeded and of any size.

Imports nothing else of the package; everything may import it.
"""
