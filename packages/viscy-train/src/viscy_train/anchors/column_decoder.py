"""Column decoder: the columns of a large Parquet file, decoded some rows at a time into files of an array store."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from viscy_train.anchors.array_store import ArrayStore

_ROWS_PER_PART = 2**18
_DTYPES = {pa.int64(): np.dtype("int64"), pa.float64(): np.dtype("float64"), pa.bool_(): np.dtype("bool")}
_MAY_LACK_VALUES = {pa.float64()}


class _OtherColumnError(Exception):
    """A column is not one that ``viscy-train index`` writes."""


def count_rows(path: Path) -> int:
    """Return the number of rows of a Parquet file; raise OSError or pyarrow.ArrowException if it is none."""
    return pq.read_metadata(os.fspath(path)).num_rows


def decode_columns(path: Path, names: Sequence[str], store: ArrayStore) -> dict[str, dict[str, Any]] | None:
    """Decode columns into an array store.

    Parameters
    ----------
    path : pathlib.Path
        Parquet file.
    names : sequence of str
        Columns.
    store : ArrayStore
        Where to store them.

    Returns
    -------
    dict, optional
        For each column, the checksum of its ``array``, and the ``categories`` of text; None if a column is missing, has
        a type or missing values that ``viscy-train index`` does not write, or cannot be read or stored.
    """
    try:
        with pq.ParquetFile(os.fspath(path), page_checksum_verification=True) as file:
            return {name: _decode(file, name, store) for name in names}
    except (OSError, pa.ArrowException, _OtherColumnError):
        return None
    finally:
        pa.default_memory_pool().release_unused()


def _decode(file: pq.ParquetFile, name: str, store: ArrayStore) -> dict[str, Any]:
    if file.schema_arrow.names.count(name) != 1:
        raise _OtherColumnError
    kind = file.schema_arrow.field(name).type
    categories = None
    if pa.types.is_dictionary(kind) and kind.value_type == pa.string():
        # Twice: the type of codes depends on the number of categories.
        number: dict[str, int] = {}
        for _ in _codes(file, name, number):
            pass
        categories = list(number)
        dtype = pd.Categorical.from_codes([], categories=categories).codes.dtype
        parts: Iterator[NDArray[Any]] = _codes(file, name, number)
    elif kind in _DTYPES:
        dtype, parts = _DTYPES[kind], _numbers(file, name)
    else:
        raise _OtherColumnError
    array = store.put_parts(parts, dtype, file.metadata.num_rows)
    if array is None:
        raise _OtherColumnError
    return {"array": array, "categories": categories}


def _parts(file: pq.ParquetFile, name: str) -> Iterator[Any]:
    for batch in file.iter_batches(_ROWS_PER_PART, columns=[name]):
        yield batch.column(name)  # with the columns "a.b", the column "a" is read, too


def _numbers(file: pq.ParquetFile, name: str) -> Iterator[NDArray[Any]]:
    for part in _parts(file, name):
        if part.null_count and part.type not in _MAY_LACK_VALUES:
            raise _OtherColumnError
        yield part.to_numpy(zero_copy_only=False)


def _codes(file: pq.ParquetFile, name: str, number: dict[str, int]) -> Iterator[NDArray[np.int64]]:
    """Yield the codes of each part, -1 for a missing value, and number the categories in the order of the file."""
    dictionary, code_of = None, np.array([-1])
    for part in _parts(file, name):
        if dictionary is None or not part.dictionary.equals(dictionary):
            dictionary = part.dictionary
            texts = dictionary.to_pylist()
            if None in texts or len(set(texts)) < len(texts):
                raise _OtherColumnError
            code_of = np.array([*(number.setdefault(text, len(number)) for text in texts), -1])
        yield code_of[part.indices.fill_null(len(dictionary)).to_numpy()]
