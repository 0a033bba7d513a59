"""Retrieval: whether a cell is found again, some time later, as the nearest among the cells of its experiment."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import pandas as pd
    from numpy.typing import NDArray

_GAPS = (1, 4)
_CELL = ["experiment", "position", "track_id"]


@dataclass(frozen=True, kw_only=True)
class Retrieval:
    """How often a cell was found again.

    Parameters
    ----------
    frames : int
        How much later it was sought.
    hours : float
        The same in hours, on average over the experiments.
    chance : float
        How often a guess finds it.
    untrained, trained : float
        How often its nearest neighbour is the cell itself, before and after training.
    """

    frames: int
    hours: float
    chance: float
    untrained: float
    trained: float


def find_again(
    untrained: NDArray[np.float32],
    trained: NDArray[np.float32],
    anchors: pd.DataFrame,
    sought: NDArray[np.bool_] | None = None,
) -> list[Retrieval]:
    """Seek cells among all cells of their experiment one frame later, and four.

    Parameters
    ----------
    untrained, trained : numpy.ndarray
        Embeddings, shape (n_anchors, features); compared by their angle.
    anchors : pandas.DataFrame
        The anchor table.
    sought : numpy.ndarray, optional
        Which of the cells are sought, shape (n_anchors,); all by default.

    Returns
    -------
    list of Retrieval
        One for each distance in time, without those at which no cell is there any more.
    """
    found = []
    if sought is None:
        sought = np.ones(len(anchors), dtype=bool)
    for frames in _GAPS:
        searches = _searches(anchors, frames, sought)
        if not searches:
            continue
        hours = anchors["hours_post_infection"].to_numpy()
        found.append(
            Retrieval(
                frames=frames,
                hours=float(
                    np.mean(np.concatenate([hours[later[same]] - hours[now] for now, later, same in searches]))
                ),
                chance=float(
                    np.mean(np.concatenate([np.full(len(now), 1 / len(later)) for now, later, _ in searches]))
                ),
                untrained=_share_found(untrained, searches),
                trained=_share_found(trained, searches),
            )
        )
    return found


Search = tuple["NDArray[np.int64]", "NDArray[np.int64]", "NDArray[np.int64]"]
"""Rows of the cells that are sought, rows they are sought among, and which of the latter each of the former is."""


def _searches(anchors: pd.DataFrame, frames: int, sought: NDArray[np.bool_]) -> list[Search]:
    cell = anchors.groupby(_CELL, observed=True).ngroup().to_numpy()
    searches = []
    for _, rows in anchors.groupby("experiment", observed=True).indices.items():
        times = anchors["t"].to_numpy()[rows]
        for time in np.unique(times):
            now, later = rows[times == time], rows[times == time + frames]
            stays = sought[now] & np.isin(cell[now], cell[later])
            if stays.any():
                now, later = now[stays], later[np.argsort(cell[later])]
                searches.append((now, later, np.searchsorted(cell[later], cell[now])))
    return searches


def _share_found(embeddings: NDArray[np.float32], searches: list[Search]) -> float:
    length = np.linalg.norm(embeddings, axis=1, keepdims=True)
    directions = embeddings / np.maximum(length, np.finfo(np.float32).tiny)
    hits = [(directions[now] @ directions[later].T).argmax(axis=1) == same for now, later, same in searches]
    return float(np.mean(np.concatenate(hits)))
