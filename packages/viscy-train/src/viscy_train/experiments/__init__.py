"""Experiments: plates, tracks, conditions and further columns of a project, as its user describes them.

Imports `config` and `plates`; `tracks`, `crops`, `positives`, `anchors` and later steps may import it.
"""
