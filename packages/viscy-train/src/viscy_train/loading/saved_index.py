"""Saved index: the sorted anchors of a large table, next to it, which later starts and all processes of a machine map.

A sampler sorts its table, which takes seconds and memory for many anchors. The folder of an index is named by a
checksum of all that it was built from, so that a changed table, split or axis has another one.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from typing import TYPE_CHECKING, Any

import pandas as pd

from viscy_data import AnchorIndex
from viscy_train.anchors.array_store import checksum

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

# Increases when indexes of earlier versions must not be used.
_VERSION = 1


def saved_index(directory: Path, anchors: pd.DataFrame, arguments: Mapping[str, Any]) -> AnchorIndex:
    """Open the index of some anchors, or build and save it.

    Parameters
    ----------
    directory : pathlib.Path
        Where indexes are saved; created if it does not exist.
    anchors : pandas.DataFrame
        The anchors, with the columns of the axes.
    arguments : mapping
        Arguments of the sampler by name, those that name axes and switch them on.

    Returns
    -------
    viscy_data.AnchorIndex
        The index: mapped from its files, or in memory if it cannot be saved.

    Raises
    ------
    TypeError, ValueError
        If the anchors cannot be indexed.
    """
    axes = _axes(arguments)
    folder = directory / f"index-{_key(anchors, axes)}"
    if (index := _open(folder)) is not None:
        return index
    built = AnchorIndex.build(anchors, **axes)
    try:
        directory.mkdir(exist_ok=True)
        built.save(folder)
    except FileExistsError:  # another process was faster
        pass
    except (OSError, TypeError):  # a full disk, a directory that is read-only, or labels that cannot be saved
        return built
    return _open(folder) or built


def _axes(arguments: Mapping[str, Any]) -> dict[str, Any]:
    """Return the columns that batches depend on; a sampler refuses an index of others."""
    is_enriched = arguments["temporal_enrichment"] and arguments["temporal_global_fraction"] < 1
    is_local = arguments["locality"] > 1
    return {
        "experiment_by": arguments["experiment_by"] if arguments["experiment_aware"] else None,
        "condition_by": arguments["condition_by"] if arguments["condition_balanced"] else None,
        "time_by": arguments["time_by"] if is_enriched or is_local else None,
        "distinct_by": arguments["distinct_by"],
        "place_by": arguments["place_by"] if is_local else None,
    }


def _key(anchors: pd.DataFrame, axes: dict[str, Any]) -> str:
    digest = hashlib.sha256(json.dumps([_VERSION, axes]).encode(), usedforsecurity=False)
    for by in axes.values():
        for name in [by] if isinstance(by, str) else by or ():
            column: Any = anchors[name]
            if isinstance(column.dtype, pd.CategoricalDtype):
                digest.update(repr(list(column.cat.categories)).encode())
                column = column.cat.codes
            digest.update(checksum(column.to_numpy()).encode())
    return digest.hexdigest()[:32]


def _open(folder: Path) -> AnchorIndex | None:
    """Return a saved index; None if there is none. A damaged one is deleted."""
    try:
        return AnchorIndex.open(folder, verify=True)
    except FileNotFoundError:
        return None
    except (OSError, ValueError):
        shutil.rmtree(folder, ignore_errors=True)
        return None
