"""Verdicts: what a paired difference shows: it helps, hurts, makes no difference, or one cannot tell."""

from __future__ import annotations

from enum import StrEnum

from viscy_train.study.statistics import ALPHA


class Verdict(StrEnum):
    """What a difference shows."""

    HELPS = "helps"
    HURTS = "hurts"
    NO_DIFFERENCE = "no difference"
    CANNOT_TELL = "cannot tell"


def judge(difference: float, low: float, high: float, p_holm: float, threshold: float) -> Verdict:
    """Return what a difference shows.

    Parameters
    ----------
    difference, low, high : float
        Mean paired difference and its interval. NaN, like any comparison with it, tells nothing.
    p_holm : float
        Its p, corrected for the number of arms.
    threshold : float
        The smallest difference that matters.

    Returns
    -------
    Verdict
        An arm helps if the corrected p is below 0.05, the interval is above 0, and the difference is at least the
        threshold; hurting mirrors it. It makes no difference if the interval is within the threshold on both sides.

    Examples
    --------
    >>> judge(0.14, 0.11, 0.17, 0.02, threshold=0.02)
    <Verdict.HELPS: 'helps'>
    >>> judge(0.14, 0.11, 0.17, 0.06, threshold=0.02)
    <Verdict.CANNOT_TELL: 'cannot tell'>
    """
    if p_holm < ALPHA and low > 0 and difference >= threshold:
        return Verdict.HELPS
    if p_holm < ALPHA and high < 0 and difference <= -threshold:
        return Verdict.HURTS
    if -threshold <= low and high <= threshold:
        return Verdict.NO_DIFFERENCE
    return Verdict.CANNOT_TELL
