"""Contrastive training on OME-Zarr time-lapse data."""
