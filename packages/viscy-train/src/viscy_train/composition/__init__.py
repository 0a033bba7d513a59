"""The target composition of batches against the observed one, before and after training.

Imports `loading`; `training`, `report` and `cli` may import it.
"""
