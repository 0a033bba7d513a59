"""CSV table: a table of tracks as text, separated by commas, or by semicolons, tabs or spaces."""

from __future__ import annotations

import csv
import re
import warnings
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TextIO

import pandas as pd

from viscy_train.errors import UserError, one_line

if TYPE_CHECKING:
    from collections.abc import Collection, Generator, Sequence
    from pathlib import Path

_SEPARATORS = (",", ";", "\t", " ")
# Spreadsheet programs put this line before the header.
_SEPARATOR_LINE = re.compile(r'"?sep=(.)"?\s*')
_DECIMAL_COMMA = r"[-+]?\d*,\d+(?:[eE][-+]?\d+)?"
_NUMBER = re.compile(r"[-+]?(\d+\.?\d*|\.\d+)([eE][-+]?\d+)?")
_LONGEST_HEADER = 2**20


@dataclass(frozen=True, kw_only=True)
class CsvLayout:
    """How a table is written.

    Parameters
    ----------
    separator : str
        What separates the columns.
    names : list of str
        Names of the columns, or the values of the first row if there is no header.
    start : int
        Where the first line of the table begins in the file, as `io.TextIOBase.seek` takes it.
    """

    separator: str
    names: list[str]
    start: int

    @property
    def has_header(self) -> bool:
        """Whether the first line has names, not numbers."""
        return not self.names or not all(_NUMBER.fullmatch(name) for name in self.names)


def csv_layout(path: Path, columns: Collection[str]) -> CsvLayout:
    """Return how a table is written.

    Parameters
    ----------
    path : pathlib.Path
        The file. Bytes that are not UTF-8 are accepted.
    columns : collection of str
        Names that a header may have: the separator that gives the most of them is taken, or, if none does, the one that
        gives the most columns.
    """
    with _reported(path), open_text(path, errors="replace") as file:
        start, first = 0, file.readline(_LONGEST_HEADER)
        if match := _SEPARATOR_LINE.fullmatch(first):
            start = file.tell()
            return CsvLayout(separator=match[1], names=_split(file.readline(_LONGEST_HEADER), match[1]), start=start)
        # A separator that is only part of a name gives fewer columns that are known.
        by_separator = {separator: _split(first, separator) for separator in _SEPARATORS}
        separator = max(_SEPARATORS, key=lambda one: _rank(by_separator[one], columns))
        return CsvLayout(separator=separator, names=by_separator[separator], start=start)


def read_csv(
    path: Path, layout: CsvLayout, columns: Sequence[str], *, skipped_rows: int = 0, encoding: str = "utf-8-sig"
) -> pd.DataFrame:
    """Read a CSV of tracks.

    Parameters
    ----------
    path : pathlib.Path
        Text in UTF-8. If it is not separated by commas, numbers may have a decimal comma.
    layout : CsvLayout
        How it is written. Without a header, columns are named by their numbers.
    columns : sequence of str
        Columns that are used. Others may have any content.
    skipped_rows : int, default 0
        Number of rows below the header that are not part of the table.
    encoding : str, default "utf-8-sig"
        Encoding of the text.

    Returns
    -------
    pandas.DataFrame
        All columns, as pandas reads them.

    Raises
    ------
    UserError
        If the file is not a CSV, or if its header has a used column twice.
    """
    for column in columns:
        if (n := layout.names.count(column)) > 1:
            raise UserError(f"a column of tracks must occur once, {path} has {n} columns {column!r}")
    with _reported(path), open_text(path, encoding=encoding) as file, warnings.catch_warnings():
        file.seek(layout.start)
        # pandas only warns of rows that are longer than the header.
        warnings.simplefilter("error", pd.errors.ParserWarning)
        table = pd.read_csv(
            file,
            sep=layout.separator,
            header=0 if layout.has_header else None,
            skiprows=list(range(1, 1 + skipped_rows)),
            index_col=False,
            skipinitialspace=True,
            low_memory=False,
        )
    table.columns = [str(name).strip() for name in table.columns]
    return table if layout.separator == "," else _with_decimal_points(table, columns)


def first_rows(path: Path, layout: CsvLayout, n: int) -> list[list[str]]:
    """Return the values of the first rows below the header."""
    with _reported(path), open_text(path, encoding=header_encoding(path, n + 1), errors="replace") as file:
        file.seek(layout.start)
        lines = [file.readline(_LONGEST_HEADER) for _ in range(n + 1)]
    return [_split(line, layout.separator) for line in lines[1:] if line]


def header_encoding(path: Path, n: int) -> str:
    """Return the encoding of the first lines: some programs write the micro sign as the computer does, not in UTF-8."""
    with _reported(path), path.open("rb") as file:
        lines = b"".join(file.readline(_LONGEST_HEADER) for _ in range(n))
    try:
        lines.decode("utf-8")
    except UnicodeDecodeError:
        return "latin-1"
    return "utf-8-sig"


def open_text(path: Path, encoding: str = "utf-8-sig", errors: str = "strict") -> TextIO:
    """Open a text file; one in UTF-16, which begins with a byte order mark, is recognized."""
    with path.open("rb") as file:
        if file.read(2) in (b"\xff\xfe", b"\xfe\xff"):
            encoding = "utf-16"
    return path.open(encoding=encoding, errors=errors, newline="")


@contextmanager
def _reported(path: Path) -> Generator[None]:
    """Report what makes a file unreadable."""
    try:
        yield
    except (pd.errors.EmptyDataError, pd.errors.ParserError, pd.errors.ParserWarning, UnicodeError) as error:
        reason = one_line(error).removeprefix("Error tokenizing data. C error: ").rstrip(".")
        raise UserError(
            f"{path} is not a CSV of tracks: {reason}; write it again as text in UTF-8 with as many values in each row "
            "as in the header"
        ) from None
    except (OSError, ValueError, csv.Error) as error:
        raise UserError(f"cannot read {path}: {getattr(error, 'strerror', None) or error}") from None


def _split(header: str, separator: str) -> list[str]:
    return [name.strip() for name in next(csv.reader([header], delimiter=separator, skipinitialspace=True), [])]


def _rank(names: list[str], columns: Collection[str]) -> tuple[int, int]:
    n_numbers = sum(bool(_NUMBER.fullmatch(name)) for name in names)
    n_known = len({name.casefold() for name in columns} & {name.casefold() for name in names})
    return n_known, n_numbers if n_numbers == len(names) else 0


def _with_decimal_points(table: pd.DataFrame, columns: Sequence[str]) -> pd.DataFrame:
    """Return a table with points in place of decimal commas."""
    changed = {}
    for column in set(columns) & set(table.columns):
        values: Any = table[column]
        if not pd.api.types.is_numeric_dtype(values.dtype):
            text = values.astype(str)
            changed[column] = values.where(~text.str.fullmatch(_DECIMAL_COMMA), text.str.replace(",", "."))
    return table.assign(**changed)
