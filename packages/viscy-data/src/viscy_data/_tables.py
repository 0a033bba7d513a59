"""Tables: a number of rows, names of columns, and one column at a time, in chunks, whatever holds them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import pandas as pd

from viscy_data._sorting import slices

# Rows that are looked at together: what they need for a while is little beside a table, and so is what a call costs.
CHUNK = 2**18


@dataclass(frozen=True, slots=True, eq=False)
class Table:
    """A table of anchors, as an index reads it.

    Attributes
    ----------
    names
        Of its columns.
    n_rows
        How many rows it has.
    column
        Gives, for a name, that column from the first row to the last in chunks, which have the type that pandas has for
        the values or are categorical.
    """

    names: list[Any]
    n_rows: int
    column: Callable[[str], Iterator[pd.Series]]


def table_of(anchors: object) -> Table:
    """Return as a table what a user has for one; TypeError if it is none."""
    if isinstance(anchors, Table):
        return anchors
    if isinstance(anchors, pd.DataFrame):
        return Table(list(anchors.columns), len(anchors), lambda name: _pandas_chunks(anchors[name]))
    raise TypeError(f"valid_anchors must be a pandas DataFrame, got {type(anchors).__name__}; convert it to one")


def _pandas_chunks(column: pd.Series) -> Iterator[pd.Series]:
    return (column.iloc[part] for part in slices(len(column), CHUNK))
