"""Arrow arrays as pandas Series: text and dictionaries become categoricals, numbers are not copied.

pyarrow is optional. It is imported by `import_pyarrow`, when a table needs it.
"""

from __future__ import annotations

import importlib
from types import ModuleType
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

if TYPE_CHECKING:
    import pyarrow as pa

_TEXT_TYPES = ("string", "large_string", "string_view")


def import_pyarrow(module: str, what: str) -> ModuleType:
    """Import a module of pyarrow, which is needed to read `what`; ModuleNotFoundError if it is not installed."""
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            f"reading {what} needs pyarrow, which is not installed; run pip install pyarrow, or pass a pandas DataFrame"
        ) from error


def is_text(dtype: pa.DataType) -> bool:
    """Return whether values of an Arrow type are text that is not dictionary-encoded."""
    return str(dtype) in _TEXT_TYPES


def to_series(array: pa.Array) -> pd.Series:
    """Convert an array to a pandas Series."""
    if is_text(array.type):
        array = array.dictionary_encode()
    if hasattr(array, "dictionary"):
        return _to_categorical(array)
    if array.type.num_fields:  # lists and other nested types: no axis can use them, and so their type keeps its name
        return pd.Series(pd.arrays.ArrowExtensionArray(array))
    return array.to_pandas()


def _to_categorical(array: pa.DictionaryArray) -> pd.Series:
    """Convert a dictionary array, whose dictionary may contain repeated and missing values, to a categorical."""
    category, categories = pd.factorize(array.dictionary.to_pandas())
    codes = array.indices.cast("int32").fill_null(len(category)).to_numpy()
    return pd.Series(pd.Categorical.from_codes(np.append(category, -1)[codes], categories, validate=False))
