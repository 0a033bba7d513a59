"""Shared rows: some rows of the columns of a large table, which one process takes and all of a machine map."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from viscy_train.anchors.array_store import name_of
from viscy_train.row_slices import row_slices

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

    from viscy_train.anchors.array_store import ArrayStore


def take_rows(columns: pd.DataFrame, rows: NDArray[Any], store: ArrayStore) -> pd.DataFrame:
    """Return some rows of columns, with a RangeIndex.

    Parameters
    ----------
    columns : pandas.DataFrame
        Numbers, booleans and categoricals.
    rows : numpy.ndarray
        The rows to take, by position, shape (n,).
    store : ArrayStore
        Where to share what was taken.

    Returns
    -------
    pandas.DataFrame
        Equal to ``columns.iloc[rows].reset_index(drop=True)``.
    """
    if len(rows) == len(columns) and _ascend_from_0(rows):
        return columns
    return pd.DataFrame({name: _take(columns[name], rows, store) for name in columns}, copy=False)


def _ascend_from_0(rows: NDArray[Any]) -> bool:
    return all(bool((rows[part] == np.arange(part.start, part.stop)).all()) for part in row_slices(len(rows), rows))


def _take(column: Any, rows: NDArray[Any], store: ArrayStore) -> Any:
    is_categorical = isinstance(column.dtype, pd.CategoricalDtype)
    values = column.array.codes if is_categorical else column.to_numpy()
    origin = f"{name_of(values)} at {name_of(rows)}"
    shared = store.derive(origin, values.dtype, len(rows), partial(_parts, values, rows))
    taken = shared.view(np.ndarray)  # the same memory, without the type of its origin
    return pd.Categorical.from_codes(taken, dtype=column.dtype, validate=False) if is_categorical else taken


def _parts(values: NDArray[Any], rows: NDArray[Any]) -> Iterator[NDArray[Any]]:
    return (values[rows[part]] for part in row_slices(len(rows), values, rows))
