"""Representation: what the embeddings of a set of observations say about an encoder while it trains.

Three numbers need no labels and no classifier.

- The effective rank (Roy and Vetterli 2007, "The effective rank: a measure of effective dimensionality") is the
  exponential of the entropy of the singular values, divided by their sum. It is k if k directions have equal singular
  values and all others none. Garrido et al. 2023, "RankMe", use it to compare encoders. As there, the mean of the
  embeddings is not subtracted: embeddings that have collapsed to a point have rank 1, where what is left after the
  subtraction, rounding and noise, would have many directions.
- Recall@1 is how often the nearest embedding one frame later, among the cells of the experiment, is of the same track;
  see `viscy_train.evaluation.retrieval`. The module of the network logs that of a batch.
- Temporal smoothness is the mean cosine distance between consecutive frames of a track, divided by that between two
  random observations of the same experiment. It is 1 if time says nothing, and near 0 if a track moves slowly through
  the space of embeddings.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from viscy_train.positives.relatives import expand_ranges
from viscy_train.row_slices import row_slices, run_starts

if TYPE_CHECKING:
    import pandas as pd
    from numpy.typing import NDArray

_TRACK = ["experiment", "position", "track_id"]
# Columns that only tables with a row for each channel have.
_CHANNEL = "channel"
COLLAPSED_RANK = 1.1
"""Embeddings with a lower effective rank have collapsed."""
# Fewer embeddings are too few to tell.
_MIN_OBSERVATIONS = 50
# Cosine distances of this size are rounding errors of float32.
_ROUNDING = 1e-9


@dataclass(frozen=True, kw_only=True)
class Representation:
    """What some embeddings say.

    Parameters
    ----------
    n_observations : int
        Number of embeddings.
    effective_rank : float
        Effective rank of the embeddings, at least 1.
    temporal_smoothness : float, optional
        None if no track has two consecutive frames among the observations.
    """

    n_observations: int
    effective_rank: float
    temporal_smoothness: float | None


def effective_rank(matrix: NDArray[np.floating]) -> float:
    """Return the effective rank of a matrix.

    Parameters
    ----------
    matrix : numpy.ndarray
        Shape (n_rows, n_columns).

    Returns
    -------
    float
        Between 1 and the smaller side of the matrix; 1 for a matrix of zeros. Singular values below the precision of
        float32, relative to the largest, count as 0.

    Examples
    --------
    >>> round(effective_rank(np.eye(5)), 6)
    5.0
    >>> round(effective_rank(np.ones((4, 3))), 6)
    1.0
    """
    values = np.asarray(matrix, dtype=np.float64)
    product = values.T @ values if values.shape[0] > values.shape[1] else values @ values.T
    values = np.sqrt(np.maximum(np.linalg.eigvalsh(product), 0))
    values = values[values > values.max(initial=0.0) * np.finfo(np.float32).eps]
    if not len(values):
        return 1.0
    shares = values / values.sum()
    return float(np.exp(-(shares * np.log(shares)).sum()))


def temporal_smoothness(embeddings: NDArray[np.floating], observations: pd.DataFrame) -> float | None:
    """Return the cosine distance of consecutive frames of a track relative to that of random pairs.

    Parameters
    ----------
    embeddings : numpy.ndarray
        Shape (n_observations, features).
    observations : pandas.DataFrame
        The observation of each: `experiment`, `position`, `track_id`, `t`, and `channel` if the table has it. No row
        may occur twice.

    Returns
    -------
    float, optional
        Sum over all consecutive frames of the distance of the two, divided by the sum over the same frames of the mean
        distance between all pairs of different observations of the experiment (and channel). None without consecutive
        frames, or if all embeddings of these experiments are equal.
    """
    _, moved, random = distances_of_steps(embeddings, observations)
    return float(moved.sum() / random.sum()) if random.sum() > _ROUNDING * len(random) else None


def distances_of_steps(
    embeddings: NDArray[np.floating], observations: pd.DataFrame
) -> tuple[NDArray[np.int64], NDArray[np.float64], NDArray[np.float64]]:
    """Return how far tracks move from frame to frame, and how far random pairs are apart.

    Parameters
    ----------
    embeddings, observations
        See `temporal_smoothness`.

    Returns
    -------
    rows : numpy.ndarray
        Each row that has a next frame, shape (n_steps,).
    moved, random : numpy.ndarray
        The cosine distance to it, and the mean cosine distance of all pairs of different observations of the
        experiment (and channel), shape (n_steps,).
    """
    unit = directions(embeddings)
    earlier, later = _consecutive_frames(observations)
    if not len(earlier):
        return earlier, np.empty(0), np.empty(0)
    group = observations.groupby(_with_channel(observations, ["experiment"]), observed=True, sort=False).ngroup()
    numbers = group.to_numpy()
    # The distances of all pairs sum to a function of the sum of the directions.
    sums = np.zeros((numbers.max() + 1, unit.shape[1]))
    np.add.at(sums, numbers, unit)
    sizes = np.bincount(numbers).astype(float)
    norms = np.bincount(numbers, weights=(unit**2).sum(axis=1))
    of_pairs = 1 - ((sums**2).sum(axis=1) - norms) / np.maximum(sizes * (sizes - 1), 1)
    moved = 1 - (unit[earlier] * unit[later]).sum(axis=1)
    return earlier, moved, of_pairs[numbers[earlier]]


def describe_representation(embeddings: NDArray[np.floating], observations: pd.DataFrame) -> Representation | None:
    """Return what embeddings say; None if there are fewer than two, or one is not finite.

    Parameters
    ----------
    embeddings, observations
        See `temporal_smoothness`.
    """
    if len(embeddings) < 2 or not np.isfinite(embeddings).all():
        return None
    return Representation(
        n_observations=len(embeddings),
        effective_rank=effective_rank(embeddings),
        temporal_smoothness=temporal_smoothness(embeddings, observations),
    )


def warn_of_collapse(found: Representation) -> str | None:
    """Return a sentence if the embeddings have collapsed.

    Parameters
    ----------
    found : Representation
        What the embeddings say.

    Returns
    -------
    str, optional
        If the effective rank is below 1.1: all embeddings have nearly the same direction, or its opposite. None
        otherwise, and for fewer than 50 observations.

    Notes
    -----
    The bound comes from trials on the simulated cells of the tests, before training and after 5 to 120 steps: encoders
    that had collapsed at a learning rate of 0.3 or 3 had ranks from 1.00 to 1.05; ``tiny`` of 8 and of 64 features and
    four networks of timm that had not had at least 1.9.
    """
    if found.n_observations < _MIN_OBSERVATIONS or found.effective_rank >= COLLAPSED_RANK:
        return None
    return (
        f"the embeddings have collapsed: their effective rank is {found.effective_rank:.2f}, so all cells look nearly "
        "the same to the encoder; lower model.optimizer.learning_rate, or start again with another seed_everything"
    )


def rows_to_watch(observations: pd.DataFrame, rows: NDArray[np.int64], max_rows: int, seed: int) -> NDArray[np.int64]:
    """Choose complete tracks of which the representation is watched.

    Parameters
    ----------
    observations : pandas.DataFrame
        The anchor table, sorted as it is, so that the rows of a track are consecutive.
    rows : numpy.ndarray
        Rows that are kept for validation.
    max_rows : int
        Tracks are added in random order until they have as many of these rows; all tracks are if they have fewer.
    seed : int
        Seed of the order.

    Returns
    -------
    numpy.ndarray
        Rows of the tracks, ascending; the same in every process.
    """
    first = run_starts(observations[_with_channel(observations, _TRACK)])
    sizes = np.zeros(len(first), dtype=np.int64)
    for part in row_slices(len(rows), rows):
        sizes += np.bincount(np.searchsorted(first, rows[part], side="right") - 1, minlength=len(first))
    order = np.random.default_rng([seed, len(sizes)]).permutation(np.flatnonzero(sizes))
    chosen = order[np.cumsum(sizes[order]) <= max_rows]
    chosen = np.sort(chosen if len(chosen) else order[:1])
    return expand_ranges(first[chosen], np.append(first[1:], len(observations))[chosen])[1]


def directions(embeddings: NDArray[np.floating]) -> NDArray[np.float64]:
    """Return embeddings divided by their lengths, in float64, shape (n_rows, features)."""
    values = np.asarray(embeddings, dtype=np.float64)
    return values / np.maximum(np.linalg.norm(values, axis=1, keepdims=True), np.finfo(np.float32).tiny)


def _consecutive_frames(observations: pd.DataFrame) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return the places of all pairs of consecutive frames of a track: of the earlier one, and of the later one."""
    columns = _with_channel(observations, _TRACK)
    track = observations.groupby(columns, observed=True, sort=False).ngroup().to_numpy()
    frame = observations["t"].to_numpy()
    order = np.lexsort((frame, track))
    follows = (np.diff(track[order]) == 0) & (np.diff(frame[order]) == 1)
    return order[:-1][follows], order[1:][follows]


def _with_channel(observations: pd.DataFrame, columns: list[str]) -> list[str]:
    return [*columns, _CHANNEL] if _CHANNEL in observations else columns
