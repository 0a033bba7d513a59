"""Written values: the columns of a CSV file as their author means them, where pandas reads something else."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import pandas as pd

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

# Not `None`, which may be the name of a treatment.
MISSING = ["", "NA", "N/A", "NaN", "nan", "null"]
"""Texts that stand for a missing value."""
_LEADING_ZERO = re.compile(r"[-+]?0\d.*")
# Anywhere in a file, such a number may be the value of a column: a quick search that spares files without one.
_ANY_LEADING_ZERO = re.compile(rb"(?:^|[,;\t\"' ])[-+]?0\d", re.MULTILINE)
_NUMBER = r"[-+]?(?:\d+[.,]?\d*|[.,]\d+)(?:[eE][-+]?\d+)?"


def written_values(
    table: pd.DataFrame, path: Path, read: Callable[..., pd.DataFrame], *, has_decimal_commas: bool
) -> pd.DataFrame:
    """Return the table of a CSV file with the values that its author means, by the rules for metadata and for tracks.

    Parameters
    ----------
    table : pandas.DataFrame
        The table as pandas reads it.
    path : pathlib.Path
        The file.
    read : callable
        Reads it once more, with options of `pandas.read_csv`.
    has_decimal_commas : bool
        Whether numbers may have a decimal comma, because it does not separate columns.

    Returns
    -------
    pandas.DataFrame
        The table, but columns of numbers of which one has a leading zero, such as ``0123``, are the texts in the file;
        and columns of texts that all are numbers, such as ``0,5``, are numbers.
    """
    table = _with_leading_zeros(table, path, read)
    return table.assign(**{name: _with_decimal_points(table[name]) for name in table if has_decimal_commas})


def without_spaces(values: Any) -> Any:
    """Return the values of a column without spaces around texts."""
    if isinstance(values.dtype, pd.CategoricalDtype):
        stripped = [_strip(name) for name in values.cat.categories]
        is_same = stripped == values.cat.categories.tolist()
        return values if is_same else values.astype(object).map(_strip, na_action="ignore")
    is_text = values.dtype == object or isinstance(values.dtype, pd.StringDtype)
    return values.map(_strip, na_action="ignore") if is_text else values


def _strip(value: Any) -> Any:
    stripped = value.strip() if isinstance(value, str) else value
    return None if isinstance(value, str) and stripped in MISSING and stripped != value else stripped


def _with_leading_zeros(table: pd.DataFrame, path: Path, read: Callable[..., pd.DataFrame]) -> pd.DataFrame:
    numbers = [number for number, kind in enumerate(table.dtypes) if getattr(kind, "kind", "O") in "iuf"]
    if not numbers or not _ANY_LEADING_ZERO.search(path.read_bytes()):
        return table
    texts = read(usecols=numbers, dtype="str")
    padded = [name for name in texts if texts[name].str.strip().str.fullmatch(_LEADING_ZERO.pattern).eq(True).any()]
    return table.assign(**{name: texts[name] for name in padded})


def _with_decimal_points(values: Any) -> Any:
    if not isinstance(values.dtype, pd.StringDtype) and values.dtype != object:
        return values
    texts = pd.Series(values.dropna().unique()).astype("str").str.strip()
    is_number = texts.str.fullmatch(_NUMBER) & ~texts.str.fullmatch(_LEADING_ZERO.pattern)
    if not len(texts) or not is_number.all() or not texts.str.contains(",").any():
        return values
    return pd.to_numeric(values.astype("str").str.strip().str.replace(",", "."))
