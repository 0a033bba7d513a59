"""Column codes: the values of columns of an anchor table as integers that are equal where the values are."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

if TYPE_CHECKING:
    from numpy.typing import NDArray

# What a value of these columns means without.
_QUALIFIERS = {
    "well": ("experiment",),
    "position": ("experiment",),
    "track_id": ("experiment", "position"),
    "parent_track_id": ("experiment", "position"),
}


def encode_column(observations: pd.DataFrame, column: str) -> NDArray[np.int64]:
    """Return a number for each value of a column.

    Parameters
    ----------
    observations : pandas.DataFrame
        The observations of an `AnchorTable`.
    column : str
        Name of a column. Wells and positions are different in different experiments, and tracks in different positions.

    Returns
    -------
    numpy.ndarray
        Shape (n_observations,), -1 for a missing value.
    """
    return combine_codes([_factorize(observations[name]) for name in with_qualifiers([column])])


def with_qualifiers(columns: list[str]) -> list[str]:
    """Return columns, each after those without which its values mean nothing: ``well`` becomes ``experiment, well``."""
    names: list[str] = []
    for column in columns:
        names += [name for name in _QUALIFIERS.get(column, ()) if name not in columns and name not in names]
        names.append(column)
    return names


def combine_codes(codes: list[NDArray[np.int64]]) -> NDArray[np.int64]:
    """Return a number for each combination of numbers, from 0 on without gaps; -1 where any of them is negative."""
    combined = codes[0]
    for other in codes[1:]:
        is_known = (combined >= 0) & (other >= 0)
        pair = combined * (int(other.max(initial=0)) + 1) + other
        combined = np.where(is_known, pd.factorize(pair)[0], -1)
    return combined


def determined_by(codes: NDArray[np.int64], key: NDArray[np.int64]) -> bool:
    """Return whether equal values of a key imply equal codes."""
    return len(pd.unique(combine_codes([key, codes]))) == len(pd.unique(key))


def _factorize(values: Any) -> NDArray[np.int64]:
    if isinstance(values.dtype, pd.CategoricalDtype):
        return values.cat.codes.to_numpy(np.int64)
    return pd.factorize(values)[0].astype(np.int64)
