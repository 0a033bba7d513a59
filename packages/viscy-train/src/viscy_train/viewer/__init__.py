"""The viewer: the plate, the tracks and a batch of a run as layers of napari, and its plugin for napari.

Imports all steps from plates to runs. Only `cli` and napari import it.
"""
