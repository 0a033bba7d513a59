"""Parquet table: a table of tracks in a Parquet file, also if pandas stored some columns as its index."""

from __future__ import annotations

import json
from contextlib import contextmanager
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from viscy_train.errors import UserError, one_line

if TYPE_CHECKING:
    from collections.abc import Collection, Generator
    from pathlib import Path

    import pandas as pd
    from numpy.typing import NDArray


def parquet_names(path: Path) -> list[str]:
    """Return the names of the columns of a Parquet file, and of its index."""
    with _reported(path):
        schema = pq.read_schema(path)
        return [*schema.names, *_range_columns(schema)]


def read_parquet(path: Path, columns: Collection[str]) -> pd.DataFrame:
    """Read columns of a Parquet file.

    Parameters
    ----------
    path : pathlib.Path
        The file.
    columns : collection of str
        Columns that are used; those that the file lacks are left out.

    Returns
    -------
    pandas.DataFrame
        The columns. The index is the number of the row.

    Raises
    ------
    UserError
        If the file is damaged, or has a column twice.
    """
    with _reported(path):
        schema = pq.read_schema(path)
        used = [name for name in dict.fromkeys(columns) if name in schema.names]
        # Without the metadata of pandas, columns that were its index stay columns.
        tracks = pq.read_table(path, columns=used).replace_schema_metadata(None).to_pandas()
        ranges = {name: values for name, values in _range_columns(schema).items() if name in columns}
    for name in tracks.columns:
        if (tracks.columns == name).sum() > 1:
            raise UserError(f"a column of tracks must occur once, {path} has several columns {name!r}")
    return tracks.assign(**ranges)


@contextmanager
def _reported(path: Path) -> Generator[None]:
    try:
        yield
    except (OSError, ValueError, TypeError, pa.ArrowException) as error:
        raise UserError(f"{path} is not a Parquet file of tracks, or is damaged: {one_line(error)}") from None


def _range_columns(schema: pa.Schema) -> dict[str, NDArray[np.int64]]:
    """Return the columns that pandas stored as the start, stop and step of an index."""
    try:
        indexes = json.loads((schema.metadata or {})[b"pandas"])["index_columns"]
        ranges = [one for one in indexes if isinstance(one, dict) and one["name"]]
        return {one["name"]: np.arange(one["start"], one["stop"], one["step"]) for one in ranges}
    except (KeyError, ValueError, TypeError):
        return {}
