"""Positive text: the settings of positives in words, for tables, warnings and reasons."""

from __future__ import annotations

from typing import TYPE_CHECKING

from viscy_train.positives.frame_range import FrameRange, frame_ranges
from viscy_train.wording import count

if TYPE_CHECKING:
    from collections.abc import Sequence

    from viscy_train.config.schema import PositiveConfig
    from viscy_train.experiments.experiments_file import Experiment

# The same number of frames is a different time if the intervals differ by more.
_SIMILAR = 1.2
_CHANNEL = {"same": "", "other": " in another channel", "any": " in any channel"}


def reason_without(positive: PositiveConfig) -> str:
    """Return why observations have no positive: ``without another frame of their lineage 1 to 4 frames away``."""
    low, high = (positive.min_hours, positive.max_hours) if positive.in_hours else positive.frames
    return f"without {_what(positive, _which(1 if low is None else low, high))}{_distance(positive)}"


def describe_positives(experiments: Sequence[Experiment], positive: PositiveConfig) -> list[str]:
    """Return sentences on what a positive is, with the range in frames and in hours of each experiment.

    Parameters
    ----------
    experiments : sequence of Experiment
        The experiments.
    positive : PositiveConfig
        Which observations may be positives.

    Returns
    -------
    list of str
        One sentence, or one for each range.
    """
    decay = f" Near frames are likelier (decay {positive.decay:g})." if positive.decay else ""
    if positive.match:
        return [f"A positive is {_what(positive)}{_distance(positive)}."]
    groups: dict[tuple[FrameRange, float], list[str]] = {}
    ranges = frame_ranges(experiments, positive)
    for one in experiments:
        groups.setdefault((ranges[one.name], float(one.minutes_per_frame)), []).append(one.name)
    what = _what(positive, _which(*_bounds(positive, experiments)), "its anchor's lineage")
    spans = {key: _span_of(*key) for key in groups}
    if len(groups) == 1:
        return [f"A positive is {what}, {next(iter(spans.values()))} away in each experiment.{decay}"]
    lines = [f"{spans[key]} away in {', '.join(names)}" for key, names in groups.items()]
    return [f"A positive is {what}, {lines[0]}.{decay}", *(f"It is {line}." for line in lines[1:])]


def warn_of_positives(
    experiments: Sequence[Experiment], positive: PositiveConfig, *, is_augmented: bool = True
) -> list[str]:
    """Return warnings about positives, a sentence for each.

    Parameters
    ----------
    experiments : sequence of Experiment
        The experiments.
    positive : PositiveConfig
        Which observations may be positives.
    is_augmented : bool, default True
        Whether crops are varied at random.

    Returns
    -------
    list of str
        The warnings.
    """
    if positive.match:
        return []
    warnings = []
    slow, fast = (pick(experiments, key=lambda one: one.minutes_per_frame) for pick in (max, min))
    largest = positive.frames[1]
    if not positive.in_hours and slow.minutes_per_frame > _SIMILAR * fast.minutes_per_frame and largest:
        hours = [f"{_hours(largest, one.minutes_per_frame)} h in {one.name}" for one in (slow, fast)]
        warnings.append(
            f"{largest} frames are {' but '.join(hours)}: set data.positive.max_hours (and min_hours) "
            "for the same time in each experiment"
        )
    can_be_equal = positive.channel != "other" and any(
        one.smallest == 0 for one in frame_ranges(experiments, positive).values()
    )
    if can_be_equal and not is_augmented:
        warnings.append(
            "a positive may be the anchor itself with the same pixels, because all of data.augmentation is off: turn a "
            "transform on, or set data.positive.min_frames to 1"
        )
    return warnings


def describe_recognized(positive: PositiveConfig, experiments: Sequence[Experiment] = ()) -> str:
    """Return what an encoder learns to recognize, such as ``a tracked cell at another timepoint``.

    Parameters
    ----------
    positive : PositiveConfig
        Which observations may be positives.
    experiments : sequence of Experiment
        The experiments, whose intervals turn hours into frames. Without them, hours that are shorter than an interval
        count as another timepoint.
    """
    channel = _CHANNEL[positive.channel]
    if positive.match:
        return f"a cell with the same {_columns(positive)}{channel}{_distance(positive)}"
    smallest, largest = _bounds(positive, experiments)
    if not largest and not channel:
        return "a cell in spite of random changes"
    return f"a tracked cell at {_which(smallest, largest)} timepoint{channel}"


def permits_other_timepoints(positive: PositiveConfig, experiments: Sequence[Experiment] = ()) -> bool:
    """Return whether a positive may be of the anchor's lineage at another timepoint; see `describe_recognized`."""
    if positive.match:
        return "lineage_id" in positive.match and positive.max_hours != 0
    return _bounds(positive, experiments)[1] > 0


def warn_of_labels(positive: PositiveConfig, label: str) -> list[str]:
    """Return a warning if positives are cells of other lineages, and the loss attracts those of the same lineage.

    Parameters
    ----------
    positive : PositiveConfig
        Which observations may be positives.
    label : str
        What crops that attract each other have in common: ``model.loss.positives``.
    """
    if label != "lineage" or not positive.match or "lineage_id" in positive.match:
        return []
    return [
        "an anchor attracts its positive, a cell of another lineage, but the other crops of that lineage repel both "
        "(model.loss.positives=lineage): set model.loss.positives to pair, or to condition if that is in "
        "data.positive.match"
    ]


def setting_text(positive: PositiveConfig) -> str:
    """Return the settings as text that is equal for equal settings, such as ``1 to 4 frames``."""
    # Runs have recorded the text, and are resumed only if it is equal.
    parts = [_distance(positive, away="", one_hour="hours").strip()]
    parts += [f"decay {positive.decay:g}"] * (positive.decay != 0)
    parts += [f"match {', '.join(positive.match)}"] * bool(positive.match)
    parts += [f"differ {', '.join(positive.differ)}"] * bool(positive.differ)
    parts += [f"{positive.channel} channel"] * (positive.channel != "same")
    return "; ".join(part for part in parts if part)


def _which(smallest: float, largest: float | None) -> str:
    """Return which frames are between a smallest and a largest distance, of which None is unlimited."""
    return "another" if smallest else "the same" if largest == 0 else "the same or another"


def _what(positive: PositiveConfig, which: str = "another", lineage: str = "their lineage") -> str:
    channel = _CHANNEL[positive.channel]
    if positive.match:
        return f"another observation with the same {_columns(positive)}{channel * (positive.channel != 'any')}"
    return f"{which} frame of {lineage}{channel}"


def _bounds(positive: PositiveConfig, experiments: Sequence[Experiment]) -> tuple[float, float]:
    """Return the smallest and the largest distance in any experiment, in frames; in hours without experiments."""
    if experiments:
        ranges = frame_ranges(experiments, positive).values()
        return min(one.smallest for one in ranges), max(one.largest for one in ranges)
    if not positive.in_hours:
        return positive.frames
    return 1 if positive.min_hours is None else positive.min_hours, positive.max_hours or 0


def _columns(positive: PositiveConfig) -> str:
    same, other = (" and ".join(names) for names in (positive.match, positive.differ))
    return same + f" and another {other}" * bool(other)


def _distance(positive: PositiveConfig, away: str = " away", one_hour: str = "hour") -> str:
    low, high = positive.min_hours, positive.max_hours
    if not positive.match and not positive.in_hours:
        return f" {positive.frames[0]} to {positive.frames[1]} frames{away}"
    if low is None and high is None:
        return ""
    if high is None:
        return f" at least {low:g} {one_hour if low == 1 else 'hours'}{away}"
    if low is None:
        return f" up to {high:g} {one_hour if high == 1 else 'hours'}{away}"
    return f" {low:g} to {high:g} hours{away}"


def _span_of(frames: FrameRange, minutes_per_frame: float) -> str:
    hours = [_hours(bound, minutes_per_frame) for bound in (frames.smallest, frames.largest)]
    if frames.smallest == frames.largest:
        return f"{count(frames.smallest, 'frame')} ({hours[0]} h)"
    return f"{frames.smallest} to {frames.largest} frames ({hours[0]} to {hours[1]} h)"


def _hours(frames: int, minutes_per_frame: float) -> str:
    return f"{frames * minutes_per_frame / 60:.3g}"
