"""Annotation files: CSV and Parquet tables with unique names of columns."""

from __future__ import annotations

import csv
import re
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from viscy_train.config.checks import require_name
from viscy_train.errors import UserError, one_line, require_regular_file
from viscy_train.experiments.written_values import MISSING, without_spaces, written_values

if TYPE_CHECKING:
    from pathlib import Path

_SEPARATORS = ",;\t"
# Spreadsheet programs put this line before the header.
_SEPARATOR_LINE = re.compile(r'"?sep=(.)"?\s*')


def read_annotations(path: Path) -> pd.DataFrame:
    """Read a table of annotations.

    Parameters
    ----------
    path : pathlib.Path
        Parquet file, or CSV file whose columns are separated by commas, semicolons or tabs.

    Returns
    -------
    pandas.DataFrame
        The table.

    Raises
    ------
    UserError
        If the file does not exist, is neither, has no rows, or has two columns of a name.
    """
    require_annotations(path)
    try:
        table = _read_parquet(path) if _is_parquet(path) else _read_csv(path)
    except UserError:
        raise
    except UnicodeDecodeError as error:
        reason = _remedy(path, error)
        raise UserError(f"annotations must be a CSV or Parquet file, cannot read {path}: {reason}") from error
    except (OSError, ValueError, csv.Error, pa.ArrowException) as error:
        reason = one_line(error)
        raise UserError(f"annotations must be a CSV or Parquet file, cannot read {path}: {reason}") from error
    names = table.columns.tolist()
    if not len(table):
        raise UserError(
            f"annotations must have rows, {path} has only {', '.join(map(str, names))}; fill it in, or remove it from "
            "`annotations`"
        )
    if str(names[0]).strip() == "":
        raise UserError(
            f"the first column of annotations must have a name, in {path} it has none; if pandas wrote it, write it "
            "with index=False"
        )
    for name in names:
        require_name(f"a column of {path}", name)
        if names.count(name) > 1:
            raise UserError(f"columns of annotations must have different names, {path} has {name!r} twice")
    return table.assign(**{name: without_spaces(table[name]) for name in names})


def require_annotations(path: Path) -> None:
    """Refuse a path that is not a file."""
    require_regular_file(path, "annotations")
    if not path.is_file():
        raise UserError(f"annotations not found: {path}; correct `annotations` of its experiment")


def _is_parquet(path: Path) -> bool:
    with path.open("rb") as file:
        return file.read(4) == b"PAR1"


def _read_parquet(path: Path) -> pd.DataFrame:
    table = pq.read_table(path, partitioning=None)
    # The metadata of pandas may turn columns into an index.
    return table.replace_schema_metadata(None).to_pandas(integer_object_nulls=True)


def _remedy(path: Path, error: UnicodeDecodeError) -> str:
    """Return why a file is not text, and what to save it as."""
    with path.open("rb") as file:
        if file.read(2) == b"PK":
            return "it is a spreadsheet or another archive; save its table as CSV in UTF-8"
    return f"its text is not in UTF-8 ({error}); save it as UTF-8, which spreadsheet programs call CSV UTF-8"


def where_of_row(path: Path, row: int) -> str:
    """Return where a table has a row, counted from 0: ``line 3 of FILE``, or ``row 2 of FILE`` if it has no lines."""
    if _is_parquet(path):
        return f"row {row + 1} of {path}"
    outline = _outline(path)
    with path.open(encoding="utf-8-sig", newline="") as file:
        for _ in range(outline.n_skipped):
            file.readline()
        lines, last = csv.reader(file, delimiter=outline.separator), 0
        starts = []
        for values in lines:
            if len(values) > 1 or "".join(values).strip():  # pandas leaves out empty lines
                starts.append(last + 1)
            last = lines.line_num
    return f"line {starts[row + 1] + outline.n_skipped} of {path}"


class _Outline(NamedTuple):
    """The line with the names of the columns, what separates them, and the number of lines before it."""

    header: str
    separator: str
    n_skipped: int


def _outline(path: Path) -> _Outline:
    with path.open(encoding="utf-8-sig", newline="") as file:
        header = file.readline()
        if stated := _SEPARATOR_LINE.fullmatch(header):
            header = file.readline()
    separator = stated[1] if stated else max(_SEPARATORS, key=header.count)
    return _Outline(header, separator, 1 if stated else 0)


def _read_csv(path: Path) -> pd.DataFrame:
    header, separator, n_skipped = _outline(path)
    if not header.strip():
        raise UserError(f"annotations must begin with the names of their columns, {path} begins with an empty line")
    parse = partial(_parse_csv, path, separator, skiprows=n_skipped)
    table = parse()
    if not isinstance(table.index, pd.RangeIndex):  # pandas takes the values beyond the header for an index
        raise UserError(f"rows of annotations must have as many values as the header, {path} has more in each row")
    table = written_values(table, path, parse, has_decimal_commas=separator != ",")
    names = next(csv.reader([header], delimiter=separator))
    # pandas renames the second of two columns of a name.
    return table.set_axis([name.strip() for name in names], axis=1)


def _parse_csv(path: Path, separator: str, **options: Any) -> Any:
    return pd.read_csv(
        path,
        sep=separator,
        encoding="utf-8-sig",
        keep_default_na=False,
        na_values=MISSING,
        skipinitialspace=True,
        low_memory=False,
        **options,
    )
