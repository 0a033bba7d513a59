"""Reading an experiment: the observations of its positions, their intensities, and what is odd about them."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from viscy_train.anchors.positions import check_positions, open_experiment
from viscy_train.console import say, track, warn
from viscy_train.crops.scale import count_scales, describe_odd
from viscy_train.errors import UserError
from viscy_train.experiments.columns import Z_FOCUS
from viscy_train.experiments.interval import IMAGES, contrary_intervals
from viscy_train.wording import count

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd
    from numpy.typing import NDArray

    from viscy_train.anchors.examination import Examination
    from viscy_train.anchors.examiner import Examiner
    from viscy_train.anchors.positions import CheckedPosition, IndexSettings, OpenExperiment
    from viscy_train.crops.channel_groups import ChannelGroups
    from viscy_train.errors import Problems
    from viscy_train.experiments.experiments_file import Experiment

_MAX_NAMES = 8


@dataclass(frozen=True, kw_only=True)
class ReadExperiment:
    """What was read of an experiment.

    Parameters
    ----------
    name : str
        Its name.
    observations : list of pandas.DataFrame
        The observations of each valid position, with the column `defect`.
    intensity : list
        Center and spread of each channel, shape (n_channels, 2).
    local_intensity : dict, optional
        The same of each position or frame, if they are normalized by it; see `ChannelGroups.by_position`.
    scales : list
        Which scales the images have, see `count_scales`.
    jumps : list of str
        Sentences on jumps of the intensity.
    warnings : list of str
        What was warned of.
    """

    name: str
    observations: list[pd.DataFrame]
    intensity: list[list[float]]
    local_intensity: dict[str, NDArray[np.float32]] | None
    scales: list[list[Any]]
    jumps: list[str]
    warnings: list[str]


@dataclass(frozen=True, kw_only=True)
class _Found:
    """What is found while the positions of an experiment are read."""

    observations: list[pd.DataFrame] = field(default_factory=list)
    scales: list[tuple[float | None, float | None]] = field(default_factory=list)
    odd: dict[str, list[str]] = field(default_factory=dict)
    intervals: dict[str, float] = field(default_factory=dict)
    without_tracks: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)

    def add(self, checked: CheckedPosition) -> None:
        """Add what the metadata of a position, and its tracks, state."""
        if checked.lacks_tracks:
            self.without_tracks.append(checked.name)
        if checked.scale is not None:
            self.scales.append(checked.scale)
        for sentence in checked.odd:
            self.odd.setdefault(sentence, []).append(checked.name)
        if checked.minutes_per_frame is not None:
            self.intervals[checked.name] = checked.minutes_per_frame


def read_experiment(
    experiment: Experiment, settings: IndexSettings, examiner: Examiner, problems: Problems
) -> ReadExperiment:
    """Read all positions of an experiment, and say what is odd about it.

    Parameters
    ----------
    experiment : Experiment
        The experiment.
    settings : IndexSettings
        What is read of it.
    examiner : Examiner
        Reads pixels.
    problems : Problems
        Collects what is wrong; a position with a problem is left out.

    Returns
    -------
    ReadExperiment
        What was read.
    """
    counted, found = settings.channel_groups(experiment), _Found()
    opened = open_experiment(experiment, problems)
    if opened is not None:
        with problems.collected(f"experiment {experiment.name!r}"):
            _read_positions(opened, settings, examiner, problems, counted, found)
    is_local = settings.crops.normalization.by != "experiment"
    return ReadExperiment(
        name=experiment.name,
        observations=found.observations,
        intensity=counted.center_and_spread(),
        local_intensity=counted.by_position() if is_local else None,
        scales=count_scales(found.scales),
        jumps=counted.describe_jumps(),
        warnings=found.warnings,
    )


def _read_positions(
    opened: OpenExperiment,
    settings: IndexSettings,
    examiner: Examiner,
    problems: Problems,
    counted: ChannelGroups,
    found: _Found,
) -> None:
    """Read the positions of an experiment, and warn of what is odd about them."""
    name = opened.experiment.name
    subject = f"experiment {name!r}"
    examined = examiner.examine(check_positions(opened, settings))
    for checked, examination in track(examined, name, total=len(opened.wells)):
        found.add(checked)
        for error in checked.errors:
            problems.add_error(subject, error, checked.name)
        if examination is not None and examination.error is not None:
            problems.add_error(subject, examination.error, checked.name)
        elif examination is not None:
            found.observations.extend(_merge(checked, examination, counted))
    found.warnings.extend(
        [*_say_notes(opened, found.odd, found.intervals), *_without_tracks(opened, found.without_tracks)]
    )
    for warning in found.warnings:
        warn(warning)


def _merge(checked: CheckedPosition, examination: Examination, intensity: ChannelGroups) -> list[pd.DataFrame]:
    """Count the intensities of a position, and return its observations in each group of channels."""
    observations, task = checked.observations, checked.task
    assert observations is not None
    assert task is not None
    parts = []
    for group, examined in zip(intensity.groups, examination.groups, strict=True):
        of_position = group.intensity.add_position(checked.name, task.image.shape[0])
        for counted in examined.counted:
            of_position.merge(counted)
        focus = {} if examined.focus is None else {Z_FOCUS: examined.focus}
        parts.append(observations.assign(**group.columns, **focus, defect=examined.defects))
    return parts


def _say_notes(opened: OpenExperiment, odd: dict[str, list[str]], intervals: dict[str, float]) -> list[str]:
    """Say how the tracks of an experiment were read, and what is odd about its scales; return what to warn of."""
    name, tracks = opened.experiment.name, opened.tracks
    if tracks is not None and (read := tracks.describe()):
        say(f"{name}: {read}")
    for sentence in describe_odd(odd):
        say(f"{name}: {sentence}")
    contrary = contrary_intervals(IMAGES, intervals, opened.experiment.minutes_per_frame)
    of_images = describe_odd(dict([contrary])) if contrary else []
    return [f"{name}: {doubt}" for doubt in [*of_images, *(() if tracks is None else tracks.doubts())]]


def _without_tracks(opened: OpenExperiment, positions: list[str]) -> list[str]:
    """Return which positions are left out because they have no tracks; refuse an experiment in which all are."""
    if not positions:
        return []
    if len(positions) == len(opened.wells):
        raise UserError(f"tracks must have a position of the experiment, got none in {opened.experiment.tracks}")
    n = len(positions)
    names = ", ".join(positions[:_MAX_NAMES]) + f" and {n - _MAX_NAMES} more" * (n > _MAX_NAMES)
    return [f"{opened.experiment.name}: left out {count(n, 'position')} without tracks: {names}"]
