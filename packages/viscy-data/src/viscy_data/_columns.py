"""Columns as codes: which distinct value, in ascending order of value, each row of a table has."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import reduce
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
        For times: fraction of them by which values may differ and count as equal.
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
    first = Codes([(label,) for label in parts[0].labels], parts[0].codes)
    return reduce(_combined, parts[1:], first)


def time_codes(table: pd.DataFrame, by: str) -> Codes:
    """Return the codes of a column of times in hours.

    Equal steps of time are not equal as floating-point numbers (2.1 - 0.1 is not 2.0), so times compare equal within
    four units in the last place, in the column's own type.
    """
    column = _column(table, "time", by)
    types = pd.api.types
    if not types.is_any_real_numeric_dtype(column.dtype):
        raise TypeError(
            f"the time column {by!r} must hold numbers (hours post infection), got dtype {column.dtype}; convert it, "
            "e.g. a timedelta with .dt.total_seconds() / 3600"
        )
    codes, uniques = _factorize(column, "time", by)
    times = np.asarray(uniques, np.float64)
    if np.isnan(times).any():
        raise _missing(np.isin(codes, np.flatnonzero(np.isnan(times))), "time", by)
    if not np.isfinite(times).all():
        infinite = np.flatnonzero(np.isin(codes, np.flatnonzero(~np.isfinite(times))))
        raise ValueError(
            f"times must be finite, got {infinite.size} infinite values in column {by!r}, {_first(infinite)}; drop or "
            "mend those rows"
        )
    order = np.argsort(times)
    return Codes(times[order], taken(_ranks(order), codes), tolerance=4 * float(np.finfo(_float_type(column)).eps))


def _float_type(column: pd.Series) -> np.dtype:
    """Return the type in which a column's times were rounded; nullable, Arrow-backed and sparse columns wrap it."""
    dtype: Any = getattr(column.dtype, "numpy_dtype", getattr(column.dtype, "subtype", column.dtype))
    return dtype if dtype.kind == "f" else np.dtype(np.float64)


def _labels(column: pd.Series, axis: str, name: str) -> Codes:
    codes, uniques = _factorize(column, axis, name)
    labels = [value.item() if isinstance(value, np.generic) else value for value in uniques]
    # an Arrow column may hold NaN as a value that is not missing to pandas
    if nan := [code for code, label in enumerate(labels) if isinstance(label, float) and label != label]:
        raise _missing(np.isin(codes, nan), axis, name)
    try:
        order = sorted(range(len(labels)), key=lambda i: (type(labels[i]).__name__, labels[i]))
    except TypeError as error:
        raise _no_labels(column, name) from error
    return Codes(tuple(labels[i] for i in order), taken(_ranks(np.array(order)), codes))


def _factorize(column: pd.Series, axis: str, name: str) -> tuple[NDArray[np.integer], Any]:
    """Return a code for each row, and the values that codes stand for, of which a categorical may not use all."""
    if isinstance(column.dtype, pd.CategoricalDtype):
        codes, uniques = column.cat.codes.to_numpy(), column.cat.categories
    else:
        try:
            codes, uniques = pd.factorize(column)
        except (TypeError, NotImplementedError) as error:
            raise _no_labels(column, name) from error
    if codes.min() < 0:
        raise _missing(codes < 0, axis, name)
    used = np.sort(pd.unique(codes))
    if len(used) < len(uniques):
        place = np.zeros(len(uniques), codes.dtype)
        place[used] = np.arange(len(used))
        codes, uniques = taken(place, codes), uniques[used]
    return codes, uniques


def _combined(first: Codes, second: Codes) -> Codes:
    """Return the codes of the pairs that occur; labels of the first are tuples, which those of the second lengthen."""
    n = len(second.labels)
    codes, present = pd.factorize(first.codes.astype(np.int64) * n + second.codes)
    order = np.argsort(present)
    pairs = zip(*np.divmod(present[order], n), strict=True)
    return Codes(tuple((*first.labels[i], second.labels[j]) for i, j in pairs), taken(_ranks(order), codes))


def _missing(missing: NDArray[np.bool_], axis: str, name: str) -> ValueError:
    rows = np.flatnonzero(missing)
    return ValueError(
        f"column {name!r} must have no missing values ({_SWITCH[axis]}=True uses it), got {len(rows)} of "
        f"{len(missing)}, {_first(rows)}; drop those anchors or fill the values in"
    )


def _no_labels(column: pd.Series, name: str) -> TypeError:
    return TypeError(
        f"column {name!r} must hold text, numbers, booleans, dates or tuples of those, which can be told apart and put "
        f"in order, got dtype {column.dtype}; convert it, e.g. with .astype(str)"
    )


def _ranks(order: NDArray[np.intp]) -> NDArray[np.unsignedinteger]:
    """Invert a sorting order: the rank of each entry, in the narrowest type."""
    n = len(order)
    ranks = np.empty(n, np.uint8 if n <= 2**8 else np.uint16 if n <= 2**16 else np.uint32)
    ranks[order] = np.arange(n)
    return ranks


def _column(table: pd.DataFrame, axis: str, name: str) -> pd.Series:
    count = sum(isinstance(column, str) and column == name for column in table.columns)
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
