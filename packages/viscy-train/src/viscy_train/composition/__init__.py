"""Target and observed composition of batches, before and after training.

Imports `loading`; `report`, `training` and `cli` may import it.
"""
