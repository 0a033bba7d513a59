"""Positives: the rule by which the positive of an anchor is chosen, along its lineage or by metadata.

Imports `config` and `experiments`; `anchors`, `loading` and later steps may import it.
"""
