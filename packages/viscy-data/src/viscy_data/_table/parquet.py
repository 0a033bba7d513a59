"""Parquet files: all files at a path as one table, whose columns are read one at a time, chunk by chunk.

The path is that of one file or of a folder. The files of a folder are those whose names end in ``.parquet``, at any
depth, except where a part of the path within the folder starts with ``.`` or ``_``. They are read in the order of their
paths, compared part by part as text, each with its rows in order. A subfolder named ``name=value`` adds a column of
that name to its files, unless they have such a column themselves.
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

from viscy_data._table.arrow import import_pyarrow, is_text, to_series
from viscy_data._table.radix_sort import chunk_slices

if TYPE_CHECKING:
    import pyarrow as pa
    from pyarrow.parquet import ParquetFile

_SUFFIX = ".parquet"
_INTEGER = re.compile("0|-?[1-9][0-9]*")
_MISSING = "__HIVE_DEFAULT_PARTITION__"


@dataclass(frozen=True, slots=True, eq=False)
class File:
    """One file: the contents of its footer, and the column values that its folders give to all of its rows."""

    path: Path
    schema: pa.Schema
    n_rows: int
    folder_values: dict[str, Any]

    def column(self, name: str, chunk: int) -> Iterator[pd.Series]:
        """Read a column in chunks of at most `chunk` rows; ValueError if it is missing or damaged."""
        if name in self.schema.names:
            # text is read as its distinct values and a code for each row, never row by row
            dictionaries = [name] if is_text(self.schema.field(name).type) else None
            with _open(self.path, read_dictionary=dictionaries) as file:
                for batch in file.iter_batches(chunk, columns=[name]):
                    yield to_series(batch.column(batch.schema.get_field_index(name)))
        elif name in self.folder_values:
            value = pd.Series(
                [self.folder_values[name]], dtype=None if isinstance(self.folder_values[name], int) else "category"
            )
            for part in chunk_slices(self.n_rows, chunk):
                yield value.take(np.zeros(part.stop - part.start, np.intp))
        else:
            raise ValueError(
                f"every file of a folder must have the column {name!r}, {self.path} lacks it; its columns are "
                f"{self.schema.names}: rewrite it or move it out of the folder"
            )


def list_files(path: Path) -> list[File]:
    """Read the footers of all files at a path; FileNotFoundError or ValueError if none exists."""
    if not path.exists():
        raise FileNotFoundError(
            f"valid_anchors must be a table, or the path of a Parquet file or of a folder of them, got {path}, which "
            "does not exist; correct the path"
        )
    paths = [path] if path.is_file() else _paths_in(path)
    folder_values = _values_in([file.relative_to(path).parts[:-1] for file in paths])
    files = []
    for file, values in zip(paths, folder_values, strict=True):
        with _open(file) as parquet:
            files.append(File(file, parquet.schema_arrow, parquet.metadata.num_rows, values))
    return files


@contextmanager
def _open(path: Path, **options: Any) -> Generator[ParquetFile]:
    pyarrow, parquet = import_pyarrow("pyarrow", "a Parquet file"), import_pyarrow("pyarrow.parquet", "a Parquet file")
    try:
        with parquet.ParquetFile(path, **options) as file:
            yield file
    except (pyarrow.ArrowInvalid, OSError) as error:
        raise ValueError(
            f"{path} must be a complete, readable Parquet file, got: {error}; rewrite it, e.g. with .to_parquet"
        ) from error


def _paths_in(folder: Path) -> list[Path]:
    """Return the files of a folder in order."""
    by_parts = {path.relative_to(folder).parts: path for path in folder.rglob(f"*{_SUFFIX}") if path.is_file()}
    paths = [by_parts[parts] for parts in sorted(by_parts) if not any(part.startswith((".", "_")) for part in parts)]
    if not paths:
        remedy = "open a saved index with AnchorIndex.open" if (folder / "index.json").exists() else "correct the path"
        raise ValueError(f"a folder of anchors must hold files that end in {_SUFFIX}, got {folder} with none; {remedy}")
    return paths


def _values_in(folders: list[tuple[str, ...]]) -> list[dict[str, Any]]:
    """Return the column values in each file's folder names: integers if all values of a column are, otherwise text."""
    per_file: list[dict[str, Any]] = [
        {unquote(name): unquote(value) for name, equals, value in (part.partition("=") for part in parts) if equals}
        for parts in folders
    ]
    for name in {name for values in per_file for name in values}:
        texts = {values[name] for values in per_file if name in values} - {_MISSING}
        dtype = int if all(map(_INTEGER.fullmatch, texts)) else str
        for values in per_file:
            if name in values:
                values[name] = None if values[name] == _MISSING else dtype(values[name])
    return per_file
