"""Plates: images in OME-Zarr stores, found by their names, with their channels, scale and pixels.

Imports `config` and the basics only; every later step may import it.
"""
