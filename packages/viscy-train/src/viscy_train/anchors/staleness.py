"""Table checks: whether an anchor table still fits the configuration, and the plates that it names."""

from __future__ import annotations

from typing import TYPE_CHECKING

from viscy_train.anchors.plates import channel_indices, image_for_crops, open_plate
from viscy_train.anchors.tracks import REACH, checksums
from viscy_train.errors import Problems, UserError

if TYPE_CHECKING:
    from viscy_train.anchors.experiments import Experiment
    from viscy_train.anchors.table import AnchorTable
    from viscy_train.config.schema import PositiveConfig

_REBUILD = "build it anew with `viscy-train index --config FILE`"


def check_table(
    table: AnchorTable, experiments: list[Experiment], positive: PositiveConfig, crop: int, z_slices: int
) -> None:
    """Refuse a table that was built from something else.

    Parameters
    ----------
    table : AnchorTable
        As it was saved.
    experiments, positive, crop, z_slices
        As they are now. Where plates and tracks are may have changed.

    Raises
    ------
    UserError
        If they differ; the message says in what.
    """
    for name, before, now in (
        ("data.crop", table.crop, crop),
        ("data.z_slices", table.z_slices, z_slices),
        ("data.positive.min_frames", table.positive.min_frames, positive.min_frames),
        ("data.positive.max_frames", table.positive.max_frames, positive.max_frames),
        ("the names of the experiments", [one.name for one in table.experiments], [one.name for one in experiments]),
    ):
        if before != now:
            raise UserError(
                f"the anchor table was built with other settings: {name} was {before}, is {now}; {_REBUILD}"
            )
    for before, now in zip(table.experiments, experiments, strict=True):
        for name in ("channels", "conditions", "minutes_per_frame", "hour_of_infection"):
            if getattr(before, name) != getattr(now, name):
                raise UserError(
                    f"the anchor table was built with other experiments: {name} of {now.name!r} was "
                    f"{getattr(before, name)}, is {getattr(now, name)}; {_REBUILD}"
                )


def check_plates(table: AnchorTable) -> None:
    """Check that the plates of a table can be opened and are large enough, and that its tracks are the same.

    No pixels are read. Tracks that are not there any more are not missed.

    Parameters
    ----------
    table : AnchorTable
        The cells.

    Raises
    ------
    ProjectError
        If anything does not fit: all of it, a line for each.
    """
    problems = Problems()
    furthest = table.observations.groupby(["experiment", "position"], observed=True, sort=False)[["t", "y", "x"]].max()
    for experiment in table.experiments:
        subject = f"experiment {experiment.name!r}"
        with problems.collected(subject):
            _check_tracks(table, experiment)
        with problems.collected(subject), open_plate(experiment.plate) as plate:
            with problems.collected(subject):
                channel_indices(plate, experiment.channels, experiment.plate)
            there = furthest.index.get_level_values(0) == experiment.name
            for (_, position), (t, y, x) in furthest[there].iterrows():
                with problems.collected(subject, str(position)):
                    image = image_for_crops(plate, str(position), experiment.plate, table.crop, table.z_slices)
                    n_frames, _, _, height, width = image.shape
                    if t >= n_frames or y > height - 1 + REACH or x > width - 1 + REACH:
                        raise UserError(
                            f"position {position} of plate {experiment.plate} has {n_frames} frames of {height} x "
                            f"{width} pixels, and the anchor table has cells beyond them; {_REBUILD}"
                        )
    problems.raise_any()


def _check_tracks(table: AnchorTable, experiment: Experiment) -> None:
    of_experiment = table.observations["position"][(table.observations["experiment"] == experiment.name).to_numpy()]
    before, now = table.tracks.get(experiment.name, {}), checksums(experiment.tracks, of_experiment.unique())
    changed = [name for name in before if name in now and now[name] != before[name]]
    if changed:
        more = f" and {len(changed) - 1} more" if len(changed) > 1 else ""
        raise UserError(
            f"tracks have changed since the anchor table was built, {experiment.tracks}, {changed[0]}{more}; {_REBUILD}"
        )
