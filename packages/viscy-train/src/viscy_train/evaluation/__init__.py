"""Evaluation of a trained encoder: embeddings, recall@1, linear probes, predictions.

Imports `loading` and `model`; `report`, `training` and `cli` may import it.
"""
