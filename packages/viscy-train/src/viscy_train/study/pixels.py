"""Pixels: the principal components of crops, which take no training, and how much the experiments mix in them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from viscy_train.composition.pixel_mixing import PixelMixing
from viscy_train.loading.array_source import ArraySource
from viscy_train.loading.axes import GROUP
from viscy_train.loading.crops import CropReader
from viscy_train.loading.sampler import drop_excluded
from viscy_train.study.neighbors import mixing

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

    from viscy_train.loading.run_data import RunData

MAX_CROPS = 4000
"""More say no more, and take the memory of a matrix with a row and a column for each."""


def principal_components(
    pixels: NDArray[np.float32], is_trained: NDArray[np.bool_], n_features: int
) -> NDArray[np.float32]:
    """Return the principal components of crops as embeddings.

    Parameters
    ----------
    pixels : numpy.ndarray
        Normalized pixels, shape (n_crops, n_pixels).
    is_trained : numpy.ndarray
        Whether the components are computed from each crop, shape (n_crops,).
    n_features : int
        Number of components, if there are as many.

    Returns
    -------
    numpy.ndarray
        Shape (n_crops, n_components).
    """
    from sklearn.decomposition import PCA

    n_components = min(n_features, pixels.shape[1], int(is_trained.sum()))
    return PCA(n_components, svd_solver="randomized", random_state=0).fit(pixels[is_trained]).transform(pixels)


def mixing_of_pixels(data: RunData, n_crops: int, n_features: int, crops: Path | None = None) -> PixelMixing | None:
    """Return how much the experiments mix in the pixels of some of their crops.

    Parameters
    ----------
    data : RunData
        The data of a project.
    n_crops : int
        How many crops to read, at most `MAX_CROPS`: of each experiment as many, as far as it has them.
    n_features : int
        Number of principal components.
    crops : pathlib.Path, optional
        File of `viscy_train.study.crop_cache.cache_crops` to read from instead of plates.

    Returns
    -------
    PixelMixing or None
        None if there is only one experiment to train on, or no crop of another lineage.

    Raises
    ------
    UserError
        If a crop cannot be read.

    Notes
    -----
    The measure is that of the reference "pixels (PCA)" of a study, see `viscy_train.study.neighbors.mixing`.
    """
    rows = _choose_rows(data, min(n_crops, MAX_CROPS))
    labeled = data.labeled.iloc[rows]
    groups, lineages = (pd.factorize(labeled[name])[0] for name in (GROUP, "lineage_id"))
    if len(rows) < 2 or not groups.any():
        return None
    source = None if crops is None else ArraySource(data.table, crops)
    reader = CropReader(data.table, cache_mb=data.cache_mb, store=data.store, source=source)
    pixels = reader.read(rows).reshape(len(rows), -1)
    embeddings = principal_components(pixels, np.ones(len(rows), dtype=bool), n_features)
    value = mixing(embeddings.astype(np.float64), groups, lineages, seed=0)
    return None if np.isnan(value) else PixelMixing(value=value, n_crops=len(rows))


def _choose_rows(data: RunData, n_rows: int) -> NDArray[np.int64]:
    """Return rows of the table, ascending: as many of each experiment, at random, but always the same."""
    rows = drop_excluded(data.options, data.labeled, data.train_rows)
    rows = np.random.default_rng(0).permutation(rows)
    number = data.labeled[GROUP].iloc[rows].groupby(data.labeled[GROUP].iloc[rows].to_numpy()).cumcount().to_numpy()
    return np.sort(rows[np.argsort(number, kind="stable")[:n_rows]])
