"""Choice: random choices, given uniform random numbers."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from viscy_train.positives.relatives import expand_ranges

if TYPE_CHECKING:
    from numpy.typing import NDArray


def scale(draws: NDArray[np.float64], n: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return integers in [0, n) for uniform numbers in [0, 1); a product just below n may be rounded up to n."""
    return np.minimum((draws * n).astype(np.int64), n - 1)


def choose_weighted(
    log_weights: NDArray[np.float64], sizes: NDArray[np.int64], draws: NDArray[np.float64]
) -> NDArray[np.int64]:
    """Choose one of the items of each group, with probabilities proportional to their weights.

    Parameters
    ----------
    log_weights : numpy.ndarray
        Logarithms of the weights, one group after the other.
    sizes : numpy.ndarray
        Number of items of each group, at least 1, shape (n,).
    draws : numpy.ndarray
        Uniform random numbers in [0, 1), shape (n,).

    Returns
    -------
    numpy.ndarray
        Index of the chosen item in its group, shape (n,). Each depends only on its own group and number.
    """
    if not len(sizes):
        return np.zeros(0, dtype=np.int64)
    group, item = np.repeat(np.arange(len(sizes)), sizes), expand_ranges(np.zeros_like(sizes), sizes)[1]
    padded = np.full((len(sizes), int(sizes.max())), -np.inf)
    padded[group, item] = log_weights
    # Relative to the largest, so that no group has only weights that are rounded to 0.
    sums = np.exp(padded - padded.max(axis=1, keepdims=True)).cumsum(axis=1)
    chosen = (sums <= draws[:, None] * sums[:, -1:]).sum(axis=1)
    return np.minimum(chosen, sizes - 1)
