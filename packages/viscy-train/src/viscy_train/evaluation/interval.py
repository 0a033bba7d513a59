"""Interval: the 95 % confidence interval of a mean or ratio over units, by Student's t distribution."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import pandas as pd
    from numpy.typing import NDArray

_FEW_UNITS = 3


def interval_of_t(mean: float, error: float, n_units: int) -> tuple[float, float]:
    """Return the 95 % interval of a share, cut at 0 and 1.

    Parameters
    ----------
    mean, error : float
        The share and its standard error.
    n_units : int
        Number of independent units, such as positions. With fewer than two, nothing is known: 0 to 1.

    Examples
    --------
    >>> tuple(round(end, 3) for end in interval_of_t(0.5, 0.1, 10))
    (0.274, 0.726)
    """
    if n_units < 2:
        return 0.0, 1.0
    width = _half_width(n_units) * error
    return max(0.0, mean - width), min(1.0, mean + width)


def interval_of_share(values: NDArray, units: NDArray[np.int64]) -> tuple[float, float]:
    """Return the 95 % interval of a mean of hits, or of shares, of rows that come in units, cut at 0 and 1.

    Parameters
    ----------
    values : numpy.ndarray
        A number between 0 and 1 for each row, or whether it is a hit, shape (n_rows,).
    units : numpy.ndarray
        The unit of each row, shape (n_rows,). The mean is a ratio of two sums over the units.
    """
    n_units = len(np.unique(units))
    return interval_of_t(float(values.mean()), _error_of_ratio(values, np.ones(len(values)), units), n_units)


def interval_of_ratio(
    above: NDArray[np.float64], below: NDArray[np.float64], units: NDArray[np.int64]
) -> tuple[float, float]:
    """Return the 95 % interval of a ratio of the sums of two columns, cut at 0.

    Parameters
    ----------
    above, below : numpy.ndarray
        Numerator and denominator of each row, shape (n_rows,).
    units : numpy.ndarray
        The unit of each row, shape (n_rows,). With fewer than two, nothing is known: 0 to infinity.
    """
    n_units, ratio = len(np.unique(units)), float(above.sum() / below.sum())
    if n_units < 2:
        return 0.0, float("inf")
    width = _half_width(n_units) * _error_of_ratio(above, below, units)
    return max(0.0, ratio - width), ratio + width


def units_of(anchors: pd.DataFrame, rows: NDArray[np.int64]) -> tuple[str, NDArray[np.int64]]:
    """Return the kind of unit and the unit of each row: positions, or lineages if there are fewer than three."""
    for unit, columns in (("position", ["experiment", "position"]), ("lineage", ["experiment", "lineage_id"])):
        numbers = anchors.groupby(columns, observed=True).ngroup().to_numpy()[rows]
        if len(np.unique(numbers)) >= _FEW_UNITS or unit == "lineage":
            break
    return unit, numbers


def _half_width(n_units: int) -> float:
    """Return half the width of the interval, in standard errors."""
    from scipy.special import stdtrit  # takes a quarter of a second, and `inspect` has intervals only with --crops

    return float(stdtrit(n_units - 1, 0.975))


def _error_of_ratio(above: NDArray, below: NDArray[np.float64], units: NDArray[np.int64]) -> float:
    """Return the standard error of a ratio of two sums over units."""
    numbers = np.unique(units, return_inverse=True)[1]
    n_units = int(numbers.max()) + 1
    residuals = np.bincount(numbers, weights=above - above.sum() / below.sum() * below)
    return float(np.sqrt((residuals**2).sum() * n_units / max(n_units - 1, 1)) / below.sum())
