"""Contrastive training on OME-Zarr time-lapse data."""

from viscy_train.config import Config
from viscy_train.errors import UserError

__all__ = ["Config", "UserError"]
