"""Frame range: how many frames a positive may be away from its anchor, in each experiment."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from viscy_train.errors import Problems, UserError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from viscy_train.config.schema import PositiveConfig
    from viscy_train.experiments.experiments_file import Experiment

# Hours are rounded, such as 0.333 for 20 minutes: a number of frames may be off by this part of it.
_TOLERANCE = 2e-3
# It may be off by this part of a frame, at most.
_MAX_TOLERANCE = 1e-2
# No table has more frames.
_MAX_FRAMES = 2**31


@dataclass(frozen=True)
class FrameRange:
    """Numbers of frames between an anchor and its positive, in either direction.

    Parameters
    ----------
    smallest, largest : int
        The bounds, both included.
    """

    smallest: int
    largest: int


def frame_ranges(experiments: Sequence[Experiment], positive: PositiveConfig) -> dict[str, FrameRange]:
    """Return the range of each experiment, by name.

    Parameters
    ----------
    experiments : sequence of Experiment
        The experiments, whose interval converts hours.
    positive : PositiveConfig
        Which observations may be positives: those along the lineage.

    Returns
    -------
    dict of str to FrameRange
        With hours, the frames whose distance in hours is within the bounds.

    Raises
    ------
    ProjectError
        If no whole number of frames is within the hours of an experiment; one line per experiment.
    """
    problems, ranges = Problems(), {}
    for experiment in experiments:
        with problems.collected(f"experiment {experiment.name!r}"):
            ranges[experiment.name] = _range_of(experiment.minutes_per_frame, positive)
    problems.raise_any()
    return ranges


def fixed_range(positive: PositiveConfig) -> FrameRange:
    """Return the range of a setting in frames, which is the same in each experiment."""
    if positive.in_hours:
        raise ValueError("hours must be converted with the interval of an experiment")
    return FrameRange(*(min(bound, _MAX_FRAMES) for bound in positive.frames))


def _range_of(minutes_per_frame: float, positive: PositiveConfig) -> FrameRange:
    if not positive.in_hours:
        return fixed_range(positive)
    largest = _in_frames(positive.max_hours or 0.0, minutes_per_frame)
    smallest = 1.0 if positive.min_hours is None else _in_frames(positive.min_hours, minutes_per_frame)
    bounds = (math.ceil(smallest - _tolerance(smallest)), math.floor(largest + _tolerance(largest)))
    if bounds[0] > bounds[1]:
        hours = f"up to {positive.max_hours:g}" if positive.min_hours is None else _span(positive)
        raise UserError(
            f"data.positive must permit a whole number of frames, got {hours} hours at {minutes_per_frame:g} minutes "
            "per frame; widen min_hours and max_hours"
        )
    return FrameRange(*(min(bound, _MAX_FRAMES) for bound in bounds))


def _tolerance(frames: float) -> float:
    return min(_TOLERANCE * frames, _MAX_TOLERANCE)


def _in_frames(hours: float, minutes_per_frame: float) -> float:
    return min(hours * 60 / minutes_per_frame, float(_MAX_FRAMES))


def _span(positive: PositiveConfig) -> str:
    return f"{positive.min_hours:g} to {positive.max_hours:g}"
