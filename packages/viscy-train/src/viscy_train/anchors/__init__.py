"""Anchor table: every observation of a project, built from plates and tracks, and checked against them later.

Imports `experiments`, `crops` and `positives`; `loading` and later steps may import it.
"""
