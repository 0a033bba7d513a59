"""Batches of tracked cells for contrastive learning.

The names below and the modules `composed_batches`, `sampler`, `index` and `distributed` are public; everything else is
private. A name is imported when it is first used, because importing torch takes seconds.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from viscy_data._compose.planned import PlannedComposition
    from viscy_data._from_viscy import from_viscy
    from viscy_data._table.tables import Table
    from viscy_data.composed_batches import ComposedBatches
    from viscy_data.distributed import ShardedDistributedSampler
    from viscy_data.index import AnchorIndex
    from viscy_data.sampler import FlexibleBatchSampler

    __version__: str

__all__ = [
    "AnchorIndex",
    "ComposedBatches",
    "FlexibleBatchSampler",
    "PlannedComposition",
    "ShardedDistributedSampler",
    "Table",
    "from_viscy",
]

_MODULES = {
    "AnchorIndex": "index",
    "ComposedBatches": "composed_batches",
    "FlexibleBatchSampler": "sampler",
    "PlannedComposition": "_compose.planned",
    "ShardedDistributedSampler": "distributed",
    "Table": "_table.tables",
    "from_viscy": "_from_viscy",
}
_PUBLIC_MODULES = ("composed_batches", "distributed", "index", "sampler")


def __getattr__(name: str) -> Any:
    """Import a public name from its module, or a public module, or look up the version."""
    if name == "__version__":
        from importlib.metadata import version  # loaded only here, because it takes as long as the rest

        return version("viscy-data")
    if name in _PUBLIC_MODULES:
        return import_module(f"{__name__}.{name}")
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_MODULES[name]}"), name)


def __dir__() -> list[str]:
    """List the public names."""
    return sorted([*__all__, *_PUBLIC_MODULES])
