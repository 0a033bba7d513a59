"""Projection: embeddings in two dimensions, by principal components or by UMAP."""

from __future__ import annotations

from dataclasses import dataclass
from importlib import import_module
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from viscy_train.errors import UserError

if TYPE_CHECKING:
    from numpy.typing import NDArray

type Method = Literal["pca", "umap"]
_UMAP = "umap"


@dataclass(frozen=True, kw_only=True)
class Projection:
    """Embeddings in two dimensions.

    Parameters
    ----------
    points : numpy.ndarray
        Shape (n_rows, 2).
    axes : tuple of str
        Names of the two axes.
    """

    points: NDArray[np.float64]
    axes: tuple[str, str]


def check_projection(method: Method) -> None:
    """Raise `UserError` if a method needs a package that is not installed."""
    if method == _UMAP and find_spec(_UMAP) is None:
        raise UserError(
            "evaluation.projection umap needs the package umap-learn; install viscy-train[umap], or set it to pca"
        )


def project(embeddings: NDArray[np.floating], method: Method, seed: int) -> Projection:
    """Return embeddings in two dimensions.

    Parameters
    ----------
    embeddings : numpy.ndarray
        Shape (n_rows, features).
    method : {"pca", "umap"}
        See `principal_components`; UMAP (McInnes et al. 2018) with its default settings, by cosine distance.
    seed : int
        Seed of UMAP.

    Raises
    ------
    UserError
        If the method needs a package that is not installed.
    """
    if method != _UMAP:
        return principal_components(embeddings)
    check_projection(method)
    umap: Any = import_module(_UMAP)
    # A seed makes UMAP use one thread. More neighbors than there are other rows are not to be had.
    neighbors = max(2, min(15, len(embeddings) - 1))
    reducer = umap.UMAP(n_neighbors=neighbors, metric="cosine", random_state=seed, n_jobs=1)
    points = np.asarray(reducer.fit_transform(np.asarray(embeddings, dtype=np.float32)), dtype=np.float64)
    return Projection(points=points, axes=("UMAP 1", "UMAP 2"))


def principal_components(embeddings: NDArray[np.floating]) -> Projection:
    """Return the first two principal components, each with its share of the variance.

    Parameters
    ----------
    embeddings : numpy.ndarray
        Shape (n_rows, features). The largest loading of a component is positive, so that signs are reproducible.

    Examples
    --------
    >>> principal_components(np.array([[-2.0, 0.0], [2.0, 0.0], [0.0, 1.0], [0.0, -1.0]])).axes
    ('PC 1 (80% of the variance)', 'PC 2 (20%)')
    """
    centered = np.asarray(embeddings, dtype=np.float64)
    centered = centered - centered.mean(axis=0)
    variances, directions = np.linalg.eigh(centered.T @ centered)
    first = directions[:, ::-1][:, :2]
    first = first * np.where(np.take_along_axis(first, np.abs(first).argmax(axis=0)[None], axis=0) < 0, -1, 1)
    shares = np.maximum(variances[::-1][:2], 0) / max(variances.sum(), np.finfo(np.float64).tiny)
    points = centered @ first
    if points.shape[1] < 2:  # embeddings with one feature
        points, shares = np.column_stack([points, np.zeros(len(points))]), np.append(shares, 0.0)
    return Projection(points=points, axes=(f"PC 1 ({shares[0]:.0%} of the variance)", f"PC 2 ({shares[1]:.0%})"))
