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

from viscy_data import AnchorIndex, Table
from viscy_train.anchors.array_store import name_of
from viscy_train.output import one_at_a_time
from viscy_train.row_slices import mapped_arrays, row_slices

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
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
        Arguments of the sampler by name.

    Returns
    -------
    viscy_data.AnchorIndex
        The index: mapped from its files, or in memory if it cannot be saved.

    Raises
    ------
    TypeError, ValueError
        If the anchors cannot be indexed.
    """
    axes = AnchorIndex.axes_of(**arguments)
    folder = directory / f"index-{_key(anchors, axes)}"
    if (index := _open(folder)) is not None:
        return index
    with one_at_a_time(folder):
        # Another process may have just saved it.
        return _open(folder) or _build(folder, anchors, axes)


def _build(folder: Path, anchors: pd.DataFrame, axes: dict[str, Any]) -> AnchorIndex:
    built = AnchorIndex.build(_in_parts(anchors), **axes)
    try:
        folder.parent.mkdir(exist_ok=True)
        built.save(folder)
    except FileExistsError:  # on a file system without locks, another process was faster
        pass
    except (OSError, TypeError):  # a full disk, a directory that is read-only, or labels that cannot be saved
        return built
    return _open(folder) or built


def _in_parts(anchors: pd.DataFrame) -> Table:
    """Return anchors as a table whose mapped columns are given back to the system part by part."""

    def column(name: str) -> Iterator[pd.Series]:
        values = anchors[name]
        return (values.iloc[rows] for rows in row_slices(len(values), *mapped_arrays(values.to_frame())))

    return Table(list(anchors.columns), len(anchors), column)


def _key(anchors: pd.DataFrame, axes: dict[str, Any]) -> str:
    digest = hashlib.sha256(json.dumps([_VERSION, axes]).encode(), usedforsecurity=False)
    for by in axes.values():
        for name in [by] if isinstance(by, str) else by or ():
            column: Any = anchors[name]
            is_categorical = isinstance(column.dtype, pd.CategoricalDtype)
            if is_categorical:
                digest.update(repr(list(column.cat.categories)).encode())
            digest.update(name_of(column.array.codes if is_categorical else column.to_numpy()).encode())
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
