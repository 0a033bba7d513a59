"""Row slices: the rows of a large table, some at a time, so that what follows from all of them takes little memory."""

from __future__ import annotations

import mmap
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

ROWS_PER_SLICE = 2**18


def row_slices(n: int, *mapped: NDArray[Any]) -> Iterator[slice]:
    """Yield the slices that cut n rows into parts of `ROWS_PER_SLICE`; the last part may be shorter.

    Parameters
    ----------
    n : int
        Number of rows.
    *mapped : numpy.ndarray
        Arrays whose pages this process gives back after each part, see `release`.
    """
    for start in range(0, n, ROWS_PER_SLICE):
        yield slice(start, min(start + ROWS_PER_SLICE, n))
        release(*mapped)


def release(*arrays: NDArray[Any]) -> None:
    """Give back the memory of arrays that are mapped from files; what is read again is mapped again.

    The system keeps it for the next process that needs it, but it does not count as memory of this one any more.
    Arrays in memory stay as they are.
    """
    for array in arrays:
        base: Any = array
        while isinstance(base, np.ndarray):
            base = base.base
        if isinstance(base, mmap.mmap) and hasattr(base, "madvise"):
            base.madvise(mmap.MADV_DONTNEED)


def mapped_arrays(columns: pd.DataFrame) -> list[NDArray[Any]]:
    """Return the arrays that have the values, or the codes, of columns."""
    return [_array_of(columns[name]) for name in columns]


def _array_of(column: Any) -> NDArray[Any]:
    return column.array.codes if isinstance(column.dtype, pd.CategoricalDtype) else column.to_numpy()


def distinct_values(column: pd.Series, rows: NDArray[Any] | None = None) -> list[Any]:
    """Return the distinct values of a column, or of some of its rows, in the order in which they first appear."""
    found: dict[Any, None] = {}
    for part in row_slices(len(column) if rows is None else len(rows), _array_of(column)):
        found |= dict.fromkeys(column.iloc[part if rows is None else rows[part]].unique())
    return list(found)


def as_category(column: pd.Series) -> Any:
    """Return a column as a categorical one; one that is categorical is not copied, as pandas would do."""
    return column if isinstance(column.dtype, pd.CategoricalDtype) else column.astype("category")


def has_missing(column: pd.Series) -> bool:
    """Return whether a value of a column is missing."""
    return any(bool(column.iloc[rows].isna().any()) for rows in row_slices(len(column), _array_of(column)))


def run_starts(columns: pd.DataFrame) -> NDArray[np.int64]:
    """Return the rows in which a column differs from the row before, and the first, ascending."""
    codes = [_codes_of(columns[name]) for name in columns]
    found = [np.empty(0, np.int64)]
    for rows in row_slices(len(columns), *codes):
        starts = np.zeros(rows.stop - rows.start, dtype=bool)
        starts[0] = rows.start == 0
        for one in codes:
            before = np.concatenate([one[max(rows.start - 1, 0) : rows.start + 1][:1], one[rows][:-1]])
            starts |= one[rows] != before
        found.append(rows.start + np.flatnonzero(starts))
    return np.concatenate(found)


def _codes_of(column: Any) -> NDArray[Any]:
    """Return numbers that differ where the values of a column do; they are copies of neither codes nor numbers."""
    if column.dtype.kind in "iub":
        return column.to_numpy()
    return as_category(column).array.codes
