"""Index: from plates and tracks to the anchor table, with everything that does not fit told before any training."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import pandas as pd
from rich.progress import track
from rich.table import Table
from rich.text import Text

from viscy_train.anchor_table import COLUMNS, AnchorTable
from viscy_train.brightness import Brightness
from viscy_train.crops import middle_slices
from viscy_train.errors import UserError
from viscy_train.lineages import Lineages, lineage_ids
from viscy_train.plates import channel_indices, image_of, open_plate, positions_of_well
from viscy_train.problems import Problems
from viscy_train.spoilt import REASONS, WHOLE, Crops, find_spoilt
from viscy_train.tracks import Tracks

if TYPE_CHECKING:
    from iohub.ngff import Plate
    from rich.console import Console

    from viscy_train.config import PositiveConfig
    from viscy_train.experiments import Experiment

# Frames read for the brightness of an experiment, but at least one of each position.
_FRAMES_FOR_BRIGHTNESS = 64
# A tracker may put a cell's centre up to half a pixel beyond that of the outermost pixel.
_REACH = 0.5
_REBUILD = "build it anew with `viscy-train index --config FILE`"


@dataclass(frozen=True, kw_only=True)
class _Settings:
    crop: int
    z_slices: int
    pixels: str


def build_index(
    experiments: list[Experiment],
    positive: PositiveConfig,
    crop: int,
    z_slices: int,
    *,
    pixels: Literal["sample", "all"] = "sample",
    console: Console | None = None,
) -> AnchorTable:
    """Build the anchor table of a project.

    Parameters
    ----------
    experiments : list of Experiment
        Name the plates, the tracks and the wells.
    positive : PositiveConfig
        Which frames may be positives.
    crop : int
        Side of the square around a cell, in pixels; at a border it is moved into the image.
    z_slices : int
        Slices of a crop, those in the middle of the stack.
    pixels : str, default "sample"
        ``sample`` reads some frames, for the brightness; ``all`` reads all, and leaves out cells whose crops have
        pixels that cannot be read or are no numbers.
    console : rich.console.Console, optional
        For the progress.

    Returns
    -------
    AnchorTable
        The cells, without those in chunks that are missing from a plate, which would be read as if they were black.
        What is left out still connects its ancestors and descendants to one lineage.

    Raises
    ------
    ProjectError
        If anything does not fit, or an experiment has no anchor: all of it, a line for each.
    """
    settings = _Settings(crop=crop, z_slices=z_slices, pixels=pixels)
    problems = Problems()
    parts: list[pd.DataFrame] = []
    brightness = {}
    for experiment in experiments:
        light = Brightness(len(experiment.channels))
        parts += _cells_of_experiment(experiment, settings, light, problems, console)
        brightness[experiment.name] = light.mean_and_deviation()
    problems.raise_any()
    cells = _in_order(pd.concat(parts, ignore_index=True), experiments)
    cells["lineage_id"] = lineage_ids(cells)
    cells, dropped = _without_lost(cells)
    if len(cells):
        cells["has_positive"] = Lineages.of(cells, positive).has_positive()
        dropped += _without_positive(cells, positive)
    _check_anchors(cells, experiments, dropped)
    return AnchorTable(
        cells=cells[COLUMNS],
        experiments=experiments,
        positive=positive,
        crop=crop,
        z_slices=z_slices,
        brightness=brightness,
        dropped=dropped,
    )


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
    """Check that everything which a table names can be opened and is as large as it must be, without reading pixels.

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
    settings = _Settings(crop=table.crop, z_slices=table.z_slices, pixels="sample")
    furthest = table.cells.groupby(["experiment", "position"], observed=True, sort=False)[["t", "y", "x"]].max()
    for experiment in table.experiments:
        subject = f"experiment {experiment.name!r}"
        with problems.collected(subject), open_plate(experiment.plate) as plate:
            with problems.collected(subject):
                channel_indices(plate, experiment.channels, experiment.plate)
            there = furthest.index.get_level_values(0) == experiment.name
            for (_, position), (t, y, x) in furthest[there].iterrows():
                with problems.collected(subject, str(position)):
                    image = _image(plate, str(position), experiment, settings)
                    n_frames, _, _, height, width = image.shape
                    if t >= n_frames or y > height - 1 + _REACH or x > width - 1 + _REACH:
                        raise UserError(
                            f"position {position} of plate {experiment.plate} has {n_frames} frames of {height} x "
                            f"{width} pixels, and the anchor table has cells beyond them; {_REBUILD}"
                        )
    problems.raise_any()


def describe(table: AnchorTable, console: Console) -> None:
    """Show what a table holds, and what was left out of it.

    Parameters
    ----------
    table : AnchorTable
        The cells.
    console : rich.console.Console
        Where to.
    """
    shown = Table("experiment", "condition")
    for heading in ("positions", "tracks", "lineages", "divisions", "cells", "anchors", "hours"):
        shown.add_column(heading, justify="right")
    parts: Any = table.cells.groupby(["experiment", "condition"], observed=True, sort=False)
    for (experiment, condition), cells in parts:
        tracks = cells.drop_duplicates(["position", "track_id"])
        daughters = (
            tracks[tracks["parent_track_id"] >= 0].groupby(["position", "parent_track_id"], observed=True).size()
        )
        hours = cells["hours_post_infection"]
        counts = [
            cells["position"].nunique(),
            len(tracks),
            cells["lineage_id"].nunique(),
            int((daughters > 1).sum()),
            len(cells),
            int(cells["has_positive"].sum()),
        ]
        span = f"{hours.min():.4g} to {hours.max():.4g}"
        shown.add_row(Text(str(experiment)), Text(str(condition)), *(f"{count:,}" for count in counts), span)
    console.print(shown)
    if not table.dropped:
        return
    lost = Table("experiment", "no anchors")
    lost.add_column("cells", justify="right")
    for one in table.dropped:
        lost.add_row(Text(one["experiment"]), one["reason"], f"{one['cells']:,}")
    console.print(lost)


def _cells_of_experiment(
    experiment: Experiment, settings: _Settings, light: Brightness, problems: Problems, console: Console | None
) -> list[pd.DataFrame]:
    """Return the cells of each position that fits, and collect what does not fit and how bright it is."""
    subject = f"experiment {experiment.name!r}"
    parts: list[pd.DataFrame] = []
    tracks: Tracks | None = None
    with problems.collected(subject):
        tracks = Tracks(experiment.tracks)
    with problems.collected(subject), open_plate(experiment.plate) as plate:
        channel_indices(plate, [], experiment.plate)  # without names of channels iohub opens nothing of a plate
        channels: list[int] = []
        with problems.collected(subject):
            channels = channel_indices(plate, experiment.channels, experiment.plate)
        wells = {}
        for well in experiment.conditions:
            with problems.collected(subject):
                wells |= dict.fromkeys(positions_of_well(plate, well, experiment.plate), well)
        n_frames = max(1, _FRAMES_FOR_BRIGHTNESS // max(1, len(wells)))
        quiet = console is None or not console.is_terminal
        bar = track(wells.items(), f"  {experiment.name}", console=console, transient=True, disable=quiet)
        for position, well in bar:
            with problems.collected(subject, position):
                image = _image(plate, position, experiment, settings)
                if tracks is None:
                    continue
                cells = _cells(tracks, well, position, experiment)
                _check_inside(cells, image.shape, position, experiment)
                if channels:
                    crops = _crops(cells, image, channels, settings)
                    cells["left_out"] = find_spoilt(
                        crops, light, n_frames, read_all=settings.pixels == "all", where=f"position {position}"
                    )
                    parts.append(cells)
    return parts


def _image(plate: Plate, position: str, experiment: Experiment, settings: _Settings) -> Any:
    """Return the image of a position; one that crops cannot be cut from is refused."""
    image = image_of(plate, position, experiment.plate)
    where = f"position {position} of plate {experiment.plate}"
    if np.dtype(image.dtype).kind not in "uif":
        raise UserError(f"pixels must be integers or floats, {where} has {image.dtype}")
    _, _, n_slices, height, width = image.shape
    if settings.crop > min(height, width):
        raise UserError(
            f"data.crop must fit into the images, {where} has {height} x {width} pixels, got {settings.crop}"
        )
    if settings.z_slices > n_slices:
        raise UserError(f"data.z_slices must fit into the stack, {where} has {n_slices}, got {settings.z_slices}")
    return image


def _cells(tracks: Tracks, well: str, position: str, experiment: Experiment) -> pd.DataFrame:
    of_position = tracks.of(position)
    return of_position.assign(
        experiment=experiment.name,
        condition=experiment.conditions[well],
        well=well,
        position=position,
        hours_post_infection=experiment.hours_post_infection(of_position["t"].astype(float)),
    )


def _check_inside(cells: pd.DataFrame, shape: tuple[int, ...], position: str, experiment: Experiment) -> None:
    n_frames, _, _, height, width = shape
    for column, size, reach in (("t", n_frames, 0.0), ("y", height, _REACH), ("x", width, _REACH)):
        outside = cells[(cells[column] < -reach) | (cells[column] > size - 1 + reach)]
        if len(outside):
            first = outside.iloc[0]
            raise UserError(
                f"tracks must lie inside the image, {column} in [0, {size - 1}], got {first[column]} for track "
                f"{first['track_id']} in frame {first['t']} of position {position} of {experiment.tracks} "
                f"({len(outside)} such rows)"
            )


def _crops(cells: pd.DataFrame, image: Any, channels: list[int], settings: _Settings) -> Crops:
    _, _, n_slices, *sizes = image.shape
    centres = np.rint(cells[["y", "x"]].to_numpy()).astype(np.int64)
    corners = np.clip(centres - settings.crop // 2, 0, np.array(sizes) - settings.crop)
    return Crops(
        image=image,
        channels=channels,
        z=middle_slices(n_slices, settings.z_slices),
        frame=cells["t"].to_numpy(),
        top=corners[:, 0],
        left=corners[:, 1],
        side=settings.crop,
    )


def _in_order(cells: pd.DataFrame, experiments: list[Experiment]) -> pd.DataFrame:
    """Return cells sorted as in an anchor table, their names as categories in the order of the rows."""
    orders = {"experiment": [experiment.name for experiment in experiments]}
    for name in ("condition", "well", "position"):
        orders[name] = sorted(cells[name].unique())
    for name, order in orders.items():
        cells[name] = pd.Categorical(cells[name], categories=order)
    return cells.sort_values(["experiment", "position", "track_id", "t"], ignore_index=True)


def _without_lost(cells: pd.DataFrame) -> tuple[pd.DataFrame, list[dict[str, Any]]]:
    """Return the cells that can be read, and how many others there are."""
    lost: Any = cells[cells["left_out"] != WHOLE].groupby(["experiment", "left_out"], observed=True).size()
    dropped = [
        {"experiment": str(experiment), "reason": REASONS[why], "cells": int(n)}
        for (experiment, why), n in lost.items()
    ]
    return cells[cells["left_out"] == WHOLE].reset_index(drop=True), dropped


def _without_positive(cells: pd.DataFrame, positive: PositiveConfig) -> list[dict[str, Any]]:
    alone = cells[~cells["has_positive"]].groupby("experiment", observed=True, sort=False).size()
    reason = f"no other time of their lineage {positive.min_frames} to {positive.max_frames} frames away"
    return [{"experiment": str(name), "reason": reason, "cells": int(n)} for name, n in alone.items()]


def _check_anchors(cells: pd.DataFrame, experiments: list[Experiment], dropped: list[dict[str, Any]]) -> None:
    problems = Problems()
    with_anchors = set(cells["experiment"][cells["has_positive"]]) if len(cells) else set()
    for experiment in experiments:
        if experiment.name not in with_anchors:
            reasons = [
                f"{one['cells']} cells {one['reason']}" for one in dropped if one["experiment"] == experiment.name
            ]
            problems.add(
                f"experiment {experiment.name!r}",
                f"no cell can be an anchor ({', '.join(reasons)}); widen `data.positive`, or leave the experiment out",
            )
    problems.raise_any()
