"""What a trained encoder has learned: embeddings, retrieval, predictions.

Imports `loading` and `model`; `training`, `report` and `cli` may import it.
"""
