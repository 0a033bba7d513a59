"""Crop store: crops of all observations of an anchor table in the type of their plate, one chunk each, and its reader.

Imports `crops` and `anchors`; `loading`, which reads from stores, and `packing`, which writes them, import it.
"""
