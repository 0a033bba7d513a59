"""Tail bounds: the relative entropy and the excess at which a bound on a probability is reached.

The statistical assertions compare what they observe with these bounds; the functions of `power` invert them.
"""

from __future__ import annotations

import math

from scipy import special


def relative_entropy(observed: float, expected: float) -> float:
    """Return the relative entropy of two probabilities, in nats; infinite if the observed one is impossible."""
    # Clip, because the mean of ones may exceed 1 by floating-point error.
    x, p = min(max(observed, 0.0), 1.0), min(max(expected, 0.0), 1.0)
    return float(special.rel_entr(x, p) + special.rel_entr(1 - x, 1 - p))


def hoeffding_p_value(total: float, expected: float, n: int) -> float:
    """Return Hoeffding's bound on the probability that a sum of `n` values in [0, 1] is as far from its mean.

    The bound is ``2 exp(-n KL(total / n, expected / n))``. The values may have different means, and may be negatively
    associated (W. Hoeffding, J. Am. Stat. Assoc. 58, 1963; D. Dubhashi and D. Ranjan, Random Struct. Algor. 13, 1998).
    """
    return min(1.0, 2 * math.exp(-n * relative_entropy(total / n, expected / n))) if n else 1.0


def poisson_p_value(total: float, expected: float, dispersion: float = 1.0) -> float:
    """Return Chernoff's bound on the probability that a sum of rare events exceeds its mean as far as `total` does.

    The bound is that of a Poisson variable times `dispersion`, the variance in units of the mean.
    """
    return math.exp(-float(special.kl_div(total, expected)) / dispersion) if total > expected else 1.0


def chatterjee_p_value(excess: float, mean: float, unit: float) -> float:
    """Return Chatterjee's bound on the probability that a sum over a random pairing exceeds its mean by `excess`.

    For terms in [0, 1] the bound is ``exp(-t**2 / (4 * mean + 2 * t))``; here the terms are in [0, unit], so both the
    mean and the excess ``t`` are divided by `unit`.
    """
    return math.exp(-(excess**2) / (4 * unit * mean + 2 * unit * excess)) if excess > 0 else 1.0


def chatterjee_excess(mean: float, unit: float, log: float) -> float:
    """Return the excess at which `chatterjee_p_value` is ``exp(-log)``."""
    return unit * log + math.sqrt((unit * log) ** 2 + 4 * unit * mean * log)
