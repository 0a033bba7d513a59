"""Interval: between which values a mean over units lies, by Student's t distribution."""

from __future__ import annotations


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
    from scipy.special import stdtrit  # importing it takes 0.2 s

    width = float(stdtrit(n_units - 1, 0.975)) * error
    return max(0.0, mean - width), min(1.0, mean + width)
