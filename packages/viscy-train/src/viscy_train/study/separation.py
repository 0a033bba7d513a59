"""Separation: the rows that fit a probe share no lineage and no position with the rows that test it.

Frames of a track resemble each other, and so do cells of a field of view. A probe that has seen a cell, or its field of
view, recognizes it, whatever the embeddings say of its state. So every probe of a study is applied here.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable

    import pandas as pd
    from numpy.typing import NDArray

_UNITS = {"lineage": ["lineage_id"], "position": ["experiment", "position"]}


class LeakingProbeError(AssertionError):
    """A probe was about to be tested on a lineage or position that it was fitted to."""


def apply_probe[T](
    probe: Callable[[NDArray[np.int64], NDArray[np.int64]], T],
    observations: pd.DataFrame,
    fit: NDArray[np.int64],
    test: NDArray[np.int64],
) -> T:
    """Return what a probe measures, after a check that its two sets of rows are separate.

    Parameters
    ----------
    probe : callable
        Takes the rows to fit and the rows to test, and returns what was measured.
    observations : pandas.DataFrame
        The observation of each embedding: `lineage_id`, `experiment` and `position`.
    fit, test : numpy.ndarray
        Numbers of rows, shapes (n_fit,) and (n_test,).

    Raises
    ------
    LeakingProbeError
        If the two share a lineage or a position.
    """
    require_separation(observations, fit, test)
    return probe(fit, test)


def require_separation(observations: pd.DataFrame, fit: NDArray[np.int64], test: NDArray[np.int64]) -> None:
    """Raise an error if some rows share a lineage or a position with others.

    Parameters
    ----------
    observations, fit, test
        See `apply_probe`.

    Raises
    ------
    LeakingProbeError
        If they do.
    """
    for unit, columns in _UNITS.items():
        number = observations.groupby(columns, observed=True, sort=False).ngroup().to_numpy()
        shared = np.intersect1d(number[fit], number[test])
        if len(shared):
            row = observations.iloc[int(np.flatnonzero(number == shared[0])[0])]
            example = " ".join(str(row[column]) for column in columns)
            raise LeakingProbeError(
                f"a probe must not be tested on a {unit} that it was fitted to, got {len(shared)} of them, such as "
                f"{example}"
            )
