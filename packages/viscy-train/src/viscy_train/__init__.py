"""Contrastive training on OME-Zarr time-lapse data, with batches of a configured composition.

The names exported here are the public interface, and all sub-packages are private. A name is imported when it is first
used, because importing Lightning takes seconds.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from viscy_train.errors import UserError

if TYPE_CHECKING:
    from viscy_train.anchors.build import build_anchor_table
    from viscy_train.anchors.table import AnchorTable
    from viscy_train.config.schema import (
        AugmentationConfig,
        CropSettings,
        EncoderConfig,
        LossConfig,
        NormalizationConfig,
        OptimizerConfig,
        PositiveConfig,
        SamplerConfig,
        SplitConfig,
    )
    from viscy_train.experiments.experiment import Experiment
    from viscy_train.loading.data_module import PairDataModule
    from viscy_train.loading.datasets import CropDataset, PairDataset
    from viscy_train.loading.pair_loader import PairLoader
    from viscy_train.model.contrastive_loss import contrastive_loss
    from viscy_train.model.encoder import Encoder
    from viscy_train.model.exported import load_encoder
    from viscy_train.model.losses import ContrastiveLoss, make_labels
    from viscy_train.model.module import ContrastiveModule

    __version__: str

__all__ = [
    "AnchorTable",
    "AugmentationConfig",
    "ContrastiveLoss",
    "ContrastiveModule",
    "CropDataset",
    "CropSettings",
    "Encoder",
    "EncoderConfig",
    "Experiment",
    "LossConfig",
    "NormalizationConfig",
    "OptimizerConfig",
    "PairDataModule",
    "PairDataset",
    "PairLoader",
    "PositiveConfig",
    "SamplerConfig",
    "SplitConfig",
    "UserError",
    "build_anchor_table",
    "contrastive_loss",
    "load_encoder",
    "make_labels",
]

_MODULES = {
    "AnchorTable": "anchors.table",
    "AugmentationConfig": "config.schema",
    "ContrastiveLoss": "model.losses",
    "ContrastiveModule": "model.module",
    "CropDataset": "loading.datasets",
    "CropSettings": "config.schema",
    "Encoder": "model.encoder",
    "EncoderConfig": "config.schema",
    "Experiment": "experiments.experiment",
    "LossConfig": "config.schema",
    "NormalizationConfig": "config.schema",
    "OptimizerConfig": "config.schema",
    "PairDataModule": "loading.data_module",
    "PairDataset": "loading.datasets",
    "PairLoader": "loading.pair_loader",
    "PositiveConfig": "config.schema",
    "SamplerConfig": "config.schema",
    "SplitConfig": "config.schema",
    "build_anchor_table": "anchors.build",
    "contrastive_loss": "model.contrastive_loss",
    "load_encoder": "model.exported",
    "make_labels": "model.losses",
}


def __getattr__(name: str) -> Any:
    """Import a public name from its module, or look up the version."""
    if name == "__version__":
        from importlib.metadata import version  # loaded only here, because it takes as long as the rest

        return version("viscy-train")
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_MODULES[name]}"), name)


def __dir__() -> list[str]:
    """List the public names."""
    return sorted(__all__)
