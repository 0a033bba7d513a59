"""Features: the columns by which tracks are colored, as numbers: those of the anchor table, and of embeddings."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

if TYPE_CHECKING:
    from numpy.typing import NDArray

N_COMPONENTS = 8
_LEFT_OUT = ("experiment", "well", "position")
_ALWAYS = ("track_id", "t", "condition", "hours_post_infection")


def track_features(observations: pd.DataFrame, components: NDArray[np.float32] | None = None) -> pd.DataFrame:
    """Return numbers that color the tracks of a position.

    Parameters
    ----------
    observations : pandas.DataFrame
        The observations of a position, shape (n, any).
    components : numpy.ndarray, optional
        Principal components of their embeddings, shape (n, n_components), from `principal_components`.

    Returns
    -------
    pandas.DataFrame
        A column of float64 for each column, shape (n, any): of text, the number of the value in alphabetical order.
        Missing values are below all others. A column with one value in the position colors nothing and is left out,
        but for track, time and condition.
    """
    numbers = {str(name): as_numbers(observations[name]) for name in observations if name not in _LEFT_OUT}
    for k, column in enumerate([] if components is None else components.T):
        numbers[f"embedding PC{k + 1}"] = np.asarray(column, dtype=np.float64)
    return pd.DataFrame({name: x for name, x in numbers.items() if name in _ALWAYS or np.ptp(x) > 0})


def as_numbers(column: pd.Series) -> NDArray[np.float64]:
    """Return a column as numbers, without missing values, shape (n,)."""
    if column.dtype.kind in "biuf":
        values = column.to_numpy(dtype=np.float64)
    else:
        values = column.astype(str).where(column.notna()).astype("category").cat.codes.to_numpy(dtype=np.float64)
        values[values < 0] = np.nan
    is_missing = ~np.isfinite(values)
    if is_missing.all():
        return np.zeros(len(values))
    low, high = values[~is_missing].min(), values[~is_missing].max()
    return np.where(is_missing, low - max(high - low, 1.0) / 10, values)


def principal_components(embeddings: NDArray[np.float32], n: int = N_COMPONENTS) -> NDArray[np.float32]:
    """Return the first principal components of embeddings, shape (n_rows, n), those of most variance first.

    Of each, the coordinate with the largest weight has a positive one, so that signs do not depend on the library.
    """
    centered = embeddings - embeddings.mean(axis=0)
    _, vectors = np.linalg.eigh(centered.T.astype(np.float64) @ centered)
    axes = vectors[:, ::-1][:, :n]
    axes = axes * np.sign(axes[np.abs(axes).argmax(axis=0), np.arange(axes.shape[1])])
    return centered @ axes.astype(np.float32)
