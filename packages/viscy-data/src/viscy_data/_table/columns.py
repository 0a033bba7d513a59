"""The codes of a column: for each row of a table, the rank of its value among the distinct values."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import reduce
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import pandas as pd

from viscy_data._table.radix_sort import chunk_slices, take_chunked
from viscy_data._table.tables import CHUNK

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from viscy_data._table.tables import Table

_SHOWN = 5
# What uses the columns of an axis, the option that names them, and what switches it off.
_USE = {
    "experiment": ("experiment_aware=True", "experiment_by", "experiment_aware=False"),
    "condition": ("condition_balanced=True", "condition_by", "condition_balanced=False"),
    "time": ("temporal_enrichment=True", "time_by", "temporal_enrichment=False"),
    "time of runs": ("locality", "time_by", "locality=1"),
    "distinct": ("distinct_by", "distinct_by", "distinct_by=None"),
    "place": ("place_by", "place_by", "place_by=None"),
}


@dataclass(frozen=True, slots=True, eq=False)
class Codes:
    """One axis of a table.

    Attributes
    ----------
    labels
        The distinct values, ascending: Python objects, or an array of times in hours.
    codes
        For each row the index of its value in `labels`, shape (n_rows,), an unsigned integer type.
    tolerance
        For times: relative difference up to which values count as equal.
    """

    labels: Sequence[Any] | NDArray[np.float64]
    codes: NDArray[np.unsignedinteger]
    tolerance: float = 0.0


class _Factorized(NamedTuple):
    """A column whose chunks were factorized separately."""

    codes: NDArray[np.uint32]
    """For each row, the number of its value."""
    values: list[pd.Series]
    """The numbered values: those that occur in each chunk, one chunk after the other, so values may repeat."""
    dtypes: set[Any]
    """The dtypes of the chunks."""


def constant_codes(n_rows: int) -> Codes:
    """Return the codes of an axis that is off: every row has the one label None."""
    return Codes((None,), np.broadcast_to(np.zeros(1, np.uint8), (n_rows,)))


def label_codes(table: Table, axis: str, by: str | tuple[str, ...]) -> Codes:
    """Return the codes of one column, or of the combinations of several that occur (whose labels are tuples)."""
    if isinstance(by, str):
        return _labels(table, axis, by)
    parts = [_labels(table, axis, name) for name in by]
    first = Codes([(label,) for label in parts[0].labels], parts[0].codes)
    return reduce(_combine, parts[1:], first)


def time_codes(table: Table, by: str, axis: str = "time") -> Codes:
    """Return the codes of a column of times in hours.

    Equal steps of time are not equal as floating-point numbers (2.1 - 0.1 is not 2.0), so times compare equal within
    four units in the last place, in the column's own type.
    """
    column, value_code, times = _factorize_times(table, by, axis)
    order = np.argsort(times)
    rounding = max(float(np.finfo(_float_type(dtype)).eps) for dtype in column.dtypes)
    return Codes(times[order], take_chunked(_ranks(order)[value_code], column.codes), tolerance=4 * rounding)


def check_times(table: Table, by: str) -> None:
    """Raise TypeError or ValueError unless a column holds times that `time_codes` accepts."""
    _factorize_times(table, by, "time")


def _factorize_times(table: Table, by: str, axis: str) -> tuple[_Factorized, NDArray[np.intp], NDArray[np.float64]]:
    """Return a factorized column of times, the codes of its values among the distinct times, and the distinct times."""
    column = _factorize(_numbers(table, by, axis), table.n_rows, axis, by)
    hours = np.concatenate([np.asarray(part, np.float64) for part in column.values])
    value_code, times = pd.factorize(hours, use_na_sentinel=False)
    if np.isnan(times).any():
        raise _missing_error(np.flatnonzero(np.isnan(times)[value_code][column.codes]), table.n_rows, axis, by)
    if not np.isfinite(times).all():
        infinite = np.flatnonzero(~np.isfinite(times)[value_code][column.codes])
        raise ValueError(
            f"times must be finite, got {infinite.size} infinite values in column {by!r}, "
            f"{_first_positions(infinite)}; drop or correct those rows"
        )
    return column, value_code, np.asarray(times)


def _numbers(table: Table, by: str, axis: str) -> Iterator[pd.Series]:
    """Yield the chunks of a column of times; TypeError unless they are numbers."""
    for chunk in _column(table, axis, by):
        if chunk.dtype.kind not in "iuf":
            raise TypeError(
                f"the time column {by!r} must hold numbers (hours post infection), got dtype {chunk.dtype}; convert "
                "it, e.g. a timedelta with .dt.total_seconds() / 3600"
            )
        yield chunk


def _float_type(dtype: Any) -> np.dtype:
    """Return the type to which times were rounded; nullable, Arrow-backed and sparse dtypes wrap it."""
    dtype = getattr(dtype, "numpy_dtype", getattr(dtype, "subtype", dtype))
    return dtype if dtype.kind == "f" else np.dtype(np.float64)


def _labels(table: Table, axis: str, name: str) -> Codes:
    codes, values, _ = _factorize(_column(table, axis, name), table.n_rows, axis, name)
    value_code, uniques = pd.factorize(pd.concat(values, ignore_index=True), use_na_sentinel=False)
    labels = [value.item() if isinstance(value, np.generic) else value for value in uniques]
    # an Arrow column may contain NaN as a value that pandas does not consider missing
    if nan := [code for code, label in enumerate(labels) if isinstance(label, float) and label != label]:
        raise _missing_error(np.flatnonzero(np.isin(value_code, nan)[codes]), table.n_rows, axis, name)
    try:
        order = sorted(range(len(labels)), key=lambda i: (type(labels[i]).__name__, labels[i]))
    except TypeError as error:
        raise _label_error(uniques.dtype, name) from error
    return Codes(tuple(labels[i] for i in order), take_chunked(_ranks(np.array(order))[value_code], codes))


def _factorize(chunks: Iterable[pd.Series], n_rows: int, axis: str, name: str) -> _Factorized:
    codes = np.empty(n_rows, np.uint32)
    values: list[pd.Series] = []
    dtypes: set[Any] = set()
    missing: list[NDArray[np.intp]] = []
    row = n_values = 0
    for chunk in chunks:
        chunk_codes, uniques = _factorize_chunk(chunk, name)
        stop = row + len(chunk_codes)
        if chunk_codes.min() < 0:
            missing.append(row + np.flatnonzero(chunk_codes < 0))
        np.add(chunk_codes, n_values, out=codes[row:stop], dtype=np.int64, casting="unsafe")
        values.append(pd.Series(uniques))
        dtypes.add(chunk.dtype)
        row = stop
        n_values += len(uniques)
    if missing:
        raise _missing_error(np.concatenate(missing), n_rows, axis, name)
    return _Factorized(codes, values, dtypes)


def _factorize_chunk(chunk: pd.Series, name: str) -> tuple[NDArray[np.integer], Any]:
    """Return a code for each row, -1 if it is missing, and the coded values, all of which occur."""
    if not isinstance(chunk.dtype, pd.CategoricalDtype):
        try:
            return pd.factorize(chunk)
        except (TypeError, NotImplementedError) as error:
            raise _label_error(chunk.dtype, name) from error
    codes, categories = chunk.cat.codes.to_numpy(), chunk.cat.categories
    occurs = np.bincount(codes.astype(np.intp) + 1, minlength=len(categories) + 1)[1:] > 0
    if occurs.all():
        return codes, categories
    new_code = np.append(np.cumsum(occurs) - 1, -1)  # the last entry is for -1, the code of a missing value
    return new_code[codes], categories[occurs]


def _combine(first: Codes, second: Codes) -> Codes:
    """Return the codes of the pairs that occur; their labels are the tuples of the first plus a label of the second."""
    n, n_rows = len(second.labels), len(first.codes)
    pairs = (
        pd.Series(first.codes[part].astype(np.int64) * n + second.codes[part]) for part in chunk_slices(n_rows, CHUNK)
    )
    codes, values, _ = _factorize(pairs, n_rows, "", "")  # no pair is missing
    value_code, present = pd.factorize(pd.concat(values, ignore_index=True))
    order = np.argsort(present)
    occurring = zip(*np.divmod(present[order], n), strict=True)
    return Codes(
        tuple((*first.labels[i], second.labels[j]) for i, j in occurring),
        take_chunked(_ranks(order)[value_code], codes),
    )


def _missing_error(rows: NDArray[np.intp], n_rows: int, axis: str, name: str) -> ValueError:
    return ValueError(
        f"column {name!r} must have no missing values ({_USE[axis][0]} uses it), got {len(rows)} of "
        f"{n_rows}, {_first_positions(rows)}; drop those anchors or fill in the values"
    )


def _label_error(dtype: Any, name: str) -> TypeError:
    return TypeError(
        f"column {name!r} must hold text, numbers, booleans, dates or tuples of those, which can be compared and "
        f"sorted, got dtype {dtype}; convert it, e.g. with .astype(str)"
    )


def _ranks(order: NDArray[np.intp]) -> NDArray[np.unsignedinteger]:
    """Return the rank of each entry, given the order that sorts them, in the narrowest type."""
    n = len(order)
    ranks = np.empty(n, np.uint8 if n <= 2**8 else np.uint16 if n <= 2**16 else np.uint32)
    ranks[order] = np.arange(n)
    return ranks


def _column(table: Table, axis: str, name: str) -> Iterator[pd.Series]:
    count = sum(isinstance(column, str) and column == name for column in table.names)
    if count != 1:
        problem = "lacks it" if count == 0 else f"has it {count} times"
        raise ValueError(
            f"{_USE[axis][0]} needs exactly one column {name!r}, but the table {problem}; its columns are "
            f"{table.names}: rename one, name another column with {_USE[axis][1]}, or set {_USE[axis][2]}"
        )
    return table.column(name)


def _first_positions(rows: NDArray[np.intp] | Sequence[int]) -> str:
    shown = ", ".join(map(str, rows[:_SHOWN]))
    return f"first at position{'s' if len(rows) > 1 else ''} {shown}"
