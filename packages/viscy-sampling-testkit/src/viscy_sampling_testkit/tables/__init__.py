"""Seeded synthetic anchor tables of any size.

This sub-package imports no other part of the package; every other part may import it.
"""
