"""Typed columns: values of metadata and annotations as text, float64, int64 or bool, the types of an anchor table."""

from __future__ import annotations

import datetime
from typing import Any

import numpy as np
import pandas as pd

from viscy_train.errors import UserError

# Integers beyond it are not float64.
_MAX_INTEGER = 2**53
_TYPES: dict[str, tuple[type, ...]] = {
    "bool": (bool, np.bool_),
    "int": (int, np.integer),
    "float": (float, np.floating),
    "text": (str,),
    "time": (datetime.date, datetime.time, datetime.timedelta),
}
_KINDS = set(_TYPES)


def type_column(values: pd.Series) -> pd.Series:
    """Return values in the narrowest type that holds all of them.

    Parameters
    ----------
    values : pandas.Series
        Text, numbers and booleans, or one of them; None or NaN where a value is missing.

    Returns
    -------
    pandas.Series
        bool if all are booleans, int64 if all are integers, float64 if all are numbers or missing. Text otherwise, as a
        categorical with sorted categories and without unused ones: also times, and booleans and integers beyond 2**53
        of which some are missing.

    Raises
    ------
    UserError
        If values are of other types, such as lists, or a number is infinite.
    """
    if not isinstance(values.dtype, pd.CategoricalDtype):
        values = _plain(values)
        kind = values.dtype.kind
        if kind in "bi":
            return values
        if kind == "f":
            if np.isinf(values.to_numpy()).any():
                raise UserError("numbers must be finite, got inf")
            return values
    return text_column(values)


def text_column(values: pd.Series) -> pd.Series:
    """Return values as text, a categorical with sorted categories; see `type_column`."""
    if values.dtype == object:  # True and 1 would be one category
        values = values.map(_text, na_action="ignore")
    categories: Any = values.astype("category").cat.remove_unused_categories()
    texts = [_text(value) for value in categories.cat.categories]
    names = sorted(set(texts))
    rank = {name: number for number, name in enumerate(names)}
    code_of = np.array([*(rank[text] for text in texts), -1])
    codes = code_of[categories.array.codes]
    return pd.Series(pd.Categorical.from_codes(codes, categories=pd.Index(names, dtype="str")), index=values.index)


def can_be_column(values: pd.Series) -> bool:
    """Return whether the values of a table are text, numbers, booleans or times, rather than lists or bytes."""
    kinds = set(map(_kind, values.dropna())) if values.dtype == object else set(map(_kind, values.dropna().head(1)))
    return kinds <= _KINDS


def _plain(values: pd.Series) -> pd.Series:
    """Return numbers and booleans in the types of NumPy, and others unchanged."""
    is_missing = values.isna().to_numpy()
    present = values[~is_missing]
    kinds = {_kind(value) for value in present.head(1)} if values.dtype != object else set(map(_kind, present))
    unknown = kinds - _KINDS
    if unknown:
        raise UserError(f"values must be text, numbers or booleans, got {', '.join(sorted(unknown))}")
    if kinds == {"bool"} and not is_missing.any():
        return values.astype(bool)
    if kinds == {"int"} and not is_missing.any() and _fits(present, 2**63 - 1):
        return values.astype("int64")
    if kinds <= {"int", "float"} and (kinds != {"int"} or _fits(present, _MAX_INTEGER)):
        return values.astype("float64")
    return values


def _kind(value: Any) -> str:
    return next((name for name, types in _TYPES.items() if isinstance(value, types)), type(value).__name__)


def _fits(values: pd.Series, largest: int) -> bool:
    return not len(values) or (abs(int(values.min())) <= largest and abs(int(values.max())) <= largest)


def _text(value: Any) -> str:
    return str(value).lower() if isinstance(value, (bool, np.bool_)) else str(value)


def shown(value: Any) -> str:
    """Return a value of a column as text that does not depend on missing values: ``1`` for 1.0, ``true`` for True."""
    return repr(float(value)).removesuffix(".0") if isinstance(value, (float, np.floating)) else _text(value)
