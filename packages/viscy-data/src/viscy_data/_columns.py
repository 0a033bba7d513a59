"""Columns as codes: which distinct value, in ascending order of value, each row of a table has."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from viscy_data._sorting import taken

if TYPE_CHECKING:
    from numpy.typing import NDArray

_SHOWN = 5
_SWITCH = {"experiment": "experiment_aware", "condition": "condition_balanced", "time": "temporal_enrichment"}


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
        For times: hours by which values may differ and count as equal.
    """

    labels: Sequence[Any] | NDArray[np.float64]
    codes: NDArray[np.unsignedinteger]
    tolerance: float = 0.0


def constant_codes(n_rows: int) -> Codes:
    """Return the codes of an axis that is off: every row has the one label None."""
    return Codes((None,), np.broadcast_to(np.zeros(1, np.uint8), (n_rows,)))


def label_codes(table: pd.DataFrame, axis: str, by: str | tuple[str, ...]) -> Codes:
    """Return the codes of one column, or of the combinations of several that occur (whose labels are tuples)."""
    if isinstance(by, str):
        return _labels(_column(table, axis, by), axis, by)
    parts = [_labels(_column(table, axis, name), axis, name) for name in by]
    joint = np.zeros(len(table), np.int64)
    for part in parts:
        joint = joint * len(part.labels) + part.codes
    codes, present = pd.factorize(joint)
    order = np.argsort(present)
    indices = np.unravel_index(present[order], [len(part.labels) for part in parts])
    columns = [[part.labels[i] for i in index] for part, index in zip(parts, indices, strict=True)]
    return Codes(tuple(zip(*columns, strict=True)), taken(_ranks(order), codes))


def time_codes(table: pd.DataFrame, by: str) -> Codes:
    """Return the codes of a column of times in hours.

    Equal steps of time are not equal as floating-point numbers (2.1 - 0.1 is not 2.0), so times compare equal within
    four units in the last place of the largest one, in the column's own type.
    """
    column = _column(table, "time", by)
    if not pd.api.types.is_numeric_dtype(column.dtype) or pd.api.types.is_bool_dtype(column.dtype):
        raise TypeError(
            f"the time column {by!r} must hold numbers (hours post infection), got dtype {column.dtype}; convert it, "
            "e.g. a timedelta with .dt.total_seconds() / 3600"
        )
    codes, uniques = _factorize(column, "time", by)
    times = np.asarray(uniques, np.float64)
    if not np.isfinite(times).all():
        infinite = np.flatnonzero(np.isin(codes, np.flatnonzero(~np.isfinite(times))))
        raise ValueError(
            f"times must be finite, got {infinite.size} infinite values in column {by!r}, {_first(infinite)}; drop or "
            "mend those rows"
        )
    order = np.argsort(times)
    largest = np.abs(times).max()
    return Codes(
        times[order], taken(_ranks(order), codes), tolerance=4 * float(np.spacing(largest.astype(_float_type(column))))
    )


def _float_type(column: pd.Series) -> np.dtype:
    """Return the type in which a column's times were rounded; nullable and Arrow-backed columns wrap it."""
    dtype: Any = getattr(column.dtype, "numpy_dtype", column.dtype)
    return dtype if dtype.kind == "f" else np.dtype(np.float64)


def _labels(column: pd.Series, axis: str, name: str) -> Codes:
    codes, uniques = _factorize(column, axis, name)
    labels = [value.item() if isinstance(value, np.generic) else value for value in uniques]
    order = sorted(range(len(labels)), key=lambda i: (type(labels[i]).__name__, labels[i]))
    return Codes(tuple(labels[i] for i in order), taken(_ranks(np.array(order)), codes))


def _factorize(column: pd.Series, axis: str, name: str) -> tuple[NDArray[np.integer], Any]:
    """Return a code for each row, and the values that codes stand for, of which a categorical may not use all."""
    if isinstance(column.dtype, pd.CategoricalDtype):
        codes, uniques = column.cat.codes.to_numpy(), column.cat.categories
    else:
        codes, uniques = pd.factorize(column)
    if codes.min() < 0:
        missing = np.flatnonzero(codes < 0)
        raise ValueError(
            f"column {name!r} must have no missing values ({_SWITCH[axis]}=True uses it), got {len(missing)} of "
            f"{len(column)}, {_first(missing)}; drop those anchors or fill the values in"
        )
    used = np.sort(pd.unique(codes))
    if len(used) < len(uniques):
        place = np.zeros(len(uniques), codes.dtype)
        place[used] = np.arange(len(used))
        codes, uniques = taken(place, codes), uniques[used]
    return codes, uniques


def _ranks(order: NDArray[np.intp]) -> NDArray[np.unsignedinteger]:
    """Invert a sorting order: the rank of each entry, in the narrowest type."""
    n = len(order)
    ranks = np.empty(n, np.uint8 if n <= 2**8 else np.uint16 if n <= 2**16 else np.uint32)
    ranks[order] = np.arange(n)
    return ranks


def _column(table: pd.DataFrame, axis: str, name: str) -> pd.Series:
    count = list(table.columns).count(name)
    if count != 1:
        problem = "lacks it" if count == 0 else f"has it {count} times"
        raise ValueError(
            f"{_SWITCH[axis]}=True needs exactly one column {name!r}, the table {problem}; its columns are "
            f"{list(table.columns)}: rename one, name another with {axis}_by, or set {_SWITCH[axis]}=False"
        )
    return table[name]


def _first(rows: NDArray[np.intp] | Sequence[int]) -> str:
    shown = ", ".join(map(str, rows[:_SHOWN]))
    return f"first at position{'s' if len(rows) > 1 else ''} {shown}"
