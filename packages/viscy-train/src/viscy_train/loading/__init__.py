"""From rows of the anchor table to batches of pixels on a device.

Imports `anchors`, `config` and `run`; `composition`, `evaluation`, `training` and `cli` may import it.
"""
