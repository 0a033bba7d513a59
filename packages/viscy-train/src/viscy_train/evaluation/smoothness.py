"""Smoothness: how far tracks move in the space of embeddings from frame to frame, compared with random pairs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from viscy_train.evaluation.interval import interval_of_ratio, units_of
from viscy_train.evaluation.representation import distances_of_steps

if TYPE_CHECKING:
    import pandas as pd
    from numpy.typing import NDArray


@dataclass(frozen=True, kw_only=True)
class Smoothness:
    """The cosine distance of consecutive frames of a track relative to that of random pairs of the experiment.

    Parameters
    ----------
    untrained, trained : float
        The ratio before and after training. Chance is 1.
    interval : tuple of float
        95 % interval of `trained` over units.
    unit : str
        ``position``, or ``lineage`` if there are fewer than three positions.
    n_units, n_steps : int
        Number of these units, and number of pairs of consecutive frames.
    """

    untrained: float
    trained: float
    interval: tuple[float, float]
    unit: str
    n_units: int
    n_steps: int


def measure_smoothness(
    untrained: NDArray[np.float32], trained: NDArray[np.float32], anchors: pd.DataFrame, is_query: NDArray[np.bool_]
) -> Smoothness | None:
    """Return how smoothly tracks move; None without consecutive frames, or if embeddings have collapsed.

    Parameters
    ----------
    untrained, trained : numpy.ndarray
        Embeddings before and after training, shape (n_anchors, features).
    anchors : pandas.DataFrame
        The anchor of each embedding.
    is_query : numpy.ndarray
        Which anchors to measure, shape (n_anchors,).
    """
    own = anchors[is_query].reset_index(drop=True)
    _, before, apart_before = distances_of_steps(untrained[is_query], own)
    rows, after, apart = distances_of_steps(trained[is_query], own)
    if not len(rows) or min(apart.sum(), apart_before.sum()) <= 1e-9 * len(rows):
        return None
    unit, units = units_of(own, rows)
    return Smoothness(
        untrained=float(before.sum() / apart_before.sum()),
        trained=float(after.sum() / apart.sum()),
        interval=interval_of_ratio(after, apart, units),
        unit=unit,
        n_units=len(np.unique(units)),
        n_steps=len(rows),
    )
