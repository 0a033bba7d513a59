"""Staleness: whether an anchor table still matches the configuration, plates and tracks that it was built from."""

from __future__ import annotations

from dataclasses import fields
from typing import TYPE_CHECKING, Any

from viscy_train.crops.checksums import pixels_changed
from viscy_train.crops.geometry import coordinate_bounds
from viscy_train.crops.scale import check_scale
from viscy_train.crops.window import crop_window
from viscy_train.errors import Problems, UserError
from viscy_train.experiments.annotations import annotation_checksums
from viscy_train.plates.plate import open_plate
from viscy_train.tracks.tracks import checksums

if TYPE_CHECKING:
    from collections.abc import Mapping

    from viscy_train.anchors.table import AnchorTable
    from viscy_train.config.schema import CropSettings, PositiveConfig
    from viscy_train.experiments.experiments_file import Experiment
    from viscy_train.plates.plate import Plate
    from viscy_train.plates.position_image import PositionImage

# What the experiments file says that decides the rows, and not where to find them.
_COMPARED = (
    "channels",
    "conditions",
    "exclude",
    "missing_tracks",
    "minutes_per_frame",
    "hour_of_infection",
    "tracks_unit",
    "tracks_first_frame",
    "micrometers_per_pixel",
    "micrometers_per_slice",
    "metadata",
    "wells",
)
_REBUILD = "rebuild it with `viscy-train index --config FILE`"


def check_settings(
    table: AnchorTable,
    experiments: list[Experiment],
    positive: PositiveConfig,
    crops: CropSettings,
    *,
    channels_mode: str = "all",
) -> None:
    """Refuse a table that was built with other settings.

    Parameters
    ----------
    table : AnchorTable
        The table, as read from disk.
    experiments, positive, crops, channels_mode
        The current settings. The paths of plates and tracks may differ from those in the table.

    Raises
    ------
    UserError
        If a setting differs; the message names it.
    """
    names = [[one.name for one in part] for part in (table.experiments, experiments)]
    for name, before, now in (
        *_compare(table.crops, crops, "data."),
        *sorted(_compare(table.positive.resolved(), positive.resolved(), "data.positive."), key=_is_of_frames),
        ("data.channels", table.channels_mode, channels_mode),
        ("list of experiments", *names),
    ):
        if before != now:
            raise UserError(
                f"the anchor table was built with other settings: {name} was {_text(before)}, is now {_text(now)}; "
                f"{_REBUILD}"
            )
    for before, now in zip(table.experiments, experiments, strict=True):
        files = [[path.name for path in one.annotations] for one in (before, now)]
        if files[0] != files[1]:
            raise UserError(
                f"the anchor table was built with other experiments: annotations of {now.name!r} was {files[0]}, is "
                f"now {files[1]}; {_REBUILD}"
            )
        for name in _COMPARED:
            if getattr(before, name) != getattr(now, name):
                raise UserError(
                    f"the anchor table was built with other experiments: {name} of {now.name!r} was "
                    f"{getattr(before, name)}, is now {getattr(now, name)}; {_REBUILD}"
                )


def _compare[T: (CropSettings, PositiveConfig)](before: T, now: T, prefix: str) -> list[tuple[str, Any, Any]]:
    """Return name, value in the table and current value of each option."""
    return [(f"{prefix}{field.name}", getattr(before, field.name), getattr(now, field.name)) for field in fields(now)]


def _text(value: Any) -> str:
    return "null" if value is None else str(value)


def _is_of_frames(option: tuple[str, Any, Any]) -> bool:
    """Return whether an option has another value, or none, only because others have."""
    return option[0].endswith("_frames")


def check_sources(table: AnchorTable) -> None:
    """Check that plates, tracks and annotations of a table are those that it was built from, as `check_plates` does.

    Missing tracks and annotations are accepted, because training does not need them.

    Parameters
    ----------
    table : AnchorTable
        The anchor table.

    Raises
    ------
    ProjectError
        If a plate, track file or table of annotations does not match; one line per problem.
    """
    problems = Problems()
    for experiment in table.experiments:
        with problems.collected(f"experiment {experiment.name!r}"):
            _check_tracks(table, experiment)
            _check_annotations(table, experiment)
    _collect_plate_problems(table, problems, forks_later=False)
    problems.raise_any()


def check_plates(table: AnchorTable) -> None:
    """Check that the plates of a table can be opened, are large enough, and have the same pixels in a few crops.

    Parameters
    ----------
    table : AnchorTable
        The anchor table.

    Raises
    ------
    ProjectError
        If a plate does not match; one line per problem.
    """
    problems = Problems()
    _collect_plate_problems(table, problems)
    problems.raise_any()


def _collect_plate_problems(table: AnchorTable, problems: Problems, *, forks_later: bool = True) -> None:
    largest = table.observations.groupby(["experiment", "position"], observed=True, sort=False)[["t", "y", "x"]].max()
    for experiment in table.experiments:
        subject = f"experiment {experiment.name!r}"
        with problems.collected(subject):
            plate, images = open_plate(experiment.plate), {}
            in_experiment = largest.index.get_level_values(0) == experiment.name
            for (_, position), coordinates in largest[in_experiment].iterrows():
                with problems.collected(subject, str(position)):
                    image = images[str(position)] = plate.image(str(position))
                    image.channel_indices(experiment.channel_names)
                    check_scale(image, experiment, table.crops, table.scales.get(experiment.name, []))
                    crop_window(image, experiment, table.crops)
                    bounds = coordinate_bounds(image.shape)
                    if any(coordinates[column] > bound for column, (_, bound) in bounds.items()):
                        n_frames, _, _, height, width = image.shape
                        raise UserError(
                            f"position {position} of plate {experiment.plate} has {n_frames} frames of {height} x "
                            f"{width} pixels, but the anchor table has observations outside; {_REBUILD}"
                        )
            if not problems:
                _check_pixels(table, experiment, plate, images, forks_later=forks_later)


def _check_pixels(
    table: AnchorTable,
    experiment: Experiment,
    plate: Plate,
    images: Mapping[str, PositionImage],
    *,
    forks_later: bool,
) -> None:
    samples = table.pixels.get(experiment.name, [])  # an earlier version has none
    options: Any = {"channels_mode": table.channels_mode, "images": images, "forks_later": forks_later}
    if pixels_changed(plate, experiment, samples, table.crops, **options):
        raise UserError(
            f"plate {experiment.plate} has other pixels than when the anchor table was built; restore it, or build the "
            "table again with `viscy-train index --config FILE`"
        )


def _check_annotations(table: AnchorTable, experiment: Experiment) -> None:
    before, now = table.annotations.get(experiment.name, {}), annotation_checksums(experiment)
    changed = [name for name in before if name in now and now[name] != before[name]]
    if changed:
        names = ", ".join(name.partition(": ")[2] for name in changed)
        raise UserError(f"annotations changed after the anchor table was built: {names}; {_REBUILD}")


def _check_tracks(table: AnchorTable, experiment: Experiment) -> None:
    in_experiment = (table.observations["experiment"] == experiment.name).to_numpy()
    positions = table.observations["position"][in_experiment].unique()
    before, now = (
        table.tracks.get(experiment.name, {}),
        checksums(experiment.tracks, positions, experiment.tracks_format),
    )
    changed = [name for name in before if name in now and now[name] != before[name]]
    if changed:
        more = f" and {len(changed) - 1} more" if len(changed) > 1 else ""
        raise UserError(
            f"tracks changed after the anchor table was built: {experiment.tracks}, {changed[0]}{more}; {_REBUILD}"
        )
