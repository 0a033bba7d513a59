"""Power: the deviation from a law that a statistical assertion finds in a given number of batches.

Each function has the false alarm rate of its assertion and `miss`, the largest probability that a deviation as large as
the one it returns passes unnoticed. Deviations smaller than that may be found too, only not so surely.
"""

from __future__ import annotations

import math
from collections.abc import Callable

from scipy import optimize, special

from viscy_sampling_testkit.assertions._failure import check_false_alarm


def detectable_means(
    n_batches: int, quota: float, spread: float | None = None, *, false_alarm: float = 1e-6, miss: float = 0.01
) -> tuple[float, float]:
    """Return the means that `assert_mean_counts` finds to be too low, or too high.

    Parameters
    ----------
    n_batches : int
        Number of counts.
    quota : float
        The mean that is expected.
    spread : float, optional
        As in the assertion: by default counts are the floor or the ceiling of the quota.
    false_alarm, miss : float
        As the module says.

    Returns
    -------
    tuple of float
        A mean at or below the first, or at or above the second, is found. They are infinite where no mean is found
        that the counts can have; of a whole quota without spread, every other mean is found, and both are the quota.

    Examples
    --------
    >>> low, high = detectable_means(1000, 0.5)
    >>> round(low, 3), round(high, 3)
    (0.368, 0.632)
    """
    _check(n_batches, false_alarm, miss)
    if spread is not None:
        reach = spread * (math.sqrt(math.log(2 / false_alarm)) + math.sqrt(math.log(1 / miss)))
        return quota - reach / math.sqrt(2 * n_batches), quota + reach / math.sqrt(2 * n_batches)
    low = math.floor(quota + 1e-9)
    fraction = quota - low
    if fraction < 1e-9:
        return quota, quota
    needed = math.log(2 / false_alarm) / n_batches, math.log(1 / miss) / n_batches
    found = [low + _beyond(fraction, needed, upwards) for upwards in (False, True)]
    return found[0], found[1]


def detectable_row_ratios(
    times: float, n_anchors: int, *, false_alarm: float = 1e-6, miss: float = 0.01
) -> tuple[float, float]:
    """Return by which factors a row must come too seldom, or too often, for `assert_row_inclusion` to find it.

    Parameters
    ----------
    times : float
        How often the row is due in all batches together.
    n_anchors : int
        Number of rows of the table.
    false_alarm, miss : float
        As the module says.

    Returns
    -------
    tuple of float
        Ratios of how often the row comes to how often it is due. The first is minus infinity where even a row that
        never comes is not found.

    Examples
    --------
    >>> low, high = detectable_row_ratios(60, 240)
    >>> round(low, 2), round(high, 2)
    (0.14, 2.52)
    """
    _check(times, false_alarm, miss)
    alarm, safe = math.log(2 * n_anchors / false_alarm), math.log(1 / miss)

    def found(ratio: float, threshold: float) -> float:
        return float(special.kl_div(threshold, times * ratio)) - safe

    highest = _root(lambda x: float(special.kl_div(x, times)) - alarm, times, 2 * times + 4 * alarm)
    high = _root(lambda r: found(r, highest), highest / times, 2 * highest / times + 4 * safe / times)
    if times < alarm:
        return -math.inf, high
    lowest = _root(lambda x: alarm - float(special.kl_div(x, times)), 0.0, times)
    # Of a row that never comes there is no chance that it comes more often than the threshold.
    low = _root(lambda r: -found(r, lowest), 0.0, lowest / times) if lowest > 0 else 0.0
    return low, high


def detectable_categories(n_draws: float, n_categories: int, *, false_alarm: float = 1e-6, miss: float = 0.01) -> float:
    """Return the deviation of frequencies that `assert_uniform` finds.

    Parameters
    ----------
    n_draws : int
        Sum of the counts.
    n_categories : int
        Number of counts.
    false_alarm, miss : float
        As the module says.

    Returns
    -------
    float
        Square root of the sum over categories of ``(p - e) ** 2 / e``, where ``p`` is a category's probability and
        ``e`` the expected one (the effect size ``w`` of J. Cohen, Statistical Power Analysis for the Behavioral
        Sciences, 1988).

    Examples
    --------
    >>> round(detectable_categories(2000, 20), 3)
    0.207
    """
    _check(n_draws, false_alarm, miss)
    return math.sqrt(_noncentrality(n_categories - 1, false_alarm, miss) / n_draws)


def detectable_place(
    n_batches: int, batch_size: int, fraction: float, *, false_alarm: float = 1e-6, miss: float = 0.01
) -> float:
    """Return by how much a label's probability at one place must be off for `assert_exchangeable_slots` to find it.

    For two labels, where the other places share the deviation; a label that prefers several places is found sooner.

    Parameters
    ----------
    n_batches : int
        Number of batches; ``n_batches * fraction * (1 - fraction)`` must be 5 or more for each place to be tested.
    batch_size : int
        Slots of a batch.
    fraction : float
        Fraction of the slots, in (0, 1), that have the label.
    false_alarm, miss : float
        As the module says.

    Returns
    -------
    float
        A difference of probabilities, between the place and the whole batch.

    Raises
    ------
    ValueError
        If there are too few batches for each place to be tested.

    Examples
    --------
    >>> round(detectable_place(400, 12, 0.5), 3)
    0.22
    """
    _check(n_batches, false_alarm, miss)
    variance = fraction * (1 - fraction)
    if n_batches * variance < 5:
        raise ValueError(
            f"n_batches * fraction * (1 - fraction) must be at least 5, got {n_batches * variance:g}; give more batches"
        )
    # Half of the rate is that of the test of places.
    return math.sqrt(_noncentrality(batch_size - 1, false_alarm / 2, miss) * variance / n_batches)


def detectable_share(
    n_batches: int, batch_size: int, n_anchors: int, *, false_alarm: float = 1e-6, miss: float = 0.01
) -> float:
    """Return the share of slots that two sequences must have in common for `assert_unrelated` to find it.

    For batches without restriction, whose slots coincide, beyond that share, as chance gives it. Infinite where even
    equal sequences are not found by their coincidences. A whole batch in common is found at once where it is unlikely.

    Parameters
    ----------
    n_batches : int
        Batches of the shorter sequence.
    batch_size : int
        Slots of a batch.
    n_anchors : int
        Rows that a batch can be drawn from.
    false_alarm, miss : float
        As the module says.

    Examples
    --------
    >>> round(detectable_share(100, 10, 1000), 2)
    0.33
    """
    _check(n_batches, false_alarm, miss)
    by_chance = n_batches * batch_size**2 / n_anchors

    def found(share: float) -> float:
        """Return how far coincidences exceed their bound, when chance gives as few as it may."""
        common = share * n_batches * batch_size
        # What is in common also raises the mean over pairings to which coincidences are compared.
        mean = by_chance + common / n_batches
        fewest = common + (1 - share) * by_chance + float(special.ndtri(miss)) * math.sqrt(by_chance)
        return fewest - mean - _excess(mean, batch_size, math.log(2 / false_alarm))

    return _root(found, 0.0, 1.0) if found(1.0) > 0 else math.inf


def _excess(mean: float, unit: float, log: float) -> float:
    """Return where the bound of Chatterjee, exp(-t**2 / (4 * unit * mean + 2 * unit * t)), is exp(-log)."""
    return unit * log + math.sqrt((unit * log) ** 2 + 4 * unit * mean * log)


def _beyond(p: float, needed: tuple[float, float], upwards: bool) -> float:
    """Return the probability whose observed rate passes the threshold of an expected rate p all but surely."""
    alarm, safe = needed
    end = 1.0 if upwards else 0.0
    if _entropy(end, p) < alarm:
        return math.inf if upwards else -math.inf
    threshold = _root(lambda x: _entropy(x, p) - alarm, *sorted((p, end)))
    # Of counts that are all at the end, none lies before the threshold.
    edge = end - math.copysign(1e-12, end - p)
    if _entropy(threshold, edge) < safe:
        return end
    return _root(lambda q: _entropy(threshold, q) - safe, *sorted((threshold, edge)))


def _entropy(x: float, p: float) -> float:
    return float(special.rel_entr(x, p) + special.rel_entr(1 - x, 1 - p))


def _noncentrality(freedom: int, false_alarm: float, miss: float) -> float:
    """Return the noncentrality with which chi-square stays below its bound with probability `miss`."""
    return float(special.chndtrinc(special.chdtri(freedom, false_alarm), freedom, miss))


def _root(function: Callable[[float], float], low: float, high: float) -> float:
    return float(optimize.brentq(function, low, high, xtol=1e-12))


def _check(n: float, false_alarm: float, miss: float) -> None:
    check_false_alarm(false_alarm)
    if not n > 0:
        raise ValueError(f"there must be something to count, got {n!r}")
    if not 0 < miss < 1:
        raise ValueError(f"miss must be in (0, 1), got {miss!r}")
