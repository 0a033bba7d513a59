"""Plain columns: a table as numbers, booleans and text that every version of AnnData reads, in Python and in R."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

# AnnData takes the first for a level of the file, and the second for the index.
_SLASH, _INDEX = "/", "_index"
# HDF5 ends a text there.
_NUL, _INSTEAD = "\0", "\N{REPLACEMENT CHARACTER}"


def plain_columns(table: pd.DataFrame) -> pd.DataFrame:
    """Return a table whose columns and index have only types that are the same in all versions of AnnData.

    Parameters
    ----------
    table : pandas.DataFrame
        Columns of any type, with missing values.

    Returns
    -------
    pandas.DataFrame
        Numbers and booleans are NumPy arrays, everything else is a categorical of Python strings. A missing number is
        NaN, a missing text has no category; integers with missing values become float64, and booleans with missing
        values the texts ``False`` and ``True``. Times are texts in ISO format. Names of columns have ``_`` instead of
        ``/``. The index is of Python strings.

    Notes
    -----
    AnnData writes the nullable types of pandas and its strings as arrays with a mask, which AnnData 0.10 and readers in
    R do not know.
    """
    columns = {name: _plain(table[column]) for name, column in zip(_names(table), table, strict=True)}
    index = pd.Index([str(row) for row in table.index], dtype=object)
    return pd.DataFrame({name: pd.Series(values, index=index) for name, values in columns.items()}, index=index)


def _names(table: pd.DataFrame) -> list[str]:
    """Return a name for each column, all different."""
    names: list[str] = []
    for column in table:
        name = unique = str(column).replace(_SLASH, "_").replace(_NUL, _INSTEAD)
        number = 1
        while unique in names or unique == _INDEX:
            number += 1
            unique = f"{name}_{number}"
        names.append(unique)
    return names


def _plain(values: pd.Series) -> Any:
    """Return the values of a column as a NumPy array or as a categorical."""
    values = _from_objects(values) if values.dtype == object else values
    numbers = None if isinstance(values.dtype, pd.CategoricalDtype) else _numbers(values)
    return _texts(values) if numbers is None else numbers


def _from_objects(values: pd.Series) -> pd.Series:
    """Return a column of Python objects with a type of their own if they have one, apart from missing values."""
    kind = pd.api.types.infer_dtype(values, skipna=True)
    if kind == "boolean":
        return values.astype("boolean")
    if kind in ("integer", "floating", "mixed-integer-float"):
        return pd.to_numeric(values, errors="coerce")
    return values


def _numbers(values: pd.Series) -> np.ndarray | None:
    """Return a column of numbers or booleans as an array, or None if it is neither or cannot be an array."""
    is_bool = pd.api.types.is_bool_dtype(values.dtype)
    if pd.api.types.is_complex_dtype(values.dtype) or not (is_bool or pd.api.types.is_numeric_dtype(values.dtype)):
        return None
    if isinstance(values.dtype, np.dtype):
        return values.to_numpy(dtype=np.float32) if values.dtype == np.float16 else values.to_numpy()
    if not values.isna().any():
        kind = np.dtype(getattr(values.dtype, "numpy_dtype", np.float64))
        return values.to_numpy(dtype=kind if kind.kind in "biuf" else np.float64)
    return None if is_bool else values.to_numpy(dtype=np.float64, na_value=np.nan)


def _texts(values: pd.Series) -> pd.Categorical:
    """Return a column as a categorical of Python strings, with the order of categories that it has, if any."""
    categories: Any = values if isinstance(values.dtype, pd.CategoricalDtype) else _as_categories(values)
    codes = categories.array.codes
    names = pd.Series([_text(name) for name in categories.cat.categories], dtype=object)
    merged, unique = pd.factorize(names)  # different values may have the same text
    codes = np.where(codes < 0, -1, merged[codes] if len(merged) else -1)
    return pd.Categorical.from_codes(codes, pd.Index(list(unique), dtype=object))


def _as_categories(values: pd.Series) -> pd.Series:
    try:
        return values.astype("category")
    except (TypeError, ValueError):  # values that cannot be hashed, such as lists, and text that is not Unicode
        texts = pd.Series([None if _is_missing(value) else _text(value) for value in values], dtype=object)
        return texts.astype("category")


def _is_missing(value: Any) -> bool:
    return pd.api.types.is_scalar(value) and bool(pd.isna(value))


def _text(value: Any) -> str:
    text = value.isoformat() if hasattr(value, "isoformat") else str(value)
    return text.replace(_NUL, _INSTEAD).encode("utf-8", "replace").decode("utf-8")
