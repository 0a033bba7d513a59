"""Crops: the pixels and slices of the crop around a cell, their scale, intensity and focus, and those that are invalid.

Imports `experiments` and `plates`; `anchors`, `loading` and later steps may import it.
"""
