"""Discriminant: a linear classifier by the nearest mean of whitened embeddings, quick enough to be fitted 1,000 times.

The embeddings are whitened once, by their covariance over all rows and without their labels. Of two labels, the nearest
mean is then Fisher's linear discriminant (Fisher 1936, "The use of multiple measurements in taxonomic problems") with
equal weights of both.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

_MAX_COMPONENTS = 64
# Added to the variance of each component, of standardized features: it keeps noise from being magnified.
_SHRINKAGE = 0.01
_ROUNDING = 1e-6


def whiten(embeddings: NDArray[np.floating]) -> NDArray[np.float64]:
    """Return the principal components of standardized embeddings, each with variance 1 or less.

    Parameters
    ----------
    embeddings : numpy.ndarray
        Shape (n_rows, features).

    Returns
    -------
    numpy.ndarray
        Shape (n_rows, n_components), at most 64 components.
    """
    values = np.asarray(embeddings, dtype=np.float64)
    values = values - values.mean(axis=0)
    spread = values.std(axis=0)
    values = values / np.where(spread > _ROUNDING * max(spread.max(initial=0.0), _ROUNDING), spread, np.inf)
    variance, axes = np.linalg.eigh(values.T @ values / max(len(values), 1))
    kept = np.flatnonzero(variance > _ROUNDING)[::-1][:_MAX_COMPONENTS]
    return values @ axes[:, kept] / np.sqrt(variance[kept] + _SHRINKAGE)


def classify(
    whitened: NDArray[np.float64], labels: NDArray[np.int64], fitted: NDArray[np.int64], tested: NDArray[np.int64]
) -> NDArray[np.int64]:
    """Return the label of the nearest mean for each tested row, shape (n_tested,).

    Parameters
    ----------
    whitened : numpy.ndarray
        From `whiten`.
    labels : numpy.ndarray
        Numbers from 0, shape (n_rows,).
    fitted, tested : numpy.ndarray
        Numbers of rows. Labels that no fitted row has are never returned.
    """
    counts = np.bincount(labels[fitted])
    members = np.zeros((len(counts), len(fitted)))
    members[labels[fitted], np.arange(len(fitted))] = 1
    means = members @ whitened[fitted] / np.maximum(counts, 1)[:, np.newaxis]
    offset = np.where(counts > 0, -(means**2).sum(axis=1) / 2, -np.inf)
    return (whitened[tested] @ means.T + offset).argmax(axis=1)
