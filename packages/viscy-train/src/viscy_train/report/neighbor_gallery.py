"""Neighbor gallery: some anchors, and the cells that are their nearest neighbors in the space of embeddings."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from viscy_train.evaluation.neighbors import Among, find_neighbors, lineages_of
from viscy_train.evaluation.representation import directions

if TYPE_CHECKING:
    import pandas as pd
    from numpy.typing import NDArray

_MAX_ANCHORS = 6


@dataclass(frozen=True, kw_only=True)
class NeighborGallery:
    """Some anchors and their nearest neighbors.

    Parameters
    ----------
    rows : numpy.ndarray
        Rows of the anchor table, the anchor first, shape (n_anchors, 1 + n_neighbors); -1 where there is no neighbor.
    similarity : numpy.ndarray
        Cosine similarity to the anchor, shape (n_anchors, 1 + n_neighbors).
    among : str
        What differs between the anchor and its neighbors: ``experiment``, ``position`` or ``lineage``.
    n_kinds : int
        Number of combinations of experiment and condition that anchors are chosen from.
    """

    rows: NDArray[np.int64]
    similarity: NDArray[np.float32]
    among: Among
    n_kinds: int


def choose_gallery(
    embeddings: NDArray[np.float32],
    rows: NDArray[np.int64],
    observations: pd.DataFrame,
    is_query: NDArray[np.bool_],
    seed: int,
) -> NeighborGallery | None:
    """Draw an anchor of each experiment and condition at random, and find its neighbors.

    Parameters
    ----------
    embeddings : numpy.ndarray
        Shape (n_rows, features).
    rows : numpy.ndarray
        Row of the table of each embedding, shape (n_rows,).
    observations : pandas.DataFrame
        The anchor table.
    is_query : numpy.ndarray
        Which of them may be anchors, shape (n_rows,).
    seed : int
        Seed of the draws.

    Returns
    -------
    NeighborGallery, optional
        At most six anchors; of more experiments and conditions, every nth. Neighbors are of other experiments if there
        are any, otherwise of other positions or other lineages. None if there are no others.
    """
    anchors = observations.iloc[rows].reset_index(drop=True)
    among = _among(anchors)
    if among is None:
        return None
    queries = np.flatnonzero(is_query)
    kinds = anchors.iloc[queries].groupby(["experiment", "condition"], observed=True, sort=False).indices
    every = -(-len(kinds) // _MAX_ANCHORS)
    rng = np.random.default_rng([seed, 7])
    chosen = np.array([queries[rng.choice(own)] for own in list(kinds.values())[::every]])
    found = find_neighbors(embeddings, anchors, chosen, among)
    nearest = _nearest_rows(embeddings, lineages_of(anchors).of_row, chosen, found.lineages)
    of_table = np.where(nearest < 0, -1, rows[nearest])
    return NeighborGallery(
        rows=np.column_stack([rows[chosen], of_table]),
        similarity=np.column_stack([np.ones(len(chosen), dtype=np.float32), found.similarity]),
        among=among,
        n_kinds=len(kinds),
    )


def _among(anchors: pd.DataFrame) -> Among | None:
    """Return what can differ between an anchor and its neighbors."""
    if anchors["experiment"].nunique() > 1:
        return "experiment"
    if anchors["position"].nunique() > 1:
        return "position"
    return "lineage" if anchors["lineage_id"].nunique() > 1 else None


def _nearest_rows(
    embeddings: NDArray[np.float32], lineage: NDArray[np.int64], chosen: NDArray[np.int64], found: NDArray[np.int64]
) -> NDArray[np.int64]:
    """Return the row of each lineage that is nearest to the anchor; -1 where there is no lineage."""
    unit = directions(embeddings)
    nearest = np.full(found.shape, -1, dtype=np.int64)
    for number, place in np.argwhere(found >= 0):
        rows = np.flatnonzero(lineage == found[number, place])
        nearest[number, place] = rows[(unit[rows] @ unit[chosen[number]]).argmax()]
    return nearest
