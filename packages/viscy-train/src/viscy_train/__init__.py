"""Contrastive training on OME-Zarr time-lapse data, with batches of a stated composition."""

from viscy_train.errors import UserError

__all__ = ["UserError"]
