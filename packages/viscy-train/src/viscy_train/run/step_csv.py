"""Step CSV: a CSV file that grows by rows of increasing steps and is cut at the step where a run resumes."""

from __future__ import annotations

import csv
import io
from typing import TYPE_CHECKING, Any, TextIO

import pandas as pd

from viscy_train.atomic import atomic_write
from viscy_train.errors import UserError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
    from pathlib import Path

# Longer than most lines: the last one is found without reading a file of gigabytes.
_TAIL = 2**18
# Of a step; more digits do not fit into 64 bits.
_MAX_DIGITS = 18


class StepCsv:
    """A CSV file with a row per step, or several, whose first column is ``step``.

    Parameters
    ----------
    path : pathlib.Path
        The file. It may be missing; its directory is created with it.
    columns : sequence of str, default ("step",)
        Columns of a new file, ``step`` first.
    rename : callable, optional
        Maps the columns of a file to the names they have now. An existing file gets the new names when a row is
        appended, and has them when it is read.

    Notes
    -----
    A row is on disk when `append` returns. A killed process may leave an incomplete last line: readers skip it, and
    writers remove it. All other changes replace the file atomically.
    """

    def __init__(
        self,
        path: Path,
        columns: Sequence[str] = ("step",),
        rename: Callable[[list[str]], list[str]] = list,
    ) -> None:
        self.path = path
        self._new_columns, self._rename = list(columns), rename
        self._columns: list[str] = []
        self._file: TextIO | None = None

    def columns(self) -> list[str] | None:
        """Return the columns of the file under their present names, or None if it has no complete header.

        Raises
        ------
        UserError
            If the first line is not a header.
        """
        header = self._header()
        if header is None:
            return None
        try:
            names = next(csv.reader([header.decode("utf-8")]), [])
        except (UnicodeDecodeError, csv.Error):
            names = []
        if names[:1] != ["step"] or len(set(names)) < len(names):
            raise self.damaged(f"its first line must name different columns, `step` first, got {header[:40]!r}")
        return self._rename(names)

    def damaged(self, reason: str) -> UserError:
        """Return an error that says why the file cannot be used."""
        return UserError(f"{self.path} is damaged: {reason}; restore it, or delete it")

    def lines(self) -> Iterator[str]:
        """Yield the complete lines after the header, each with its line ending."""
        if not self.path.is_file():
            return
        with self.path.open("rb") as file:
            for number, line in enumerate(file):
                if number and _step_of(line) is not None:
                    try:
                        yield line.decode("utf-8")
                    except UnicodeDecodeError:
                        raise self.damaged(f"line {number + 1} must be text in UTF-8") from None

    def read(self) -> pd.DataFrame:
        """Read the complete rows.

        Returns
        -------
        pandas.DataFrame
            A row for each line, with the columns of the file; empty, with the columns of a new file, if there is none.

        Raises
        ------
        UserError
            If the file is damaged.
        """
        columns = self.columns() or self._new_columns
        lines = list(self.lines())
        for line in lines:
            # Only a damaged line has a quote without its counterpart; it would swallow the lines that follow.
            fields = next(csv.reader([line]))
            if len(fields) != len(columns) or line.count('"') % 2:
                raise self.damaged(f"a line must have {len(columns)} values, got {line[:40]!r}")
        return pd.read_csv(io.StringIO("".join(lines)), names=columns, header=None, index_col=False)

    def read_numbers(self, text: Sequence[str] = ()) -> pd.DataFrame:
        """Read the complete rows as `read` does, and check that all columns are numbers, except those given by name."""
        table = self.read()
        for column in table.columns.difference(list(text)):
            try:
                table[column] = pd.to_numeric(table[column])
            except (ValueError, TypeError) as error:
                raise self.damaged(f"column {column!r} must be numbers ({error})") from error
        return table

    def last_step(self) -> int | None:
        """Return the step of the last complete line, or None if there is none."""
        if not self.path.is_file():
            return None
        size, tail = self.path.stat().st_size, _TAIL
        with self.path.open("rb") as file:
            while True:
                file.seek(max(size - tail, 0))
                # A tail that starts within the file may start within a line.
                lines = file.read().splitlines(keepends=True)[tail < size :]
                steps = [step for line in lines[::-1] if (step := _step_of(line)) is not None]
                if steps or tail >= size:
                    return steps[0] if steps else None
                tail *= 2

    def append(self, row: Mapping[str, Any]) -> None:
        """Append a row and flush it to the file.

        Parameters
        ----------
        row : mapping of str to object
            Values by column. Columns that the file lacks are added to it; columns that the row lacks stay empty.
        """
        file = self._open()
        if new := [name for name in row if name not in self._columns]:
            self._columns = [*self._columns, *new]
            self._replace(self._columns, (line.rstrip("\r\n") + "," * len(new) + "\n" for line in self.lines()))
            file = self._open()
        file.write(format_line(row.get(name, "") for name in self._columns))
        file.flush()

    def cut(self, step: int, repeated: str | None = None) -> None:
        """Remove all rows from a step on and an incomplete last line; remove the file if its header is incomplete.

        Parameters
        ----------
        step : int
            First step to remove.
        repeated : str, optional
            Prefix of columns. Rows of the step before with a value in one of these columns are removed as well.
        """
        columns = self.columns()
        if columns is None:
            self.close()
            self.path.unlink(missing_ok=True)
            return
        again = [number for number, name in enumerate(columns) if repeated and name.startswith(repeated)]
        self._replace(columns, (line for line in self.lines() if not _is_cut(line, step, again)))

    def rewrite(self, lines: Iterable[str]) -> None:
        """Replace all rows.

        Parameters
        ----------
        lines : iterable of str
            Complete lines, as `lines` yields and `format_line` returns them.
        """
        self._replace(self.columns() or self._new_columns, lines)

    def close(self) -> None:
        """Close the file; the next `append` opens it again."""
        if self._file is not None:
            self._file.close()
            self._file = None

    def _open(self) -> TextIO:
        if self._file is None:
            columns = self.columns()
            if columns is None or format_line(columns).encode() != self._header() or not self._ends_with_newline():
                self._replace(columns or self._new_columns, self.lines())
            self._columns = columns or self._new_columns
            self._file = self.path.open("a", newline="", encoding="utf-8")
        return self._file

    def _replace(self, columns: list[str], lines: Iterable[str]) -> None:
        self.close()
        with atomic_write(self.path) as unfinished, unfinished.open("w", newline="", encoding="utf-8") as file:
            file.write(format_line(columns))
            file.writelines(lines)

    def _header(self) -> bytes | None:
        """Return the first line, or None if it is missing or incomplete."""
        if not self.path.is_file():
            return None
        with self.path.open("rb") as file:
            line = file.readline(_TAIL)
        return line if line.endswith(b"\n") or len(line) == _TAIL else None

    def _ends_with_newline(self) -> bool:
        with self.path.open("rb") as file:
            file.seek(-1, io.SEEK_END)
            return file.read() == b"\n"


def format_line(fields: Iterable[Any]) -> str:
    """Return fields as a line of a CSV file; line breaks within a field become spaces."""
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerow([" ".join(str(field).splitlines()) for field in fields])
    return text.getvalue()


def _step_of(line: bytes) -> int | None:
    """Return the step at the start of a line, or None if the line is incomplete."""
    step, comma, _ = line.partition(b",")
    is_step = step.isdigit() and len(step) <= _MAX_DIGITS
    return int(step) if comma and line.endswith(b"\n") and is_step else None


def _is_cut(line: str, step: int, again: list[int]) -> bool:
    fields = next(csv.reader([line]))
    return int(fields[0]) >= step or (int(fields[0]) == step - 1 and any(fields[number] for number in again))
