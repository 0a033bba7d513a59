"""Retrieval: recall@1 of a track among the cells of its experiment at a later timepoint, in the same channel."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from viscy_train.evaluation.interval import interval_of_share, units_of
from viscy_train.wording import count

if TYPE_CHECKING:
    import pandas as pd
    from numpy.typing import NDArray

_FRAMES_LATER = (1, 4)
_TRACK = ["experiment", "position", "track_id"]


@dataclass(frozen=True, kw_only=True)
class Recall:
    """Recall@1: how often the nearest embedding at a later timepoint is of the same track.

    Parameters
    ----------
    frames : int
        Number of frames from the query to the later timepoint.
    hours : float
        The same in hours, averaged over the queries.
    chance : float
        Expected recall@1 of a random guess.
    untrained, trained : float
        Recall@1 before and after training.
    hours_range : tuple of float, optional
        The fewest and the most of these hours, if experiments have different intervals.
    n_queries : int
        Number of queries.
    unit : str
        ``position``, or ``lineage`` if there are fewer than three positions.
    n_units : int
        Number of these units that the queries are from.
    untrained_interval, trained_interval : tuple of float, optional
        95 % intervals of the mean over the units.
    chance_in_position : float, optional
        Expected recall@1 after training if tracks are permuted within their position: a nearest cell that is in the
        position of the query is the right one as often as any other cell of the position.
    """

    frames: int
    hours: float
    chance: float
    untrained: float
    trained: float
    hours_range: tuple[float, float] | None = None
    n_queries: int = 0
    unit: str = "position"
    n_units: int = 0
    untrained_interval: tuple[float, float] | None = None
    trained_interval: tuple[float, float] | None = None
    chance_in_position: float | None = None

    @property
    def is_lower(self) -> bool:
        """Whether it is lower after training, by more than the interval allows."""
        highest = self.trained if self.trained_interval is None else self.trained_interval[1]
        return highest < self.untrained

    @property
    def time(self) -> str:
        """The time to the later timepoint: ``0.5 hours``, or ``4 frames (1.3 to 2.0 hours)``."""
        if self.hours_range is None:
            return f"{_round(self.hours)} hours"
        hours = " to ".join(map(_round, self.hours_range))
        return f"{count(self.frames, 'frame')} ({hours} hours)"


class Search(NamedTuple):
    """Queries at one timepoint of an experiment, and the gallery of all its cells at a later one."""

    queries: NDArray[np.int64]
    """Rows of the queries, shape (n_queries,)."""
    gallery: NDArray[np.int64]
    """Rows of the gallery, shape (n_gallery,)."""
    match: NDArray[np.int64]
    """Index in the gallery of each query's own track, shape (n_queries,)."""


def recall_at_1(
    untrained: NDArray[np.float32],
    trained: NDArray[np.float32],
    anchors: pd.DataFrame,
    is_query: NDArray[np.bool_] | None = None,
) -> list[Recall]:
    """Measure recall@1 one frame later and four frames later.

    Parameters
    ----------
    untrained, trained : numpy.ndarray
        Embeddings before and after training, shape (n_anchors, features), compared by cosine similarity.
    anchors : pandas.DataFrame
        The anchor of each embedding.
    is_query : numpy.ndarray, optional
        Which anchors are queries, shape (n_anchors,); all by default. The gallery always contains all anchors.

    Returns
    -------
    list of Recall
        One for each number of frames after which at least one query's track still exists.
    """
    if is_query is None:
        is_query = np.ones(len(anchors), dtype=bool)
    hours = anchors["hours_post_infection"].to_numpy()
    recall = []
    for frames in _FRAMES_LATER:
        searches = _make_searches(anchors, frames, is_query)
        if not searches:
            continue
        elapsed = np.concatenate([hours[gallery[match]] - hours[queries] for queries, gallery, match in searches])
        chance = [np.full(len(queries), 1 / len(gallery)) for queries, gallery, _ in searches]
        before, after = (_nearest(embeddings, searches) for embeddings in (untrained, trained))
        truth = np.concatenate([gallery[match] for _, gallery, match in searches])
        unit, units = units_of(anchors, np.concatenate([one.queries for one in searches]))
        recall.append(
            Recall(
                frames=frames,
                hours=float(np.mean(elapsed)),
                chance=float(np.mean(np.concatenate(chance))),
                untrained=float(np.mean(before == truth)),
                trained=float(np.mean(after == truth)),
                hours_range=_range(elapsed),
                n_queries=len(truth),
                unit=unit,
                n_units=len(np.unique(units)),
                untrained_interval=interval_of_share(before == truth, units),
                trained_interval=interval_of_share(after == truth, units),
                chance_in_position=_chance_in_position(after, truth, anchors, searches),
            )
        )
    return recall


def recall_one_frame_later(
    embeddings: NDArray[np.floating], anchors: pd.DataFrame, is_query: NDArray[np.bool_]
) -> float | None:
    """Return recall@1 of some embeddings one frame later; None if no query's track has a next frame.

    Parameters
    ----------
    embeddings, anchors, is_query
        See `recall_at_1`.
    """
    searches = _make_searches(anchors, 1, is_query)
    return _share_of_hits(embeddings, searches) if searches else None


def _make_searches(anchors: pd.DataFrame, frames: int, is_query: NDArray[np.bool_]) -> list[Search]:
    channel = ["channel"] if "channel" in anchors else []
    track = anchors.groupby([*_TRACK, *channel], observed=True).ngroup().to_numpy()
    searches = []
    for _, rows in anchors.groupby(["experiment", *channel], observed=True).indices.items():
        times = anchors["t"].to_numpy()[rows]
        for time in np.unique(times):
            now, later = rows[times == time], rows[times == time + frames]
            queries = now[is_query[now] & np.isin(track[now], track[later])]
            if len(queries):
                gallery = later[np.argsort(track[later])]
                searches.append(Search(queries, gallery, np.searchsorted(track[gallery], track[queries])))
    return searches


def _range(hours: NDArray[np.float64]) -> tuple[float, float] | None:
    """Return the smallest and the largest value, or None if they are equal up to rounding."""
    smallest, largest = float(hours.min()), float(hours.max())
    return None if np.isclose(smallest, largest) else (smallest, largest)


def _round(hours: float) -> str:
    return f"{hours:.1f}" if hours >= 1 else f"{hours:.2g}"


def _share_of_hits(embeddings: NDArray[np.floating], searches: list[Search]) -> float:
    truth = np.concatenate([gallery[match] for _, gallery, match in searches])
    return float(np.mean(_nearest(embeddings, searches) == truth))


def _nearest(embeddings: NDArray[np.floating], searches: list[Search]) -> NDArray[np.int64]:
    """Return the row of the nearest embedding in the gallery of each query, in the order of the searches."""
    length = np.linalg.norm(embeddings, axis=1, keepdims=True)
    directions = embeddings / np.maximum(length, np.finfo(np.float32).tiny)
    return np.concatenate(
        [gallery[(directions[queries] @ directions[gallery].T).argmax(axis=1)] for queries, gallery, _ in searches]
    )


def _chance_in_position(
    nearest: NDArray[np.int64], truth: NDArray[np.int64], anchors: pd.DataFrame, searches: list[Search]
) -> float:
    position = anchors.groupby(["experiment", "position"], observed=True).ngroup().to_numpy()
    sizes = []
    for queries, gallery, match in searches:
        counts = np.bincount(position[gallery], minlength=position.max() + 1)
        sizes.append(counts[position[gallery[match]]][: len(queries)])
    return float(np.mean((position[nearest] == position[truth]) / np.concatenate(sizes)))
