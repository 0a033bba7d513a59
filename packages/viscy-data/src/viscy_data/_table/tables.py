"""A table: its number of rows, its column names, and its columns, one at a time in chunks, whatever holds them."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

from viscy_data._table.arrow import import_pyarrow, to_series
from viscy_data._table.parquet import list_files
from viscy_data._table.radix_sort import chunk_slices
from viscy_data._torch import is_sampler

if TYPE_CHECKING:
    import polars as pl
    import pyarrow as pa


type Anchors = pd.DataFrame | pl.DataFrame | pa.Table | pa.RecordBatch | str | os.PathLike[str]
"""What may hold a table of anchors; polars and pyarrow need not be installed."""

# Rows that are processed together: few enough to need little memory compared with a table, many enough to spread the
# cost of a call.
CHUNK = 2**18
MAX_ANCHORS = 2**30


@dataclass(frozen=True, slots=True, eq=False)
class Table:
    """A table of anchors, as an index reads it.

    Attributes
    ----------
    names
        Names of its columns.
    n_rows
        Number of its rows.
    column
        Function of a name that returns that column in chunks, from the first row to the last. Chunks have the dtype
        that pandas has for the values, or are categorical.
    """

    names: list[Any]
    n_rows: int
    column: Callable[[str], Iterator[pd.Series]]


def as_table(anchors: object) -> Table:
    """Return anchors as a table; TypeError if they are not a table, other errors as raised by `list_files`."""
    # Neither is imported here: a user who passes one of their tables has imported it.
    polars, arrow = sys.modules.get("polars"), sys.modules.get("pyarrow")
    if isinstance(anchors, Table):
        return anchors
    if isinstance(anchors, pd.DataFrame):
        return Table(list(anchors.columns), len(anchors), lambda name: _pandas_chunks(anchors[name]))
    if isinstance(anchors, str | os.PathLike):
        return _of_path(Path(anchors))
    if arrow and isinstance(anchors, arrow.Table | arrow.RecordBatch):
        return Table(anchors.schema.names, anchors.num_rows, lambda name: _arrow_chunks(anchors.column(name)))
    if polars and isinstance(anchors, polars.DataFrame):
        import_pyarrow("pyarrow", "a polars DataFrame")
        return Table(anchors.columns, anchors.height, lambda name: _polars_chunks(anchors[name]))
    remedy = "call .collect() on it first" if polars and isinstance(anchors, polars.LazyFrame) else "convert it to one"
    raise TypeError(
        "valid_anchors must be a DataFrame of pandas or polars, a pyarrow Table, or the path of a Parquet file or of a "
        f"folder of them, got {type(anchors).__name__}; {remedy}"
    )


def _pandas_chunks(column: pd.Series) -> Iterator[pd.Series]:
    values: Any = column.array
    if isinstance(column.dtype, pd.ArrowDtype):
        return _arrow_chunks(values.__arrow_array__())
    return (column.iloc[part] for part in chunk_slices(len(column), CHUNK))


def _arrow_chunks(column: pa.ChunkedArray | pa.Array) -> Iterator[pd.Series]:
    for array in getattr(column, "chunks", [column]):
        for part in chunk_slices(len(array), CHUNK):
            yield to_series(array[part])


def _polars_chunks(column: pl.Series) -> Iterator[pd.Series]:
    for part in chunk_slices(len(column), CHUNK):
        if str(column.dtype) == "Object":  # Arrow has no such type, and polars would convert values to their addresses
            yield pd.Series(column[part].to_list(), dtype=object)
        else:
            yield to_series(column[part].to_arrow())


def _of_path(path: Path) -> Table:
    files = list_files(path)
    names = files[0].schema.names
    return Table(
        names + [name for name in files[0].folder_values if name not in names],
        sum(file.n_rows for file in files),
        lambda name: (chunk for file in files for chunk in file.column(name, CHUNK)),
    )


def check_table(anchors: object) -> Table:
    """Return anchors as a table; TypeError if they are not a table, ValueError if it is empty or too long."""
    if is_sampler(anchors):
        raise TypeError(
            f"valid_anchors must be a table, got the sampler {type(anchors).__name__}: Lightning rebuilt this batch "
            "sampler around its own. To fit, validate or test, set Trainer(use_distributed_sampler=False); in Fabric, "
            "setup_dataloaders(loader, use_distributed_sampler=False). Trainer.predict rebuilds every batch sampler, "
            "whatever is set: give it a loader without one, such as DataLoader(dataset, batch_size=64)"
        )
    table = as_table(anchors)
    if table.n_rows == 0:
        raise ValueError("valid_anchors must have at least one row, got an empty table")
    if table.n_rows > MAX_ANCHORS:
        raise ValueError(f"valid_anchors must have at most {MAX_ANCHORS} rows, got {table.n_rows}; split the table")
    return table
