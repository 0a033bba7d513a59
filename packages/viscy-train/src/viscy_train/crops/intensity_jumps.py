"""Intensity jumps: positions and frames of an experiment whose intensities are far from those of the others.

A position stands out if the center or the spread of a channel is more than 5 robust standard deviations from the median
of the positions, and the difference also matters: more than 25 % of the spread of the channel, or a spread that is more
than twice or less than half as large. A jump in time is a difference between two frames of a position, one counted
after the other, for which the same holds among all such differences of the experiment, with 8 robust standard
deviations, because there are many more of them. The robust standard deviation is 1.4826 times the median absolute
deviation.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

    from viscy_train.config.schema import NormalizationConfig

_DEVIATIONS_OF_POSITIONS = 5.0
_DEVIATIONS_OF_FRAMES = 8.0
_RELATIVE = 0.25
# Contrast changes by itself where cells divide, move or die.
_TIMES = 2.0
_ROBUST = 1.4826
# With fewer values, their median absolute deviation says nothing.
_MIN_VALUES = 4


class _Jumps(NamedTuple):
    """How many of some values stand out, the index of the one that does so most, and in words by how much."""

    n: int
    most: int
    size: str


def describe_jumps(
    experiment: str,
    channels: Sequence[str],
    frames: Mapping[str, NDArray[np.float64]],
    normalization: NormalizationConfig,
) -> list[str]:
    """Return where the intensities of an experiment jump, a sentence for each channel in which they do.

    Parameters
    ----------
    experiment : str
        Name of the experiment.
    channels : sequence of str
        Names of the channels.
    frames : mapping of str to numpy.ndarray
        Center and spread of each channel in each frame of each position, shape (n_frames, n_channels, 2); NaN for
        frames that were not counted.
    normalization : NormalizationConfig
        How intensities are normalized.

    Returns
    -------
    list of str
        Sentences that name the position and the pair of frames where the difference is largest: a warning, or a note
        if the normalization removes such differences.
    """
    sentences = []
    for index, channel in enumerate(channels):
        of_channel = {name: values[:, index] for name, values in frames.items()}
        of_positions, of_frames = _between_positions(of_channel), _between_frames(of_channel)
        if of_positions or of_frames:
            where = f"intensities of channel {channel!r} in experiment {experiment!r} jump"
            jumps = f"{where} {' and '.join([*of_positions, *of_frames])}"
            sentences.append(_judge(jumps, normalization, in_time=bool(of_frames)))
    return sentences


def _judge(jumps: str, normalization: NormalizationConfig, *, in_time: bool) -> str:
    """Return a warning with the setting that would help, or a note that it is set."""
    if normalization.by == "experiment":
        better = "frame" if in_time else "position"
        return f"Warning: {jumps}; data.normalization.by: {better} would remove such differences"
    if normalization.by == "position" and in_time:
        return f"Warning: {jumps}; data.normalization.by: frame would remove those in time"
    return f"Note: {jumps}, which data.normalization.by: {normalization.by}, as set, removes"


def _between_positions(frames: Mapping[str, NDArray[np.float64]]) -> list[str]:
    """Return which positions stand out, in words, at most once."""
    levels = {name: np.median(_counted(values), axis=0) for name, values in frames.items() if len(_counted(values))}
    if len(levels) < _MIN_VALUES:
        return []
    jumps = _find(np.array(list(levels.values())), _DEVIATIONS_OF_POSITIONS)
    if not jumps.n:
        return []
    name = list(levels)[jumps.most]
    return [f"at {jumps.n} of {len(levels)} positions (most at {name}, {jumps.size})"]


def _between_frames(frames: Mapping[str, NDArray[np.float64]]) -> list[str]:
    """Return between which frames intensities jump, in words, at most once."""
    steps, pairs = [np.empty((0, 2))], []
    spreads = [np.empty(0)]
    for name, values in frames.items():
        numbers = np.flatnonzero(np.isfinite(values).all(axis=1))
        counted = _comparable(values[numbers])
        steps.append(np.diff(counted, axis=0))
        spreads.append(values[numbers, 1])
        pairs += [(name, *pair) for pair in zip(numbers[:-1].tolist(), numbers[1:].tolist(), strict=True)]
    differences = np.concatenate(steps)
    if len(differences) < _MIN_VALUES:
        return []
    jumps = _stand_out(differences, float(np.median(np.concatenate(spreads))), _DEVIATIONS_OF_FRAMES)
    if not jumps.n:
        return []
    name, before, after = pairs[jumps.most]
    where = f"most between frames {before} and {after} of {name}, {jumps.size}"
    return [f"in time at {jumps.n} of {len(pairs)} steps ({where})"]


def _counted(values: NDArray[np.float64]) -> NDArray[np.float64]:
    return values[np.isfinite(values).all(axis=1)]


def _comparable(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return center, and logarithm of the spread, of which differences are ratios."""
    return np.stack([values[:, 0], np.log(np.maximum(values[:, 1], np.finfo(np.float64).tiny))], axis=1)


def _find(levels: NDArray[np.float64], deviations: float) -> _Jumps:
    return _stand_out(_comparable(levels), float(np.median(levels[:, 1])), deviations)


def _stand_out(values: NDArray[np.float64], spread: float, deviations: float) -> _Jumps:
    """Return which rows, of a center and the logarithm of a spread, are far from their median."""
    deviation = values - np.median(values, axis=0)
    distance = np.abs(deviation)
    robust = _ROBUST * np.median(distance, axis=0)
    relative = np.array([_RELATIVE * spread, np.log(_TIMES)])
    is_jump = ((distance > deviations * robust) & (distance > relative)).any(axis=1)
    # In units of the least difference that matters, so that centers and spreads can be compared.
    size = distance / np.maximum(relative, np.finfo(np.float64).tiny) * is_jump[:, None]
    most = int(np.argmax(size.max(axis=1)))
    shift, ratio = (
        _RELATIVE * deviation[most, 0] / max(relative[0], np.finfo(np.float64).tiny),
        np.exp(deviation[most, 1]),
    )
    by_center, by_spread = f"by {shift:+.1f} standard deviations", f"with {ratio:.2g} times the contrast"
    return _Jumps(int(is_jump.sum()), most, by_center if size[most, 0] >= size[most, 1] else by_spread)
