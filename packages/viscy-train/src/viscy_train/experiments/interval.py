"""Interval: the time between two frames that images or tracks state, which may contradict that of their experiment."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

IMAGES = "the metadata of the images"
"""What states the intervals of images."""
# Intervals that differ by less than this do not contradict each other; microscopes record those that they achieved.
_TOLERANCE = 0.03


def contrary_intervals(
    what: str, stated: Mapping[str, float], minutes_per_frame: float
) -> tuple[str, list[str]] | None:
    """Return a sentence on intervals that contradict that of an experiment, and their names; None if there are none.

    Parameters
    ----------
    what : str
        What states the intervals, in the plural.
    stated : mapping of str to float
        Minutes between two frames, by the name of the position.
    minutes_per_frame : float
        Those of the experiment.

    Returns
    -------
    sentence : str
        Such as ``the images state 10 minutes per frame, but minutes_per_frame is 30; correct the one that is wrong``.
    names : list of str
        The positions whose intervals contradict.
    """
    contrary = {name: one for name, one in stated.items() if _is_contrary(one, minutes_per_frame)}
    if not contrary:
        return None
    span = list(dict.fromkeys(f"{one:.4g}" for one in (min(contrary.values()), max(contrary.values()))))
    sentence = (
        f"{what} state {' to '.join(span)} minutes per frame, but minutes_per_frame is {minutes_per_frame:g}; correct "
        "the one that is wrong"
    )
    return sentence, list(contrary)


def _is_contrary(stated: float, minutes_per_frame: float) -> bool:
    return not math.isclose(stated, minutes_per_frame, rel_tol=_TOLERANCE)
