"""The values of `distinct_by`: the code of every row, and how the rows of a stratum are sorted by value.

Without a time axis, nothing else decides the order of the rows of a stratum. They are then sorted by how many rows
their value has in the stratum, and by value. The values of a stratum that have equally many rows are a *class*: a slice
that is cut into pieces of equal length, one for each value. So the value of a row, and the rows of a value, are found
by arithmetic.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import TYPE_CHECKING

import numpy as np

from viscy_data._table.radix_sort import find_runs, radix_argsort, take_chunked

if TYPE_CHECKING:
    from numpy.typing import NDArray


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Values:
    """The values of a column in the sorted order of an index."""

    n_values: int
    """Number of distinct values."""
    value_code: NDArray[np.unsignedinteger]
    """Code of the value of each row of the sorted order, shape (n_anchors,), the narrowest type that holds it."""
    values_of_stratum: NDArray[np.int64]
    """Number of distinct values in each stratum, shape (n_groups, n_conditions)."""
    class_start: NDArray[np.int64]
    """Where the rows of each class start, ascending, shape (n_classes,); empty with a time axis."""
    class_length: NDArray[np.int64]
    """Rows of each value of a class, shape (n_classes,)."""

    def as_dict(self) -> dict[str, object]:
        """Return the fields by name."""
        return {field.name: getattr(self, field.name) for field in fields(self)}


def sort_by_value(
    pair: NDArray[np.unsignedinteger], code: NDArray[np.unsignedinteger], shape: tuple[int, int, int]
) -> tuple[NDArray[np.uint32], Values]:
    """Sort the rows of each stratum by value.

    Parameters
    ----------
    pair
        The number ``stratum * n_values + value`` of each position, shape (n_anchors,).
    code
        The value of each position, shape (n_anchors,).
    shape
        Numbers of groups, conditions and values.

    Returns
    -------
    order, values
        Positions sorted by stratum, number of rows of the value in the stratum, value and position; and their values.
    """
    order = radix_argsort(pair)
    run_pair, run_start = find_runs(pair, order)
    run_length = np.diff(run_start)
    stratum = run_pair // shape[-1]
    by_length = np.lexsort((run_length, stratum))
    order, run_length = _move_runs(order, run_start, by_length), run_length[by_length]
    is_first = np.ones(len(run_length), bool)
    is_first[1:] = (np.diff(run_length) != 0) | (np.diff(stratum) != 0)  # strata ascend before and after
    start = np.cumsum(run_length) - run_length
    return order, Values(
        n_values=shape[-1],
        value_code=take_chunked(code, order),
        values_of_stratum=_count_by_stratum(stratum, shape),
        class_start=start[is_first],
        class_length=run_length[is_first],
    )


def count_values(
    pair: NDArray[np.unsignedinteger],
    code: NDArray[np.unsignedinteger],
    shape: tuple[int, int, int],
    order: NDArray[np.uint32],
) -> Values:
    """Return the values of rows in the order of time; the other parameters are those of `sort_by_value`."""
    run_pair, _ = find_runs(pair, radix_argsort(pair))
    return Values(
        n_values=shape[-1],
        value_code=take_chunked(code, order),
        values_of_stratum=_count_by_stratum(run_pair // shape[-1], shape),
        class_start=np.empty(0, np.int64),
        class_length=np.empty(0, np.int64),
    )


def _count_by_stratum(stratum: NDArray[np.int64], shape: tuple[int, int, int]) -> NDArray[np.int64]:
    return np.bincount(stratum, minlength=shape[0] * shape[1]).reshape(shape[:2])


def _move_runs(order: NDArray[np.uint32], start: NDArray[np.int64], which: NDArray[np.intp]) -> NDArray[np.uint32]:
    """Return the runs of an order in another sequence; `start` is where they start, followed by the end."""
    length = np.diff(start)[which]
    shift = start[which] - (np.cumsum(length) - length)
    index = np.repeat(shift.astype(np.int32), length)  # an order has at most 2**30 entries
    index += np.arange(len(order), dtype=np.int32)
    return order[index]
