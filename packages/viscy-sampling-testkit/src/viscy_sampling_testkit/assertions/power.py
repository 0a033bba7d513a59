"""Power: the deviation from a law that a statistical assertion detects in a given number of batches.

Each function takes the false-alarm rate of its assertion, and `miss`, the largest probability that the assertion misses
a deviation as large as the one returned. Smaller deviations may be detected too, with a lower probability.
"""

from __future__ import annotations

import math
from collections.abc import Callable

from scipy import optimize, special

from viscy_sampling_testkit.assertions._bounds import chatterjee_excess, relative_entropy
from viscy_sampling_testkit.assertions._failure import check_false_alarm


def detectable_means(
    n_batches: int, quota: float, spread: float | None = None, *, false_alarm: float = 1e-6, miss: float = 0.01
) -> tuple[float, float]:
    """Return the means that `assert_mean_counts` detects as too low and as too high.

    Parameters
    ----------
    n_batches : int
        Number of counts.
    quota : float
        The expected mean.
    spread : float, optional
        As in the assertion: by default counts are the floor or the ceiling of the quota.
    false_alarm : float, default 1e-6
        False-alarm rate of the assertion.
    miss : float, default 0.01
        Largest probability of missing the deviation.

    Returns
    -------
    tuple of float
        The assertion detects means at or below the first value, and at or above the second. A value is infinite if no
        possible mean is detected on that side. Both are the quota if it is an integer and `spread` is not given,
        because every other mean is detected then.

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
    detected = [low + _detectable_rate(fraction, needed, upwards) for upwards in (False, True)]
    return detected[0], detected[1]


def detectable_row_ratios(
    times: float, n_anchors: int, *, false_alarm: float = 1e-6, miss: float = 0.01
) -> tuple[float, float]:
    """Return the ratios of observed to expected frequency of a row that `assert_row_inclusion` detects.

    Parameters
    ----------
    times : float
        Expected number of times that the row is drawn in all batches together.
    n_anchors : int
        Number of rows of the table.
    false_alarm : float, default 1e-6
        False-alarm rate of the assertion.
    miss : float, default 0.01
        Largest probability of missing the deviation.

    Returns
    -------
    tuple of float
        The assertion detects ratios at or below the first value, and at or above the second. The first is minus
        infinity if even a row that is never drawn is not detected.

    Examples
    --------
    >>> low, high = detectable_row_ratios(60, 240)
    >>> round(low, 2), round(high, 2)
    (0.14, 2.52)
    """
    _check(times, false_alarm, miss)
    alarm, safe = math.log(2 * n_anchors / false_alarm), math.log(1 / miss)

    def margin(ratio: float, threshold: float) -> float:
        return float(special.kl_div(threshold, times * ratio)) - safe

    highest = _root(lambda x: float(special.kl_div(x, times)) - alarm, times, 2 * times + 4 * alarm)
    high = _root(lambda r: margin(r, highest), highest / times, 2 * highest / times + 4 * safe / times)
    if times < alarm:
        return -math.inf, high
    lowest = _root(lambda x: alarm - float(special.kl_div(x, times)), 0.0, times)
    # If the threshold is 0, only a row that is never drawn reaches it.
    low = _root(lambda r: -margin(r, lowest), 0.0, lowest / times) if lowest > 0 else 0.0
    return low, high


def detectable_categories(n_draws: float, n_categories: int, *, false_alarm: float = 1e-6, miss: float = 0.01) -> float:
    """Return the deviation of frequencies that `assert_uniform` detects.

    Parameters
    ----------
    n_draws : int
        Sum of the counts.
    n_categories : int
        Number of counts.
    false_alarm : float, default 1e-6
        False-alarm rate of the assertion.
    miss : float, default 0.01
        Largest probability of missing the deviation.

    Returns
    -------
    float
        Square root of the sum over categories of ``(p - e) ** 2 / e``, where ``p`` is the probability of a category and
        ``e`` the expected probability (the effect size ``w`` of J. Cohen, Statistical Power Analysis for the Behavioral
        Sciences, 1988).

    Examples
    --------
    >>> round(detectable_categories(2000, 20), 3)
    0.207
    """
    _check(n_draws, false_alarm, miss)
    return math.sqrt(_noncentrality(n_categories - 1, false_alarm, miss) / n_draws)


def detectable_position(
    n_batches: int, batch_size: int, fraction: float, *, false_alarm: float = 1e-6, miss: float = 0.01
) -> float:
    """Return the deviation of a label's probability at one slot position that `assert_exchangeable_slots` detects.

    Valid for two labels, if the other slot positions share the opposite deviation. A label that prefers several slot
    positions is easier to detect.

    Parameters
    ----------
    n_batches : int
        Number of batches; ``n_batches * fraction * (1 - fraction)`` must be 5 or more to test each slot position.
    batch_size : int
        Slots of a batch.
    fraction : float
        Fraction of the slots, in (0, 1), that have the label.
    false_alarm : float, default 1e-6
        False-alarm rate of the assertion.
    miss : float, default 0.01
        Largest probability of missing the deviation.

    Returns
    -------
    float
        Probability of the label at the slot position, minus its fraction of the batch.

    Raises
    ------
    ValueError
        If there are too few batches to test each slot position.

    Examples
    --------
    >>> round(detectable_position(400, 12, 0.5), 3)
    0.22
    """
    _check(n_batches, false_alarm, miss)
    variance = fraction * (1 - fraction)
    if n_batches * variance < 5:
        raise ValueError(
            f"n_batches * fraction * (1 - fraction) must be at least 5, got {n_batches * variance:g}; give more batches"
        )
    # The test of slot positions has half of the false-alarm rate.
    return math.sqrt(_noncentrality(batch_size - 1, false_alarm / 2, miss) * variance / n_batches)


def detectable_share(
    n_batches: int, batch_size: int, n_anchors: int, *, false_alarm: float = 1e-6, miss: float = 0.01
) -> float:
    """Return the fraction of slots that two sequences must have in common for `assert_unrelated` to detect it.

    Valid for batches that are drawn without restriction, and that coincide only by chance in the other slots. The
    assertion also detects a single equal batch if equal batches are unlikely enough.

    Parameters
    ----------
    n_batches : int
        Batches of the shorter sequence.
    batch_size : int
        Slots of a batch.
    n_anchors : int
        Number of rows that a batch can be drawn from.
    false_alarm : float, default 1e-6
        False-alarm rate of the assertion.
    miss : float, default 0.01
        Largest probability of missing the deviation.

    Returns
    -------
    float
        A fraction of the slots; infinite if even equal sequences do not have enough coincidences.

    Examples
    --------
    >>> round(detectable_share(100, 10, 1000), 2)
    0.33
    """
    _check(n_batches, false_alarm, miss)
    by_chance = n_batches * batch_size**2 / n_anchors

    def margin(share: float) -> float:
        """Return by how much the coincidences exceed their bound, if chance adds as few as it may."""
        common = share * n_batches * batch_size
        # The common slots also raise the mean over pairings with which the coincidences are compared.
        mean = by_chance + common / n_batches
        fewest = common + (1 - share) * by_chance + float(special.ndtri(miss)) * math.sqrt(by_chance)
        return fewest - mean - chatterjee_excess(mean, batch_size, math.log(2 / false_alarm))

    return _root(margin, 0.0, 1.0) if margin(1.0) > 0 else math.inf


def detectable_leak(n_slots: float, n_groups: int, *, false_alarm: float = 1e-6, miss: float = 0.01) -> float:
    """Return the ratio of observed to expected frequency of a leaking group that `assert_uniform_leak` detects.

    Valid for groups of equal size, with equal shares of the batches.

    Parameters
    ----------
    n_slots : int
        Number of leak slots.
    n_groups : int
        Number of groups.
    false_alarm : float, default 1e-6
        False-alarm rate of the assertion.
    miss : float, default 0.01
        Largest probability of missing the deviation.

    Returns
    -------
    float
        A ratio above 1 of one group into all others; infinite if there are only two groups, of which always the other
        one leaks, or if even a group that fills the leak is not detected.

    Examples
    --------
    >>> round(detectable_leak(1440, 3), 2)
    1.26
    """
    _check(n_slots, false_alarm, miss)
    sources = n_groups - 1
    if sources < 2:
        return math.inf
    # The group does not leak into its own batches, and the test has a sixth of the false-alarm rate.
    needed = _noncentrality(n_groups * (sources - 1), false_alarm / 6, miss) / (n_slots * sources / n_groups)
    # A ratio of 1 + d changes one probability by d / sources; the others share the opposite change.
    excess = math.sqrt(needed * (sources - 1))
    return 1 + excess if 1 + excess <= sources else math.inf


def detectable_coincidences(
    n_pairs: int, expected: float, dispersion: float = 1.0, *, false_alarm: float = 1e-6, miss: float = 0.01
) -> float:
    """Return how many coincidences in each pair, beyond chance, `assert_independent_batches` detects.

    Parameters
    ----------
    n_pairs : int
        Number of pairs of batches.
    expected : float
        Coincidences expected by chance in all pairs together.
    dispersion : float, default 1.0
        Variance of their number, in units of the mean.
    false_alarm : float, default 1e-6
        False-alarm rate of the test of one feature and one kind of pairs.
    miss : float, default 0.01
        Largest probability of missing the deviation.

    Returns
    -------
    float
        Additional coincidences in each pair, on average.

    Examples
    --------
    >>> round(detectable_coincidences(1000, 600), 3)
    0.219
    """
    _check(n_pairs, false_alarm, miss)
    alarm, safe = (dispersion * math.log(1 / rate) for rate in (false_alarm, miss))
    bound = _root(lambda x: float(special.kl_div(x, expected)) - alarm, expected, 2 * expected + 4 * alarm)
    mean = _root(lambda m: float(special.kl_div(bound, m)) - safe, bound, 2 * bound + 4 * safe)
    return (mean - expected) / n_pairs


def detectable_window_shift(
    n_batches: int, deviation: float, *, false_alarm: float = 1e-6, miss: float = 0.01
) -> float:
    """Return by how much the mean number of slots in an interval must be off for `assert_window_shares` to detect it.

    Parameters
    ----------
    n_batches : int
        Number of batches; twice as many are simulated.
    deviation : float
        Standard deviation of the number of slots in a batch.
    false_alarm : float, default 1e-6
        False-alarm rate of the assertion, which tests up to five intervals.
    miss : float, default 0.01
        Largest probability of missing the deviation.

    Returns
    -------
    float
        Slots, more or fewer on average than the rule of the temporal window gives.

    Examples
    --------
    >>> round(detectable_window_shift(900, 1.2), 2)
    0.37
    """
    _check(n_batches, false_alarm, miss)
    # Half of the rate is shared by five intervals with two sides each.
    error = deviation * math.sqrt(1.5 / n_batches)
    return -float(special.ndtri(false_alarm / 20) + special.ndtri(miss)) * error


def _detectable_rate(p: float, needed: tuple[float, float], upwards: bool) -> float:
    """Return the rate, above or below the expected rate `p`, that the bound detects.

    `needed` holds the relative entropies that an alarm needs and that a detectable rate has from the threshold.
    """
    alarm, safe = needed
    end = 1.0 if upwards else 0.0
    if relative_entropy(end, p) < alarm:
        return math.inf if upwards else -math.inf
    threshold = _root(lambda x: relative_entropy(x, p) - alarm, *sorted((p, end)))
    # At the end itself all counts are equal, so the observed rate always passes the threshold.
    edge = end - math.copysign(1e-12, end - p)
    if relative_entropy(threshold, edge) < safe:
        return end
    return _root(lambda q: relative_entropy(threshold, q) - safe, *sorted((threshold, edge)))


def _noncentrality(freedom: int, false_alarm: float, miss: float) -> float:
    """Return the noncentrality at which a chi-square statistic stays below its bound with probability `miss`."""
    return float(special.chndtrinc(special.chdtri(freedom, false_alarm), freedom, miss))


def _root(function: Callable[[float], float], low: float, high: float) -> float:
    return float(optimize.brentq(function, low, high, xtol=1e-12))


def _check(n: float, false_alarm: float, miss: float) -> None:
    check_false_alarm(false_alarm)
    if not n > 0:
        raise ValueError(f"the number of batches, draws or times must be positive, got {n!r}")
    if not 0 < miss < 1:
        raise ValueError(f"miss must be in (0, 1), got {miss!r}")
