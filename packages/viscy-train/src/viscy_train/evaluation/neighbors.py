"""Neighbors: which cells are nearest in the space of embeddings, and what they have in common with an anchor.

A neighbor is a lineage: of all its embeddings, the one that is nearest to the anchor. Otherwise, the nearest ones would
be a few frames of the same cell. Neighbors are looked for among other lineages only, or among other positions or
experiments only, whose images were taken at another place or on another day.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, NamedTuple

import numpy as np
import pandas as pd

from viscy_train.evaluation.chance import Chance, measure_chance
from viscy_train.evaluation.interval import interval_of_share, units_of
from viscy_train.evaluation.representation import directions

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

type Among = Literal["experiment", "position", "lineage"]
"""What must differ between an anchor and its neighbors."""
N_NEIGHBORS = 5
MAX_QUERIES = 1000
_QUERIES_AT_ONCE = 256
_STRATUM = ["experiment", "condition"]


@dataclass(frozen=True, kw_only=True)
class NeighborShare:
    """How many of the nearest neighbors share something with their anchor.

    Parameters
    ----------
    label : str
        What: ``condition``, ``experiment``, ``plate``, ``well`` or ``position``.
    among : str
        What differs between the anchor and its neighbors: ``experiment``, ``position`` or ``lineage``.
    n_queries : int
        Number of anchors.
    unit : str
        What intervals are taken over, and labels are permuted among.
    n_units : int
        Number of positions, or of lineages, that the anchors are from.
    untrained, trained : float
        The share before and after training.
    untrained_interval, trained_interval : tuple of float
        95 % intervals over the units.
    permuted : Chance, optional
        The share after training if labels are permuted: those of positions, of the same experiment where that allows
        enough arrangements; those of lineages of the same experiment and condition if the label is the position.
    """

    label: str
    among: Among
    n_queries: int
    unit: str
    n_units: int
    untrained: float
    trained: float
    untrained_interval: tuple[float, float]
    trained_interval: tuple[float, float]
    permuted: Chance | None


class Neighbors(NamedTuple):
    """The nearest neighbors of some anchors, the nearest ones first; -1 where there are not so many."""

    lineages: NDArray[np.int64]
    """Numbers of the lineages of `Lineages`, shape (n_queries, n_neighbors)."""
    similarity: NDArray[np.float32]
    """Cosine similarity, shape (n_queries, n_neighbors)."""


class Lineages(NamedTuple):
    """The lineages of some anchors, of each channel if the table has a row for each."""

    of_row: NDArray[np.int64]
    """Number of the lineage of each anchor, shape (n_anchors,)."""
    first: NDArray[np.int64]
    """An anchor of each lineage, shape (n_lineages,)."""


def lineages_of(anchors: pd.DataFrame) -> Lineages:
    """Return the lineages of anchors."""
    of_row = _number(anchors, [*_columns("lineage"), *(["channel"] if "channel" in anchors else [])])
    return Lineages(of_row, np.unique(of_row, return_index=True)[1])


def find_neighbors(
    embeddings: NDArray[np.floating],
    anchors: pd.DataFrame,
    queries: NDArray[np.int64],
    among: Among,
    n_neighbors: int = N_NEIGHBORS,
) -> Neighbors:
    """Find the nearest neighbors of some anchors among all.

    Parameters
    ----------
    embeddings : numpy.ndarray
        Shape (n_anchors, features), compared by cosine similarity.
    anchors : pandas.DataFrame
        The anchor of each embedding: `experiment`, `position`, `lineage_id`, and `channel` if the table has it.
    queries : numpy.ndarray
        Rows of the anchors whose neighbors are wanted, shape (n_queries,).
    among : {"experiment", "position", "lineage"}
        What must differ between an anchor and its neighbors. They have the same channel.
    n_neighbors : int
        Number of neighbors.
    """
    lineages = lineages_of(anchors)
    order = np.argsort(lineages.of_row, kind="stable")
    starts = np.searchsorted(lineages.of_row[order], np.arange(len(lineages.first)))
    unit = directions(embeddings).astype(np.float32)
    own = _number(anchors, _columns(among))
    channel = _number(anchors, ["channel"]) if "channel" in anchors else np.zeros(len(anchors), dtype=np.int64)
    n = min(n_neighbors, len(starts))
    parts = []
    for start in range(0, len(queries), _QUERIES_AT_ONCE):
        rows = queries[start : start + _QUERIES_AT_ONCE]
        best = np.maximum.reduceat(unit[rows] @ unit[order].T, starts, axis=1)
        best[own[rows][:, None] == own[lineages.first]] = -np.inf
        best[channel[rows][:, None] != channel[lineages.first]] = -np.inf
        nearest = np.argpartition(-best, n - 1, axis=1)[:, :n]
        similarity = np.take_along_axis(best, nearest, axis=1)
        ranked = np.argsort(-similarity, axis=1, kind="stable")
        parts.append([np.take_along_axis(values, ranked, axis=1) for values in (nearest, similarity)])
    lineage, similarity = (np.concatenate(part) for part in zip(*parts, strict=True))
    return Neighbors(np.where(np.isfinite(similarity), lineage, -1), similarity)


def measure_neighbors(
    untrained: NDArray[np.float32],
    trained: NDArray[np.float32],
    anchors: pd.DataFrame,
    is_query: NDArray[np.bool_],
    plates: Mapping[str, str],
    seed: int,
) -> list[NeighborShare]:
    """Measure what nearest neighbors share with their anchors, before and after training.

    Parameters
    ----------
    untrained, trained : numpy.ndarray
        Embeddings before and after training, shape (n_anchors, features).
    anchors : pandas.DataFrame
        The anchor of each embedding.
    is_query : numpy.ndarray
        Which anchors are queries, shape (n_anchors,). Of more than 1,000, a random part is.
    plates : mapping of str to str
        The plate of each experiment.
    seed : int
        Seed of the queries and of the permutations.

    Returns
    -------
    list of NeighborShare
        Of what there is more than one: the condition, among other experiments and among other positions; experiment,
        plate and well, among other positions; the position, among other lineages.
    """
    queries = np.flatnonzero(is_query)
    if len(queries) > MAX_QUERIES:
        queries = np.sort(np.random.default_rng([seed, 6]).choice(queries, MAX_QUERIES, replace=False))
    found: dict[Among, list[Neighbors]] = {}
    shares = []
    for label, among in _kinds(anchors, plates):
        if among not in found:
            found[among] = [find_neighbors(embeddings, anchors, queries, among) for embeddings in (untrained, trained)]
        shares.append(_share(label, among, labels_of(anchors, label, plates), anchors, queries, found[among], seed))
    return [share for share in shares if share is not None]


def labels_of(anchors: pd.DataFrame, label: str, plates: Mapping[str, str]) -> NDArray[np.int64]:
    """Return a number for each anchor: that of its condition, experiment, plate, well or position."""
    if label == "plate":
        names = anchors["experiment"].astype(str)
        return pd.factorize(names.map(lambda name: plates.get(name, name)))[0]
    return _number(anchors, _columns(label))


def _kinds(anchors: pd.DataFrame, plates: Mapping[str, str]) -> list[tuple[str, Among]]:
    """Return what can be shared, and among what neighbors are looked for."""
    numbers = {
        label: labels_of(anchors, label, plates)
        for label in ("condition", "experiment", "plate", "well", "position")
        if label != "well" or "well" in anchors
    }
    n = {label: len(np.unique(number)) for label, number in numbers.items()}
    kinds: list[tuple[str, Among]] = []
    if n["condition"] > 1:
        kinds += [("condition", "experiment")] if n["experiment"] > 1 else []
        kinds += [("condition", "position")] if n["position"] > 1 else []
    kinds += [("experiment", "position")] if n["experiment"] > 1 else []
    # Otherwise, each experiment is a plate of its own.
    kinds += [("plate", "position")] if 1 < n["plate"] < n["experiment"] else []
    # Otherwise, each well is a position, and no neighbor can be of it.
    kinds += [("well", "position")] if 1 < n.get("well", 0) < n["position"] else []
    # Otherwise, what cells of a position share may be their condition.
    kinds += [("position", "lineage")] if n["position"] > len(np.unique(_number(anchors, _STRATUM))) else []
    return kinds


def _share(
    label: str,
    among: Among,
    labels: NDArray[np.int64],
    anchors: pd.DataFrame,
    queries: NDArray[np.int64],
    found: list[Neighbors],
    seed: int,
) -> NeighborShare | None:
    """Return how many neighbors before and after training have the label of their anchor."""
    lineages = lineages_of(anchors)
    has_some = (found[1].lineages >= 0).any(axis=1)
    if not has_some.any():
        return None
    queries, own = queries[has_some], lineages.of_row[queries[has_some]]
    before, after = (neighbors.lineages[has_some] for neighbors in found)
    unit, units = units_of(anchors, queries)
    of_lineage = labels[lineages.first]
    hits = [_hits(of_lineage, own, nearest) for nearest in (before, after)]
    is_position = label == "position"
    changing = lineages.of_row if is_position else _number(anchors, _columns("position"))
    strata = _number(anchors, _STRATUM if is_position else ["experiment"])
    permuted = measure_chance(
        lambda permuted: float(_hits(permuted, own, after).mean()),
        of_lineage,
        changing[lineages.first],
        strata[lineages.first],
        seed,
    )
    return NeighborShare(
        label=label,
        among=among,
        n_queries=len(queries),
        unit=unit,
        n_units=len(np.unique(units)),
        untrained=float(hits[0].mean()),
        trained=float(hits[1].mean()),
        untrained_interval=interval_of_share(hits[0], units),
        trained_interval=interval_of_share(hits[1], units),
        permuted=permuted,
    )


def _hits(of_lineage: NDArray[np.int64], own: NDArray[np.int64], nearest: NDArray[np.int64]) -> NDArray[np.float64]:
    """Return the share of the neighbors of each query that have its label, shape (n_queries,)."""
    exists = nearest >= 0
    is_same = (of_lineage[nearest] == of_lineage[own][:, None]) & exists
    return is_same.sum(axis=1) / np.maximum(exists.sum(axis=1), 1)


def _columns(label: str) -> list[str]:
    """Return the columns without which the values of one mean nothing, and the column."""
    of_lineage = ["experiment", "position", "lineage_id"]
    return {"position": of_lineage[:2], "well": ["experiment", "well"], "lineage": of_lineage}.get(label, [label])


def _number(anchors: pd.DataFrame, columns: list[str]) -> NDArray[np.int64]:
    return anchors.groupby(columns, observed=True, sort=False).ngroup().to_numpy()
