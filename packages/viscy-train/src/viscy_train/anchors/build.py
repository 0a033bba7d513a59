"""Building the anchor table: combine plates and tracks, and report everything that does not match before training."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import pandas as pd

from viscy_train.anchors.strata import check_strata
from viscy_train.anchors.table import AnchorTable, Exclusion
from viscy_train.console import say, track
from viscy_train.crops.channel_groups import ChannelGroups, ChannelsMode, row_order
from viscy_train.crops.checksums import pixel_checksums
from viscy_train.crops.focus import focus_of_frames
from viscy_train.crops.geometry import coordinate_bounds
from viscy_train.crops.position_crops import PositionCrops
from viscy_train.crops.scale import count_scales, describe_odd, odd_scale, scale_of
from viscy_train.crops.unreadable import READABLE, REASONS, find_unreadable
from viscy_train.crops.window import CropWindow, crop_window
from viscy_train.errors import Problems, UserError
from viscy_train.experiments.annotation_files import require_annotations
from viscy_train.experiments.annotations import add_annotations, annotation_checksums
from viscy_train.experiments.columns import CHANNEL_COLUMNS, COLUMNS, Z_FOCUS
from viscy_train.experiments.interval import IMAGES, contrary_intervals
from viscy_train.experiments.position_metadata import add_metadata, metadata_keys, used_positions
from viscy_train.plates.pixels import PixelReader
from viscy_train.plates.plate import open_plate
from viscy_train.plates.stored_chunks import StoredChunks
from viscy_train.positives.description import reason_without
from viscy_train.positives.lineages import lineage_ids
from viscy_train.positives.rule import check_columns, check_frames, make_positives, missing_values
from viscy_train.tracks.tracks import Tracks, checksums
from viscy_train.wording import count, shorten

if TYPE_CHECKING:
    from viscy_train.config.schema import CropSettings, PositiveConfig
    from viscy_train.experiments.experiments_file import Experiment
    from viscy_train.plates.position_image import PositionImage

# Frames sampled for the intensity statistics of an experiment; at least one for each position.
_SAMPLED_FRAMES = 64
# Frames sampled of a position whose intensities are normalized by its own.
_SAMPLED_FRAMES_OF_POSITION = 8
# Chunks are hardly ever read twice.
_CACHE_MB = 64
_STRATUM = ["experiment", "condition"]


@dataclass(frozen=True, kw_only=True)
class _Settings:
    crops: CropSettings
    pixels: str


def build_anchor_table(
    experiments: list[Experiment],
    positive: PositiveConfig,
    crops: CropSettings,
    *,
    pixels: Literal["sample", "all"] = "sample",
    channels_mode: ChannelsMode = "all",
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
    """
    settings = _Settings(crops=crops, pixels=pixels)
    own_columns = [*(CHANNEL_COLUMNS if channels_mode == "one" else []), *([Z_FOCUS] if crops.z == "sharpest" else [])]
    check_frames(experiments, positive)
    if not any(experiment.annotations for experiment in experiments):
        check_columns([*COLUMNS, *own_columns, *metadata_keys(experiments)], positive)
    reader = PixelReader(_CACHE_MB)
    problems = Problems()
    parts: list[pd.DataFrame] = []
    intensity, local_intensity, scales = {}, {}, {}
    jumps: list[str] = []
    for experiment in experiments:
        counted = ChannelGroups(experiment, channels_mode, crops.normalization, _SAMPLED_FRAMES)
        seen: list[tuple[float | None, float | None]] = []
        parts += _observations_by_position(experiment, settings, reader, counted, seen, problems)
        intensity[experiment.name] = counted.center_and_spread()
        scales[experiment.name] = count_scales(seen)
        jumps += counted.describe_jumps()
        if crops.normalization.by != "experiment":
            local_intensity[experiment.name] = counted.by_position()
    problems.raise_any()
    for sentence in shorten(jumps, "Note: intensities of {} more channels jump"):
        say(sentence)
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
        local_intensity=local_intensity,
        scales=scales,
        tracks={
            one.name: checksums(one.tracks, by_experiment[one.name]["position"].unique(), one.tracks_format)
            for one in experiments
        },
        pixels={one.name: pixel_checksums(one, by_experiment[one.name], crops) for one in experiments},
        annotations={one.name: annotation_checksums(one) for one in experiments},
        channels_mode=channels_mode,
    )


def _observations_by_position(
    experiment: Experiment,
    settings: _Settings,
    reader: PixelReader,
    intensity: ChannelGroups,
    scales: list[tuple[float | None, float | None]],
    problems: Problems,
) -> list[pd.DataFrame]:
    """Return the observations of each valid position; collect problems and intensity statistics on the way."""
    subject = f"experiment {experiment.name!r}"
    parts: list[pd.DataFrame] = []
    odd: dict[str, list[str]] = {}
    intervals: dict[str, float] = {}
    tracks: Tracks | None = None
    for path in experiment.annotations:
        with problems.collected(subject):
            require_annotations(path)
    with problems.collected(subject):
        tracks = Tracks.of_experiment(experiment)
    with problems.collected(subject):
        plate = open_plate(experiment.plate)
        wells = used_positions(plate, experiment, problems)
        least = _SAMPLED_FRAMES_OF_POSITION if settings.crops.normalization.by == "position" else 1
        n_sampled = max(least, _SAMPLED_FRAMES // max(1, len(wells)))
        for index, (position, well) in enumerate(track(wells.items(), experiment.name)):
            with problems.collected(subject, position):
                image = plate.image(position)
                extent = crop_window(image, experiment, settings.crops)
                scales.append(scale_of(image, experiment))
                for sentence in odd_scale(image, experiment):
                    odd.setdefault(sentence, []).append(position)
                if image.minutes_per_frame is not None:
                    intervals[position] = image.minutes_per_frame
                channels: list[int] = []
                with problems.collected(subject, position):
                    channels = image.channel_indices(experiment.channel_names)
                if tracks is None:
                    continue
                observations = _observations_at(tracks, well, position, experiment, image, is_only=len(wells) == 1)
                _check_inside(observations, image.shape, position, experiment)
                for group in intensity.groups if channels else ():
                    crops = _position_crops(observations, image, reader, channels[group.channels], settings, extent)
                    counted = group.intensity.add_position(position, image.shape[0])
                    read_all, where = settings.pixels == "all", f"position {position}"
                    defects = find_unreadable(crops, counted, n_sampled, index, read_all=read_all, where=where)
                    focus = {} if crops.focus is None else {Z_FOCUS: crops.focus}
                    parts.append(observations.assign(**group.columns, **focus, defect=defects))
        if tracks is not None and (read := tracks.describe()):
            say(f"{experiment.name}: {read}")
        for sentence in describe_odd(odd):
            say(f"{experiment.name}: {sentence}")
        contrary = contrary_intervals(IMAGES, intervals, experiment.minutes_per_frame)
        of_images = describe_odd(dict([contrary])) if contrary else []
        for doubt in [*of_images, *(() if tracks is None else tracks.doubts())]:
            say(f"Warning: {experiment.name}: {doubt}")
    return parts


def _observations_at(
    tracks: Tracks, well: str, position: str, experiment: Experiment, image: PositionImage, *, is_only: bool
) -> pd.DataFrame:
    size, _ = scale_of(image, experiment)
    observations = tracks.of(position, shape=image.shape, micrometers_per_pixel=size, is_only=is_only)
    return observations.assign(
        experiment=experiment.name,
        condition=experiment.condition_of(position, well),
        well=well,
        position=position,
        hours_post_infection=experiment.hours_post_infection(observations["t"].astype(float)),
    )


def _check_inside(observations: pd.DataFrame, shape: tuple[int, ...], position: str, experiment: Experiment) -> None:
    for column, (smallest, largest) in coordinate_bounds(shape).items():
        outside = observations[~observations[column].between(smallest, largest)]
        if len(outside):
            first = outside.iloc[0]
            raise UserError(
                f"tracks must be inside the image, {column} in [{smallest}, {largest}], got {first[column]} for track "
                f"{first['track_id']} in frame {first['t']} of position {position} of {experiment.tracks} "
                f"({count(len(outside), 'row')} affected); track this image, or correct these rows, `tracks_unit` or "
                "`tracks_first_frame`"
            )


def _position_crops(
    observations: pd.DataFrame,
    image: PositionImage,
    reader: PixelReader,
    channels: list[int],
    settings: _Settings,
    extent: CropWindow,
) -> PositionCrops:
    corners = extent.corners(extent.starts(observations[["y", "x"]].to_numpy(np.float64)))
    stored = StoredChunks(image.array)
    source = reader.open(image.array, fill_missing=stored.are_known)
    frame = observations["t"].to_numpy()
    focus = None
    if settings.crops.z == "sharpest":
        sharpest = focus_of_frames(image, source, stored, channels[0], np.unique(frame).tolist())
        focus = np.array([sharpest[one] for one in frame.tolist()], dtype=np.int64)
    return PositionCrops(
        image=image,
        stored=stored,
        source=source,
        channels=channels,
        extent=extent,
        frame=frame,
        top=corners[:, 0],
        left=corners[:, 1],
        focus=focus,
    )


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
