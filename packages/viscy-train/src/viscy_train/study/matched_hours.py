"""Matched hours: weights with which all conditions have the same distribution of hours.

Where conditions are imaged at different hours, a probe that knows the hour predicts the condition. With the weights,
the hour says nothing about the condition.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

BIN = 1.0
"""Width of a bin, in hours."""
# Hours are sums of rounded intervals.
_DECIMALS = 6


def match_hours(labels: NDArray[np.int64], hours: NDArray[np.floating]) -> NDArray[np.float64]:
    """Return a weight for each row.

    Parameters
    ----------
    labels : numpy.ndarray
        The condition of each row, as a number, shape (n_rows,).
    hours : numpy.ndarray
        Hours of each row, shape (n_rows,). Rows without hours have weight 0.

    Returns
    -------
    numpy.ndarray
        Shape (n_rows,). Hours are counted in bins of one hour. Of a bin with n rows of a condition and m of the
        condition that has the fewest there, a row has the weight m / n; where a condition is missing, 0. So every
        condition has the total weight m in the bin. The weights are scaled to a mean of 1 over the rows that have any;
        all are 0 if the conditions share no bin.

    Examples
    --------
    Two rows of condition 0 and one of condition 1 in the first hour, and a condition that is alone in the second:

    >>> match_hours(np.array([0, 0, 1, 1]), np.array([0.2, 0.7, 0.5, 1.5])).tolist()
    [0.75, 0.75, 1.5, 0.0]
    """
    weights = np.zeros(len(labels))
    known = np.flatnonzero(np.isfinite(hours))
    if not len(known):
        return weights
    _, label = np.unique(labels, return_inverse=True)
    _, place = np.unique(np.floor(np.round(hours[known] / BIN, _DECIMALS)), return_inverse=True)
    counts = np.zeros((place.max() + 1, label.max() + 1))
    np.add.at(counts, (place, label[known]), 1)
    weights[known] = counts.min(axis=1)[place] / counts[place, label[known]]
    total = weights.sum()
    return weights * ((weights > 0).sum() / total) if total else weights
