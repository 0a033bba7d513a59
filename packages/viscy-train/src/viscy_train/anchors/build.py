"""Building the anchor table: combine plates and tracks, and report everything that does not match before training."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import pandas as pd

from viscy_train.anchors.examiner import examiner_on
from viscy_train.anchors.positions import IndexSettings
from viscy_train.anchors.read_experiment import read_experiment
from viscy_train.anchors.strata import check_strata
from viscy_train.anchors.table import AnchorTable, Exclusion
from viscy_train.console import say, say_sentences
from viscy_train.crops.channel_groups import ChannelsMode, row_order
from viscy_train.crops.checksums import pixel_checksums
from viscy_train.crops.unreadable import READABLE, REASONS
from viscy_train.errors import Problems
from viscy_train.experiments.annotations import add_annotations, annotation_checksums
from viscy_train.experiments.columns import CHANNEL_COLUMNS, COLUMNS, Z_FOCUS
from viscy_train.experiments.position_metadata import add_metadata, metadata_keys
from viscy_train.positives.description import reason_without
from viscy_train.positives.lineages import lineage_ids
from viscy_train.positives.rule import check_columns, check_frames, make_positives, missing_values
from viscy_train.tracks.tracks import checksums
from viscy_train.wording import count, shorten

if TYPE_CHECKING:
    from pathlib import Path

    from viscy_train.anchors.examiner import Examiner
    from viscy_train.anchors.read_experiment import ReadExperiment
    from viscy_train.config.schema import CropSettings, PositiveConfig
    from viscy_train.experiments.experiments_file import Experiment

_STRATUM = ["experiment", "condition"]


def build_anchor_table(
    experiments: list[Experiment],
    positive: PositiveConfig,
    crops: CropSettings,
    *,
    pixels: Literal["sample", "all"] = "sample",
    channels_mode: ChannelsMode = "all",
    processes: int = 1,
    saved: Path | None = None,
) -> AnchorTable:
    """Build the anchor table of a project.

    Parameters
    ----------
    experiments : list of Experiment
        Plates, tracks and wells of the project.
    positive : PositiveConfig
        Which frames may be positives.
    crops : CropSettings
        What the crop around a cell contains.
    pixels : {"sample", "all"}, default "sample"
        ``sample`` reads some frames, for the intensity statistics. ``all`` reads every frame and excludes observations
        whose pixels cannot be read or are not finite.
    channels_mode : {"all", "one"}, default "all"
        Whether a row is an observation in all channels of its experiment, or in one.
    processes : int, default 1
        Number of processes that read pixels. The table does not depend on it.
    saved : pathlib.Path, optional
        Where `viscy_train.anchors.examiner.examine_part` has saved what it has read, which is not read again.

    Returns
    -------
    AnchorTable
        All observations except those that need a chunk missing from the plate, which would be read as black.
        An excluded observation still connects its ancestors and descendants into one lineage.

    Raises
    ------
    ProjectError
        If plates, tracks and settings do not match, or a condition of an experiment has no anchor; one line per
        problem. With positives by metadata, a condition whose observations have no partners is a warning.
    UserError
        If a process ends unexpectedly.
    """
    settings = IndexSettings(crops=crops, pixels=pixels, channels_mode=channels_mode)
    own_columns = [*(CHANNEL_COLUMNS if channels_mode == "one" else []), *([Z_FOCUS] if crops.z == "sharpest" else [])]
    check_frames(experiments, positive)
    if not any(experiment.annotations for experiment in experiments):
        check_columns([*COLUMNS, *own_columns, *metadata_keys(experiments)], positive)
    problems = Problems()
    with examiner_on(processes, saved) as examiner:
        read = [read_experiment(one, settings, examiner, problems) for one in experiments]
    problems.raise_any()
    _say_what_was_read(read, examiner)
    intensity = {one.name: one.intensity for one in read}
    parts = [part for one in read for part in one.observations]
    observations = _sort(pd.concat(parts, ignore_index=True), experiments, channels_mode)
    observations["lineage_id"] = lineage_ids(observations)
    defects = observations.pop("defect")  # before metadata and annotations, which may have a column of this name
    observations, described = _describe(observations, experiments)
    observations, excluded = _exclude_unreadable(observations, defects)
    if channels_mode == "one":
        intensity = {one.name: _with_unused_channels(one, intensity[one.name], observations) for one in experiments}
    if len(observations):
        observations["has_positive"] = make_positives(observations, experiments, positive).has_positive()
        excluded += _count_without_positive(observations, positive)
    check_strata(observations, experiments, excluded, positive)
    by_experiment = {
        experiment.name: observations[(observations["experiment"] == experiment.name).to_numpy()]
        for experiment in experiments
    }
    return AnchorTable(
        observations=observations[[*COLUMNS, *own_columns, *described]],
        experiments=experiments,
        positive=positive,
        crops=crops,
        intensity=intensity,
        excluded=excluded,
        local_intensity={one.name: one.local_intensity for one in read if one.local_intensity is not None},
        scales={one.name: one.scales for one in read},
        tracks={
            one.name: checksums(one.tracks, by_experiment[one.name]["position"].unique(), one.tracks_format)
            for one in experiments
        },
        pixels={one.name: pixel_checksums(one, by_experiment[one.name], crops) for one in experiments},
        annotations={one.name: annotation_checksums(one) for one in experiments},
        channels_mode=channels_mode,
        warnings=[warning for one in read for warning in one.warnings],
    )


def _say_what_was_read(experiments: list[ReadExperiment], examiner: Examiner) -> None:
    """Say how much of it had been read before, and where intensities jump."""
    if examiner.n_reused:
        n = examiner.n_reused + examiner.n_examined
        say(f"Used what parts had read of {examiner.n_reused:,} of {count(n, 'position')}")
    jumps = [jump for experiment in experiments for jump in experiment.jumps]
    say_sentences(shorten(jumps, "Note: intensities of {} more channels jump"))


def _sort(observations: pd.DataFrame, experiments: list[Experiment], mode: ChannelsMode) -> pd.DataFrame:
    """Return observations in the order of an anchor table, with names as categories in the same order."""
    categories = {"experiment": [experiment.name for experiment in experiments]}
    for column in ("condition", "well", "position", *(CHANNEL_COLUMNS if mode == "one" else [])):
        categories[column] = sorted(observations[column].unique())
    for column, names in categories.items():
        observations[column] = pd.Categorical(observations[column], categories=names)
    return observations.sort_values(row_order(mode), ignore_index=True)


def _describe(observations: pd.DataFrame, experiments: list[Experiment]) -> tuple[pd.DataFrame, list[str]]:
    """Add the columns of metadata and annotations, say what was joined, and return the names of the columns."""
    described, notes = add_annotations(add_metadata(observations, experiments), experiments)
    for note in notes:
        say(note)
    return described, [name for name in described.columns if name not in observations]


def _with_unused_channels(
    experiment: Experiment, intensity: list[list[float]], observations: pd.DataFrame
) -> list[list[float]]:
    """Return intensities of the channels of an experiment, neutral ones for channels that no observation has."""
    used = set(observations["channel"][(observations["experiment"] == experiment.name).to_numpy()])
    pairs = zip(experiment.channel_names, intensity, strict=True)
    return [pair if name in used else [0.0, 1.0] for name, pair in pairs]


def _exclude_unreadable(observations: pd.DataFrame, defects: pd.Series) -> tuple[pd.DataFrame, list[Exclusion]]:
    """Return the readable observations, and counts of the others."""
    readable = (defects == READABLE).to_numpy()
    unreadable = observations[~readable]
    defects = defects[~readable]
    reason = defects.map(REASONS)
    if "channel" in observations:
        reason = reason + ", channel " + unreadable["channel"].astype("str")
    by = [*(unreadable[name] for name in _STRATUM), defects]
    counts: Any = unreadable.groupby([*by, reason.rename("reason")], observed=True).size()
    excluded = [
        Exclusion(experiment=str(experiment), condition=str(condition), reason=reason, n_observations=int(n))
        for (experiment, condition, _, reason), n in counts.items()
    ]
    return observations[readable].reset_index(drop=True), excluded


def _count_without_positive(observations: pd.DataFrame, positive: PositiveConfig) -> list[Exclusion]:
    """Return counts of the observations that have no positive: they stay in the table, but are not anchors."""
    without = ~observations["has_positive"].to_numpy()
    reason = np.where(without, reason_without(positive), "")
    for column, is_missing in missing_values(observations, positive).items():
        reason[is_missing] = f"without a value of {column!r}, which data.positive names"
    named = observations.loc[without, _STRATUM].assign(reason=reason[without])
    counts: Any = named.groupby([*_STRATUM, "reason"], observed=True, sort=False).size()
    return [
        Exclusion(experiment=str(experiment), condition=str(condition), reason=str(reason), n_observations=int(n))
        for (experiment, condition, reason), n in counts.items()
    ]
