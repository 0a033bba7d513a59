"""Index: from plates and tracks to the anchor table, with everything that does not fit told before any training."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import pandas as pd
from rich.progress import track

from viscy_train.anchors.cell_crops import Crops
from viscy_train.anchors.geometry import corners, middle_slices
from viscy_train.anchors.intensity import IntensityStatistics
from viscy_train.anchors.lineages import Lineages, lineage_ids
from viscy_train.anchors.plates import channel_indices, image_for_crops, open_plate, positions_of_well
from viscy_train.anchors.table import COLUMNS, AnchorTable
from viscy_train.anchors.tracks import REACH, Tracks, checksums
from viscy_train.anchors.unreadable import REASONS, WHOLE, find_unreadable
from viscy_train.errors import Problems, UserError

if TYPE_CHECKING:
    from rich.console import Console

    from viscy_train.anchors.experiments import Experiment
    from viscy_train.config.schema import PositiveConfig

# Frames read for the brightness of an experiment, but at least one of each position.
_FRAMES_FOR_BRIGHTNESS = 64
_PART = ["experiment", "condition"]
_ALONE = "no other time of their lineage"


@dataclass(frozen=True, kw_only=True)
class _Settings:
    crop: int
    z_slices: int
    pixels: str


def build_anchor_table(
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
        light = IntensityStatistics(len(experiment.channels))
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
        observations=cells[COLUMNS],
        experiments=experiments,
        positive=positive,
        crop=crop,
        z_slices=z_slices,
        brightness=brightness,
        dropped=dropped,
        tracks={
            experiment.name: checksums(experiment.tracks, positions.unique())
            for experiment, positions in (
                (one, cells["position"][cells["experiment"] == one.name]) for one in experiments
            )
        },
    )


def _cells_of_experiment(
    experiment: Experiment, settings: _Settings, light: IntensityStatistics, problems: Problems, console: Console | None
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
        for number, (position, well) in enumerate(bar):
            with problems.collected(subject, position):
                image = image_for_crops(plate, position, experiment.plate, settings.crop, settings.z_slices)
                if tracks is None:
                    continue
                cells = _cells(tracks, well, position, experiment)
                _check_inside(cells, image.shape, position, experiment)
                if channels:
                    crops = _crops(cells, image, channels, settings)
                    cells["left_out"] = find_unreadable(
                        crops, light, n_frames, number, read_all=settings.pixels == "all", where=f"position {position}"
                    )
                    parts.append(cells)
    return parts


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
    for column, size, reach in (("t", n_frames, 0.0), ("y", height, REACH), ("x", width, REACH)):
        outside = cells[(cells[column] < -reach) | (cells[column] > size - 1 + reach)]
        if len(outside):
            first = outside.iloc[0]
            raise UserError(
                f"tracks must lie inside the image, {column} in [0, {size - 1}], got {first[column]} for track "
                f"{first['track_id']} in frame {first['t']} of position {position} of {experiment.tracks} "
                f"({len(outside)} such rows)"
            )


def _crops(cells: pd.DataFrame, image: Any, channels: list[int], settings: _Settings) -> Crops:
    _, _, n_slices, height, width = image.shape
    centres = np.rint(cells[["y", "x"]].to_numpy()).astype(np.int64)
    first = corners(centres, settings.crop, (height, width))
    return Crops(
        image=image,
        channels=channels,
        z=middle_slices(n_slices, settings.z_slices),
        frame=cells["t"].to_numpy(),
        top=first[:, 0],
        left=first[:, 1],
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
    lost: Any = cells[cells["left_out"] != WHOLE].groupby([*_PART, "left_out"], observed=True).size()
    dropped = [
        {"experiment": str(experiment), "condition": str(condition), "reason": REASONS[why], "cells": int(n)}
        for (experiment, condition, why), n in lost.items()
    ]
    return cells[cells["left_out"] == WHOLE].reset_index(drop=True), dropped


def _without_positive(cells: pd.DataFrame, positive: PositiveConfig) -> list[dict[str, Any]]:
    alone: Any = cells[~cells["has_positive"]].groupby(_PART, observed=True, sort=False).size()
    reason = f"{_ALONE} {positive.min_frames} to {positive.max_frames} frames away"
    return [
        {"experiment": str(experiment), "condition": str(condition), "reason": reason, "cells": int(n)}
        for (experiment, condition), n in alone.items()
    ]


def _check_anchors(cells: pd.DataFrame, experiments: list[Experiment], dropped: list[dict[str, Any]]) -> None:
    """Refuse a condition of an experiment of which nothing is left."""
    problems = Problems()
    anchors = cells[cells["has_positive"]] if len(cells) else cells
    left = set(zip(anchors["experiment"], anchors["condition"], strict=True))
    for experiment in experiments:
        for condition in dict.fromkeys(experiment.conditions.values()):
            if (experiment.name, condition) in left:
                continue
            lost = [one for one in dropped if (one["experiment"], one["condition"]) == (experiment.name, condition)]
            reasons = ", ".join(f"{one['cells']} cells {one['reason']}" for one in lost)
            wider = "widen `data.positive`, or " * any(one["reason"].startswith(_ALONE) for one in lost)
            wells = ", ".join(well for well, other in experiment.conditions.items() if other == condition)
            problems.add(
                f"experiment {experiment.name!r}",
                f"no cell of condition {condition!r} can be an anchor ({reasons}); {wider}leave out {wells}",
            )
    problems.raise_any()
