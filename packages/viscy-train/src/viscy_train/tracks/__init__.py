"""Tracks: where each cell of a position is in each frame, read from the files of any common tracker.

Imports `plates` and `experiments`; `anchors` and later steps may import it.
"""
