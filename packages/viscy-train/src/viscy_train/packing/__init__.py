"""Packing: reads every frame of plates once, and writes the crops of all observations to a crop store.

Imports `crop_store` and `loading`; `cli` imports it.
"""
