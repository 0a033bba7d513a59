"""Parquet: the files of a path as one table, of which only the columns that are asked for are read, chunk by chunk.

The path is that of one file, or of a folder. A folder's files are those whose names end in ``.parquet``, at any depth,
but for those of which a part of the path within the folder starts with ``.`` or ``_``. They are taken in the order of
their paths, compared part by part as text, and the rows of each in their own order. A folder within, called
``name=value``, gives its files a column of that name, unless they have it themselves.
"""

from __future__ import annotations

import re
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote

import numpy as np
import pandas as pd

from viscy_data._table.arrow import is_text, needed, series_of
from viscy_data._table.radix_sort import slices

if TYPE_CHECKING:
    import pyarrow as pa
    from pyarrow.parquet import ParquetFile

_SUFFIX = ".parquet"
_WHOLE = re.compile("0|-?[1-9][0-9]*")
_NO_VALUE = "__HIVE_DEFAULT_PARTITION__"


@dataclass(frozen=True, slots=True, eq=False)
class File:
    """One file: what its footer says, and the values that the folders it is in give all of its rows."""

    path: Path
    schema: pa.Schema
    n_rows: int
    given: dict[str, Any]

    def column(self, name: str, chunk: int) -> Iterator[pd.Series]:
        """Read a column in chunks of at most so many rows; ValueError if it is not there or damaged."""
        if name in self.schema.names:
            # text comes as its distinct values and a number for each row, never row by row
            dictionaries = [name] if is_text(self.schema.field(name).type) else None
            with _opened(self.path, read_dictionary=dictionaries) as file:
                for batch in file.iter_batches(chunk, columns=[name]):
                    yield series_of(batch.column(batch.schema.get_field_index(name)))
        elif name in self.given:
            value = pd.Series([self.given[name]], dtype=None if isinstance(self.given[name], int) else "category")
            for part in slices(self.n_rows, chunk):
                yield value.take(np.zeros(part.stop - part.start, np.intp))
        else:
            raise ValueError(
                f"every file of a folder must have the column {name!r}, {self.path} lacks it; its columns are "
                f"{self.schema.names}: write it anew or move it out of the folder"
            )


def files_at(path: Path) -> list[File]:
    """Read the footers of a path's files; FileNotFoundError or ValueError if there are none."""
    if not path.exists():
        raise FileNotFoundError(
            f"valid_anchors must be a table, or the path of a Parquet file or of a folder of them, got {path}, where "
            "there is nothing; correct the path"
        )
    paths = [path] if path.is_file() else _paths_in(path)
    files = []
    for file, given in zip(paths, _given([file.relative_to(path).parts[:-1] for file in paths]), strict=True):
        with _opened(file) as parquet:
            files.append(File(file, parquet.schema_arrow, parquet.metadata.num_rows, given))
    return files


@contextmanager
def _opened(path: Path, **options: Any) -> Generator[ParquetFile]:
    pyarrow, parquet = needed("pyarrow", "a Parquet file"), needed("pyarrow.parquet", "a Parquet file")
    try:
        with parquet.ParquetFile(path, **options) as file:
            yield file
    except (pyarrow.ArrowInvalid, OSError) as error:
        raise ValueError(
            f"{path} must be a Parquet file, whole and readable, got: {error}; write it anew, e.g. with .to_parquet"
        ) from error


def _paths_in(folder: Path) -> list[Path]:
    """Return a folder's files in order."""
    found = {path.relative_to(folder).parts: path for path in folder.rglob(f"*{_SUFFIX}") if path.is_file()}
    paths = [found[parts] for parts in sorted(found) if not any(part.startswith((".", "_")) for part in parts)]
    if not paths:
        remedy = "open a saved index with AnchorIndex.open" if (folder / "index.json").exists() else "correct the path"
        raise ValueError(f"a folder of anchors must hold files that end in {_SUFFIX}, got {folder} with none; {remedy}")
    return paths


def _given(folders: list[tuple[str, ...]]) -> list[dict[str, Any]]:
    """Return the values that each file's folders give: whole numbers where all of a name are such, else text."""
    given: list[dict[str, Any]] = [
        {unquote(name): unquote(value) for name, equals, value in (part.partition("=") for part in parts) if equals}
        for parts in folders
    ]
    for name in {name for values in given for name in values}:
        texts = {values[name] for values in given if name in values} - {_NO_VALUE}
        kind = int if all(map(_WHOLE.fullmatch, texts)) else str
        for values in given:
            if name in values:
                values[name] = None if values[name] == _NO_VALUE else kind(values[name])
    return given
