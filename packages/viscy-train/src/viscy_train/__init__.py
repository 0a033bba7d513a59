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
    from viscy_train.loading.data_module import PairDataModule
    from viscy_train.model.exported import load_encoder
    from viscy_train.model.module import ContrastiveModule

    __version__: str

__all__ = ["AnchorTable", "ContrastiveModule", "PairDataModule", "UserError", "build_anchor_table", "load_encoder"]

_MODULES = {
    "AnchorTable": "anchors.table",
    "ContrastiveModule": "model.module",
    "PairDataModule": "loading.data_module",
    "build_anchor_table": "anchors.build",
    "load_encoder": "model.exported",
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
