"""Shared table: the columns of a large anchor table in files that all processes of a machine map into memory.

The columns are those of one Parquet file, which is recognized by a checksum. A process that finds them does not decode
and check the Parquet file again. Of processes that do not find them, one decodes them, and the others wait for it.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from viscy_train.anchors.array_store import ArrayStore
from viscy_train.anchors.column_decoder import count_rows, decode_columns
from viscy_train.errors import UserError
from viscy_train.row_slices import mapped_arrays, release

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

LEAST_ROWS = 2**17
"""The columns of smaller tables are not shared."""
# Increases when another version must not use the columns, for instance because it checks them more strictly.
_VERSION = 1
_CONTENTS = "columns.json"


def store_of(path: Path) -> ArrayStore:
    """Return where the columns of an anchor table are shared: a hidden directory next to its Parquet file.

    If the file is at a URL, the directory is next to its local copy, and the columns are shared by one process and its
    children only.
    """
    local = Path(os.fspath(path))
    return ArrayStore(local.with_name(f".{local.name}.arrays"))


def is_shared(path: Path) -> bool:
    """Return whether an anchor table has so many rows that its columns are shared."""
    return count_rows(path) >= LEAST_ROWS


def forget_columns(path: Path) -> None:
    """Delete the shared columns of a Parquet file that was replaced. Processes that have mapped them keep them."""
    shutil.rmtree(store_of(path).directory, ignore_errors=True)


def open_columns(path: Path) -> pd.DataFrame | None:
    """Open the shared columns of an anchor table.

    Parameters
    ----------
    path : pathlib.Path
        The Parquet file of the table.

    Returns
    -------
    pandas.DataFrame, optional
        The observations; None if they are not shared, or the Parquet file has changed since, or a file is damaged.
    """
    store = store_of(path)
    try:
        contents = json.loads((store.directory / _CONTENTS).read_text(encoding="utf-8"))
        if contents["version"] != _VERSION or contents["source"] != checksum_of_file(path):
            return None
        columns = {name: _open_column(store, **column) for name, column in contents["columns"].items()}
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return None if any(column is None for column in columns.values()) else pd.DataFrame(columns, copy=False)


def share_columns(path: Path, observations: pd.DataFrame) -> pd.DataFrame:
    """Share the columns of an anchor table.

    Parameters
    ----------
    path : pathlib.Path
        The Parquet file of the table.
    observations : pandas.DataFrame
        Its content, after it was checked.

    Returns
    -------
    pandas.DataFrame
        Equal observations in shared memory; the given ones if they are few or cannot be stored.
    """
    if len(observations) < LEAST_ROWS:
        return observations
    store, columns = store_of(path), {}
    for name in observations.columns:
        values: Any = observations[name]
        categories = None
        if isinstance(values.dtype, pd.CategoricalDtype):
            categories, values = list(values.cat.categories), values.cat.codes
        array = store.put(values.to_numpy())
        if array is None:
            return observations
        columns[name] = {"array": array, "categories": categories}
    opened = open_columns(path) if _publish(path, checksum_of_file(path), columns) else None
    return observations if opened is None else opened


def decode_and_share(path: Path, names: Sequence[str], check: Callable[[pd.DataFrame], None]) -> pd.DataFrame | None:
    """Decode the columns of a large anchor table into shared memory, some rows at a time.

    Parameters
    ----------
    path : pathlib.Path
        The Parquet file of the table.
    names : sequence of str
        Columns of the table.
    check : callable
        Raises an error if the observations that it is given are invalid. They are then not shared.

    Returns
    -------
    pandas.DataFrame, optional
        The observations; None if they are few, a column is unusual, or they cannot be stored.
    """
    if not is_shared(path):
        return None
    source, store = checksum_of_file(path), store_of(path)
    columns = decode_columns(path, names, store)
    if columns is None:
        return None
    opened = {name: _open_column(store, **column, is_checked=False) for name, column in columns.items()}
    if any(column is None for column in opened.values()):
        return None
    observations = pd.DataFrame(opened, copy=False)
    try:
        check(observations)
    except UserError:
        forget_columns(path)
        raise
    release(*mapped_arrays(observations))
    _publish(path, source, columns)
    return observations


def _publish(path: Path, source: str, columns: dict[str, dict[str, Any]]) -> bool:
    """Write which files the columns of a Parquet file of some checksum are in; return whether it was possible."""
    contents = json.dumps({"version": _VERSION, "source": source, "columns": columns}).encode()
    return store_of(path).write_file(_CONTENTS, lambda file: file.write(contents))


def _open_column(store: ArrayStore, array: str, categories: list[str] | None, *, is_checked: bool = True) -> Any:
    """Return a column of a frame, or None if its file is missing or damaged."""
    stored = store.open(array) if is_checked else store.map(array)
    if stored is None:
        return None
    values = stored.view(np.ndarray)  # the same memory, without the type of its origin
    if categories is None:
        return values
    return pd.Categorical.from_codes(values, dtype=pd.CategoricalDtype(categories), validate=False)


def checksum_of_file(path: Path) -> str:
    """Return the SHA-256 of a file, by which an anchor table is recognized."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
