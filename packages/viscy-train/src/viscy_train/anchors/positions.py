"""Positions of an experiment: what their metadata and tracks say, checked before their pixels are read."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

import numpy as np

from viscy_train.anchors.examination import PositionTask
from viscy_train.crops.channel_groups import ChannelGroups, ChannelsMode
from viscy_train.crops.geometry import coordinate_bounds
from viscy_train.crops.scale import odd_scale, scale_of
from viscy_train.crops.window import crop_window
from viscy_train.errors import NoTracksError, Problems, UserError
from viscy_train.experiments.annotation_files import require_annotations
from viscy_train.experiments.position_metadata import used_positions
from viscy_train.plates.plate import open_plate
from viscy_train.tracks.depth import ReadSlices
from viscy_train.tracks.tracks import Tracks
from viscy_train.wording import count

if TYPE_CHECKING:
    from collections.abc import Collection, Generator, Iterator

    import pandas as pd

    from viscy_train.config.schema import CropSettings
    from viscy_train.experiments.experiments_file import Experiment
    from viscy_train.plates.plate import Plate
    from viscy_train.plates.position_image import PositionImage

# Frames sampled for the intensity statistics of an experiment; at least one for each position.
_SAMPLED_FRAMES = 64
# Frames sampled of a position whose intensities are normalized by its own.
_SAMPLED_FRAMES_OF_POSITION = 8


@dataclass(frozen=True, kw_only=True)
class IndexSettings:
    """How positions are examined.

    Parameters
    ----------
    crops : CropSettings
        What the crop around a cell contains.
    pixels : {"sample", "all"}
        Whether some frames are read, or all of them.
    channels_mode : {"all", "one"}
        Whether a row is an observation in all channels of its experiment, or in one.
    """

    crops: CropSettings
    pixels: Literal["sample", "all"] = "sample"
    channels_mode: ChannelsMode = "all"

    def channel_groups(self, experiment: Experiment) -> ChannelGroups:
        """Return the channels of an experiment in groups, without intensities."""
        return ChannelGroups(experiment, self.channels_mode, self.crops.normalization, _SAMPLED_FRAMES)

    def n_sampled(self, n_positions: int) -> int:
        """Return how many frames of each position are sampled, given the number of positions of the experiment."""
        least = _SAMPLED_FRAMES_OF_POSITION if self.crops.normalization.by == "position" else 1
        return max(least, _SAMPLED_FRAMES // max(1, n_positions))


@dataclass(frozen=True, kw_only=True)
class OpenExperiment:
    """An experiment whose plate is open.

    Parameters
    ----------
    experiment : Experiment
        The experiment.
    plate : Plate
        Its plate.
    tracks : Tracks, optional
        Its tracks; None if they cannot be used.
    wells : dict of str to str
        The well of each position in use.
    """

    experiment: Experiment
    plate: Plate
    tracks: Tracks | None
    wells: dict[str, str]


@dataclass(kw_only=True)
class CheckedPosition:
    """What is known of a position before its pixels are read.

    Parameters
    ----------
    name : str
        Name of the position.
    errors : list of UserError
        What is wrong with it.
    lacks_tracks : bool
        Whether it is left out because it has no tracks.
    scale : tuple of float, optional
        Micrometers per pixel and per slice, as `viscy_train.crops.scale.scale_of`; None if the image cannot be used.
    odd : list of str
        Sentences on its scale.
    minutes_per_frame : float, optional
        What the metadata of the image state.
    observations : pandas.DataFrame, optional
        Its observations, if they are inside the image.
    task : PositionTask, optional
        What to read of its pixels; None if something is wrong.
    """

    name: str
    errors: list[UserError] = field(default_factory=list)
    lacks_tracks: bool = False
    scale: tuple[float | None, float | None] | None = None
    odd: list[str] = field(default_factory=list)
    minutes_per_frame: float | None = None
    observations: pd.DataFrame | None = None
    task: PositionTask | None = None

    @contextmanager
    def collected(self) -> Generator[None]:
        """Collect a `UserError` that the block raises, and continue after the block."""
        try:
            yield
        except UserError as error:
            self.errors.append(error)


def open_experiment(experiment: Experiment, problems: Problems) -> OpenExperiment | None:
    """Open the plate and the tracks of an experiment.

    Parameters
    ----------
    experiment : Experiment
        The experiment.
    problems : Problems
        Receives what is wrong.

    Returns
    -------
    OpenExperiment, optional
        None if the plate or its wells cannot be used.
    """
    subject = f"experiment {experiment.name!r}"
    tracks: Tracks | None = None
    for path in experiment.annotations:
        with problems.collected(subject):
            require_annotations(path)
    with problems.collected(subject):
        tracks = Tracks.of_experiment(experiment)
    with problems.collected(subject):
        plate = open_plate(experiment.plate)
        wells = used_positions(plate, experiment, problems)
        return OpenExperiment(experiment=experiment, plate=plate, tracks=tracks, wells=wells)
    return None


def check_positions(
    opened: OpenExperiment, settings: IndexSettings, numbers: Collection[int] | None = None
) -> Iterator[CheckedPosition]:
    """Check the positions of an experiment, each when it is needed.

    Parameters
    ----------
    opened : OpenExperiment
        The experiment.
    settings : IndexSettings
        How positions are examined.
    numbers : collection of int, optional
        Indices of the positions to check; by default, all.

    Yields
    ------
    CheckedPosition
        Each position, in order.
    """
    groups = [group.channels for group in settings.channel_groups(opened.experiment).groups]
    for number, (name, well) in enumerate(opened.wells.items()):
        if numbers is None or number in numbers:
            checked = CheckedPosition(name=name)
            with checked.collected():
                _check(checked, opened, settings, groups, well, number)
            yield checked


def _check(
    checked: CheckedPosition,
    opened: OpenExperiment,
    settings: IndexSettings,
    groups: list[slice],
    well: str,
    number: int,
) -> None:
    """Fill in what is known of a position, up to the first error."""
    name, experiment, n_positions = checked.name, opened.experiment, len(opened.wells)
    image = opened.plate.image(name)
    extent = crop_window(image, experiment, settings.crops)
    checked.scale = scale_of(image, experiment)
    checked.odd = odd_scale(image, experiment)
    checked.minutes_per_frame = image.minutes_per_frame
    channels: list[int] = []
    with checked.collected():
        channels = image.channel_indices(experiment.channel_names)
    if opened.tracks is None:
        return
    try:
        slices = None if settings.crops.z == "sharpest" else extent.reachable
        observations = _observations_at(opened.tracks, well, name, experiment, image, slices, is_only=n_positions == 1)
    except NoTracksError as error:
        if experiment.missing_tracks == "skip":
            checked.lacks_tracks = True
            return
        raise UserError(f"{error}; `exclude: [{name}]` or `missing_tracks: skip` leaves it out") from error
    _check_inside(observations, image.shape, name, experiment)
    checked.observations = observations
    if channels:
        checked.task = PositionTask(
            position=name,
            image=image,
            extent=extent,
            channels=tuple(channels[group] for group in groups),
            frame=observations["t"].to_numpy(),
            centers=observations[["y", "x"]].to_numpy(np.float64),
            normalization=settings.crops.normalization,
            n_sampled=settings.n_sampled(n_positions),
            number=number,
            read_all=settings.pixels == "all",
        )


def _observations_at(
    tracks: Tracks,
    well: str,
    position: str,
    experiment: Experiment,
    image: PositionImage,
    slices: slice | None,
    *,
    is_only: bool,
) -> pd.DataFrame:
    size, distance = scale_of(image, experiment)
    read = None if slices is None else ReadSlices(slices, image.shape[2], distance)
    observations = tracks.of(position, shape=image.shape, micrometers_per_pixel=size, is_only=is_only, read=read)
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
