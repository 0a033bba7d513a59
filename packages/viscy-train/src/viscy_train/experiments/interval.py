"""Interval: the time between two frames that images or tracks state, which may contradict that of their experiment."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

# Intervals that differ by less than this do not contradict each other; microscopes record those that they achieved.
_TOLERANCE = 0.03


def contrary_interval(what: str, stated: Iterable[float], minutes_per_frame: float) -> str | None:
    """Return a sentence on intervals that contradict that of an experiment, or None if there are none.

    Parameters
    ----------
    what : str
        What states the intervals, in the plural.
    stated : iterable of float
        Minutes between two frames.
    minutes_per_frame : float
        Those of the experiment.

    Returns
    -------
    str
        Such as ``the images state 10 minutes per frame, but minutes_per_frame is 30; correct the one that is wrong``.
    """
    contrary = [one for one in stated if _is_contrary(one, minutes_per_frame)]
    if not contrary:
        return None
    span = list(dict.fromkeys(f"{one:.4g}" for one in (min(contrary), max(contrary))))
    return (
        f"{what} state {' to '.join(span)} minutes per frame, but minutes_per_frame is {minutes_per_frame:g}; correct "
        "the one that is wrong"
    )


def contrary_images(stated: Mapping[str, float], minutes_per_frame: float) -> dict[str, list[str]]:
    """Return a sentence on images whose metadata contradict an experiment, with their names; usually nothing.

    Parameters
    ----------
    stated : mapping of str to float
        Minutes between two frames in the metadata of images, by position.
    minutes_per_frame : float
        Those of the experiment.
    """
    contrary = {name: one for name, one in stated.items() if _is_contrary(one, minutes_per_frame)}
    sentence = contrary_interval("the metadata of the images", contrary.values(), minutes_per_frame)
    return {} if sentence is None else {sentence: list(contrary)}


def _is_contrary(stated: float, minutes_per_frame: float) -> bool:
    return not math.isclose(stated, minutes_per_frame, rel_tol=_TOLERANCE)
