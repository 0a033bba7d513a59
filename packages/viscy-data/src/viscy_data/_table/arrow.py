"""Arrow arrays, as pandas has them: text and dictionaries become categoricals, numbers are not copied.

pyarrow is optional. It is imported here, once a table needs it.
"""

from __future__ import annotations

import importlib
from types import ModuleType
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

if TYPE_CHECKING:
    import pyarrow as pa

_TEXT = ("string", "large_string", "string_view")


def needed(module: str, what: str) -> ModuleType:
    """Return a module of pyarrow, without which something cannot be read; ModuleNotFoundError if it is not there."""
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            f"reading {what} needs pyarrow, which is not installed; run pip install 'viscy-data[arrow]', or hand over "
            "a pandas DataFrame"
        ) from error


def is_text(kind: pa.DataType) -> bool:
    """Return whether values of an Arrow type are text, not encoded as a dictionary."""
    return str(kind) in _TEXT


def series_of(array: pa.Array) -> pd.Series:
    """Return an array as pandas has it."""
    if is_text(array.type):
        array = array.dictionary_encode()
    if hasattr(array, "dictionary"):
        return _categorical(array)
    if array.type.num_fields:  # lists and the like, which no axis can use: here their type keeps its name
        return pd.Series(pd.arrays.ArrowExtensionArray(array))
    return array.to_pandas()


def _categorical(array: pa.DictionaryArray) -> pd.Series:
    """Return a dictionary array as a categorical; the values of a dictionary may repeat and be missing."""
    place, categories = pd.factorize(array.dictionary.to_pandas())
    codes = array.indices.cast("int32").fill_null(len(place)).to_numpy()
    return pd.Series(pd.Categorical.from_codes(np.append(place, -1)[codes], categories, validate=False))
