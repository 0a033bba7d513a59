"""Tracks CSV: a table of tracks as text, separated by commas, or by semicolons or tabs as in other locales."""

from __future__ import annotations

import csv
import re
import warnings
from typing import TYPE_CHECKING, Any, TextIO

import pandas as pd

from viscy_train.errors import UserError, require_regular_file

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

_SEPARATORS = (",", ";", "\t")
# Spreadsheet programs put this line before the header.
_SEPARATOR_LINE = re.compile(r'"?sep=(.)"?\s*')
_DECIMAL_COMMA = r"[-+]?\d*,\d+(?:[eE][-+]?\d+)?"
_LONGEST_HEADER = 2**20


def read_tracks_csv(path: Path, columns: Sequence[str], missing: str) -> pd.DataFrame:
    """Read a CSV of tracks.

    Parameters
    ----------
    path : pathlib.Path
        Text in UTF-8 with a header. If it is separated by semicolons or tabs, numbers may have a decimal comma.
    columns : sequence of str
        Columns that are used. Others may have any content.
    missing : str
        Advice if there is no such file.

    Returns
    -------
    pandas.DataFrame
        All columns, as pandas reads them.

    Raises
    ------
    UserError
        If the file is missing or is not a CSV, or if its header has a used column twice.
    """
    require_regular_file(path, "a CSV of tracks")
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            separator = _find_separator(file, columns)
            _refuse_repeated(path, file, separator, columns)
            with warnings.catch_warnings():
                # pandas only warns of rows that are longer than the header.
                warnings.simplefilter("error", pd.errors.ParserWarning)
                table = pd.read_csv(file, sep=separator, index_col=False, skipinitialspace=True, low_memory=False)
    except UserError:
        raise
    except FileNotFoundError:
        raise UserError(f"tracks file not found: {path}; {missing}") from None
    except (pd.errors.EmptyDataError, pd.errors.ParserError, pd.errors.ParserWarning, UnicodeDecodeError) as error:
        raise UserError(f"{path} is not a CSV of tracks: {' '.join(str(error).split())}") from None
    except (OSError, ValueError, csv.Error) as error:
        raise UserError(f"cannot read {path}: {getattr(error, 'strerror', None) or error}") from None
    table.columns = [str(name).strip() for name in table.columns]
    return table if separator == "," else _with_decimal_points(table, columns)


def _find_separator(file: TextIO, columns: Sequence[str]) -> str:
    """Return the separator of a file that is open at its beginning, and move to its header."""
    first = file.readline(_LONGEST_HEADER)
    if match := _SEPARATOR_LINE.fullmatch(first):
        return match[1]
    file.seek(0)
    # A separator that is only part of a name gives fewer columns that are known.
    return max(_SEPARATORS, key=lambda separator: len(set(columns) & set(_names(first, separator))))


def _refuse_repeated(path: Path, file: TextIO, separator: str, columns: Sequence[str]) -> None:
    """Refuse a header with a column twice, of which pandas would rename one."""
    start = file.tell()
    names = _names(file.readline(_LONGEST_HEADER), separator)
    file.seek(start)
    for column in columns:
        if names.count(column) > 1:
            raise UserError(f"a column of tracks must occur once, {path} has {names.count(column)} columns {column!r}")


def _names(header: str, separator: str) -> list[str]:
    return [name.strip() for name in next(csv.reader([header], delimiter=separator, skipinitialspace=True), [])]


def _with_decimal_points(table: pd.DataFrame, columns: Sequence[str]) -> pd.DataFrame:
    """Return a table with points in place of decimal commas."""
    changed = {}
    for column in set(columns) & set(table.columns):
        values: Any = table[column]
        if not pd.api.types.is_numeric_dtype(values.dtype):
            text = values.astype(str)
            changed[column] = values.where(~text.str.fullmatch(_DECIMAL_COMMA), text.str.replace(",", "."))
    return table.assign(**changed)
