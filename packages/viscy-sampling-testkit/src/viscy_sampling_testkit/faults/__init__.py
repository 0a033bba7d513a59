"""Training commands that are disturbed at seeded moments, and compared with runs that are left alone.

This sub-package imports `tables` only; no other sub-package may import it.
"""
