"""Results: `runs.csv`, a row a run, and `summary.csv`, a row for each arm and measure."""

from __future__ import annotations

import csv
import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

from viscy_train.atomic import atomic_write
from viscy_train.errors import UserError, require_regular_file
from viscy_train.run.step_csv import format_line
from viscy_train.study.measures import MEASURES

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

RUN_KEYS = ["world", "fold", "seed", "arm", "steps"]
RUN_COLUMNS = [*RUN_KEYS, *MEASURES]
SUMMARY_COLUMNS = ["world", "arm", "measure", "n", "missing", "mean", "difference", "low", "high", "p", "p_holm"]
SUMMARY_COLUMNS += ["verdict", "units_needed"]
_TEXT = ["world", "fold", "arm", "measure", "verdict"]
_WHOLE = ["seed", "steps", "n", "missing"]
_RUN, _SUMMARY_ROW = ["world", "fold", "seed", "arm"], ["world", "arm", "measure"]


def write_runs(path: Path, runs: pd.DataFrame) -> None:
    """Replace `runs.csv` in one step; equal numbers give equal bytes.

    Parameters
    ----------
    path : pathlib.Path
        The file.
    runs : pandas.DataFrame
        Columns `RUN_COLUMNS`. The order of rows is kept.
    """
    _write(path, runs, RUN_COLUMNS)


def read_runs(path: Path) -> pd.DataFrame:
    """Read `runs.csv`.

    Parameters
    ----------
    path : pathlib.Path
        The file. A last line without a line break, of a command that was killed, does not count.

    Returns
    -------
    pandas.DataFrame
        Columns `RUN_COLUMNS`. Measures that are not defined are NaN.

    Raises
    ------
    UserError
        If the file is damaged, or repeats a run.
    """
    return _read(path, RUN_COLUMNS, _RUN)


def append_run(path: Path, run: Mapping[str, Any]) -> None:
    """Append a run to `runs.csv`, after removing a line that a killed command did not finish.

    Parameters
    ----------
    path : pathlib.Path
        The file; created, with its header, if it does not exist.
    run : mapping of str to object
        Values of `RUN_COLUMNS`.
    """
    lines = _complete_lines(path) if path.exists() else []
    if not lines:
        write_runs(path, pd.DataFrame([run]))
        return
    line = format_line(_format(run[column], column) for column in RUN_COLUMNS).encode()
    with path.open("r+b") as file:
        file.seek(sum(map(len, lines)))
        file.truncate()
        file.write(line)


def write_summary(path: Path, summary: pd.DataFrame) -> None:
    """Replace `summary.csv` in one step; see `write_runs`.

    Parameters
    ----------
    path : pathlib.Path
        The file.
    summary : pandas.DataFrame
        Columns `SUMMARY_COLUMNS`.
    """
    _write(path, summary, SUMMARY_COLUMNS)


def read_summary(path: Path) -> pd.DataFrame:
    """Read `summary.csv`, as `read_runs` reads `runs.csv`."""
    return _read(path, SUMMARY_COLUMNS, _SUMMARY_ROW)


def _write(path: Path, table: pd.DataFrame, columns: Sequence[str]) -> None:
    rows = table[list(columns)].to_dict("records")
    with atomic_write(path) as unfinished, unfinished.open("w", newline="", encoding="utf-8") as file:
        file.write(format_line(columns))
        file.writelines(format_line(_format(row[column], str(column)) for column in columns) for row in rows)


def _format(value: Any, column: str) -> str:
    """Return a value as text that reads as the same value: the shortest one of a float, empty for NaN."""
    if column in _TEXT:
        return str(value)
    number = float(value)
    if math.isnan(number):
        return ""
    return str(int(number)) if column in (*_WHOLE, "units_needed") else repr(number)


def _complete_lines(path: Path) -> list[bytes]:
    with path.open("rb") as file:
        return [line for line in file if line.endswith(b"\n")]


def _read(path: Path, columns: list[str], key: list[str]) -> pd.DataFrame:
    require_regular_file(path, "results of a study")
    try:
        lines = b"".join(_complete_lines(path)).decode().splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"cannot read {path}: {error}") from error
    rows = list(csv.reader(lines))
    if not rows or rows[0] != columns:
        raise _damaged(path, f"its columns must be {', '.join(columns)}")
    for number, row in enumerate(rows[1:], start=2):
        if len(row) != len(columns):
            raise _damaged(path, f"line {number} must have {len(columns)} fields, got {len(row)}")
    table = pd.DataFrame(rows[1:], columns=columns)
    for column in columns:
        if column not in _TEXT:
            table[column] = [_number(path, column, text, line) for line, text in enumerate(table[column], start=2)]
    table = table.astype({column: "int64" for column in columns if column in _WHOLE})
    if table.duplicated(key).any():
        again = table.loc[table.duplicated(key).idxmax(), key]
        raise _damaged(path, f"it has {' '.join(map(str, again))} twice")
    return table


def _number(path: Path, column: str, text: str, line: int) -> float:
    try:
        number = float(text) if text or column in _WHOLE else math.nan
        if column not in _WHOLE or number.is_integer():
            return number
    except ValueError:
        pass
    kind = "a whole number" if column in _WHOLE else "a number"
    raise _damaged(path, f"{column} in line {line} must be {kind}, got {text!r}")


def _damaged(path: Path, reason: str) -> UserError:
    return UserError(f"{path} is damaged: {reason}; delete it, or choose another folder")
