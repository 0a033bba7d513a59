"""Neighbors: the embeddings nearest to each embedding by cosine similarity, and what they have in common with it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch

from viscy_train.evaluation.representation import directions

if TYPE_CHECKING:
    from numpy.typing import NDArray

N_NEIGHBORS = 15
"""Number of neighbors; fewer where fewer embeddings remain."""


def mixing(
    embeddings: NDArray[np.float64],
    experiments: NDArray[np.int64],
    lineages: NDArray[np.int64],
    seed: int,
    n_neighbors: int = N_NEIGHBORS,
) -> float:
    """Return how often neighbors are of another experiment, relative to chance.

    Parameters
    ----------
    embeddings : numpy.ndarray
        Shape (n_rows, features).
    experiments, lineages : numpy.ndarray
        Of each row, as numbers, shape (n_rows,).
    seed : int
        Seed of the order in which equally near rows count.
    n_neighbors : int
        Number of neighbors.

    Returns
    -------
    float
        0 if all neighbors are of the row's own experiment, 1 if experiments cannot be distinguished: the mean share of
        neighbors of another experiment, divided by the mean share of such rows among all rows that may be neighbors.
        Rows of the own lineage may not. NaN if no row of another experiment exists.

    Notes
    -----
    With four experiments of 100 cells, 300 of the 399 other cells are of another experiment. If of 15 neighbors 3 are,
    mixing is (3 / 15) / (300 / 399) = 0.27.
    """
    order = np.random.default_rng([seed, 3]).permutation(len(embeddings))
    embeddings, experiments, lineages = embeddings[order], experiments[order], lineages[order]
    n_candidates = len(lineages) - _sizes(lineages)
    # Of candidates, those of the own experiment are its rows but for those of the own lineage in it.
    n_others = n_candidates - _sizes(experiments) + _sizes(np.stack([experiments, lineages], axis=1))
    if not n_others.any() or not n_candidates.min():
        return float("nan")
    similarity = directions(embeddings) @ directions(embeddings).T
    similarity[lineages[:, np.newaxis] == lineages] = -np.inf
    nearest = _nearest(similarity, min(n_neighbors, int(n_candidates.min())))
    observed = (experiments[nearest] != experiments[:, np.newaxis]).mean()
    return float(observed / (n_others / n_candidates).mean())


def vote(
    fitted: NDArray[np.float64],
    labels: NDArray[np.int64],
    weights: NDArray[np.float64],
    tested: NDArray[np.float64],
) -> NDArray[np.float64]:
    """Return which share of the votes of its nearest fitted neighbors each tested row gets for each label.

    Parameters
    ----------
    fitted, tested : numpy.ndarray
        Embeddings, shapes (n_fit, features) and (n_test, features).
    labels, weights : numpy.ndarray
        Label, a number from 0, and number of votes, positive, of each fitted row, shape (n_fit,).

    Returns
    -------
    numpy.ndarray
        Shape (n_test, n_labels); each row sums to 1.
    """
    nearest = _nearest(directions(tested) @ directions(fitted).T, min(N_NEIGHBORS, len(fitted)))
    votes = np.stack([(weights * (labels == label))[nearest].sum(axis=1) for label in range(labels.max() + 1)], axis=1)
    return votes / votes.sum(axis=1, keepdims=True)


def _sizes(labels: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return for each row how many rows have its label, or its labels; shape (n_rows,)."""
    _, inverse, counts = np.unique(labels, return_inverse=True, return_counts=True, axis=0)
    return counts[inverse]


def _nearest(similarity: NDArray[np.float64], number: int) -> NDArray[np.int64]:
    """Return the columns of the largest values of each row, shape (n_rows, number), in no particular order."""
    if number == similarity.shape[1]:
        return np.broadcast_to(np.arange(number), similarity.shape)
    # Selecting a few of many is several times as fast here as with `numpy.argpartition`.
    return torch.from_numpy(similarity).topk(number, dim=1, sorted=False).indices.numpy()
