"""Index: from plates and tracks to the anchor table, with everything that does not fit told before any training."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import pandas as pd
from rich.progress import track
from rich.table import Table

from viscy_train.anchor_table import COLUMNS, AnchorTable
from viscy_train.chunks import lie_in_missing_chunks
from viscy_train.crops import middle_slices
from viscy_train.errors import ProjectError, UserError
from viscy_train.lineages import Lineages, lineage_ids
from viscy_train.plates import channel_indices, image_of, open_plate, positions_of_well
from viscy_train.tracks import Tracks

if TYPE_CHECKING:
    from collections.abc import Iterator

    from iohub.ngff import Plate
    from numpy.typing import NDArray
    from rich.console import Console

    from viscy_train.config import PositiveConfig
    from viscy_train.experiments import Experiment

_FRAMES_FOR_BRIGHTNESS = 64
# A tracker may put a cell's centre up to half a pixel beyond that of the outermost pixel.
_REACH = 0.5
_NAMES = ["experiment", "condition", "well", "position"]
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

    Raises
    ------
    ProjectError
        If anything does not fit: all of it, a line for each.
    UserError
        If no anchor is left.
    """
    settings = _Settings(crop=crop, z_slices=z_slices, pixels=pixels)
    problems: list[str] = []
    dropped: list[dict[str, Any]] = []
    parts, brightness = [], {}
    for experiment in experiments:
        light = _Light(len(experiment.channels))
        for cells in _positions(experiment, settings, light, problems, dropped, console):
            parts.append(cells)
        brightness[experiment.name] = light.mean_and_deviation()
    if problems:
        raise ProjectError(problems)
    cells = pd.concat(parts, ignore_index=True)
    for name in _NAMES:
        cells[name] = pd.Categorical(cells[name], categories=list(dict.fromkeys(cells[name])))
    cells["lineage_id"] = lineage_ids(cells)
    cells["has_positive"] = Lineages.of(cells, positive).has_positive()
    _count_without_positive(cells, positive, dropped)
    if not cells["has_positive"].any():
        bounds = f"{positive.min_frames} to {positive.max_frames}"
        raise UserError(f"no lineage is there at two times {bounds} frames apart; widen `data.positive`")
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
    problems: list[str] = []
    settings = _Settings(crop=table.crop, z_slices=table.z_slices, pixels="sample")
    last = table.cells.groupby(["experiment", "position"], observed=True, sort=False)["t"].max()
    for experiment in table.experiments:
        if experiment.name not in last.index.get_level_values(0):
            continue
        try:
            with open_plate(experiment.plate) as plate:
                channel_indices(plate, experiment.channels, experiment.plate)
                for position, frame in last.loc[experiment.name].items():
                    image = _image(plate, str(position), experiment, settings)
                    if frame >= image.shape[0]:
                        raise UserError(
                            f"position {position} of plate {experiment.plate} has {image.shape[0]} frames, the anchor "
                            f"table has cells in frame {frame}; {_REBUILD}"
                        )
        except UserError as error:
            problems.append(str(error))
    if problems:
        raise ProjectError(problems)


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
    for (experiment, condition), cells in table.cells.groupby(["experiment", "condition"], observed=True, sort=False):
        tracks = cells.drop_duplicates(["position", "track_id"])
        mothers = tracks[tracks["parent_track_id"] >= 0].drop_duplicates(["position", "parent_track_id"])
        hours = cells["hours_post_infection"]
        counts = [
            cells["position"].nunique(),
            len(tracks),
            cells["lineage_id"].nunique(),
            len(mothers),
            len(cells),
            int(cells["has_positive"].sum()),
        ]
        span = f"{hours.min():g} to {hours.max():g}"
        shown.add_row(str(experiment), str(condition), *(f"{count:,}" for count in counts), span)
    console.print(shown, highlight=False, markup=False)
    for one in table.dropped:
        text = f"{one['experiment']}: {one['cells']:,} cells {one['reason']}"
        console.print(text, highlight=False, markup=False, soft_wrap=True)


def _positions(
    experiment: Experiment,
    settings: _Settings,
    light: _Light,
    problems: list[str],
    dropped: list[dict[str, Any]],
    console: Console | None,
) -> Iterator[pd.DataFrame]:
    """Yield the cells of each position, and collect what does not fit and what is left out."""
    try:
        plate = open_plate(experiment.plate)
    except UserError as error:
        problems.append(str(error))
        return
    with plate:
        wells: list[tuple[str, str]] = []
        for well in experiment.conditions:
            try:
                wells += [(well, position) for position in positions_of_well(plate, well, experiment.plate)]
            except UserError as error:
                problems.append(str(error))
        try:
            channels = channel_indices(plate, experiment.channels, experiment.plate)
        except UserError as error:
            problems.append(str(error))
            return
        n_frames = max(1, _FRAMES_FOR_BRIGHTNESS // max(1, len(wells)))
        counts: dict[str, int] = {}
        quiet = console is None or not console.is_terminal
        tracks = Tracks(experiment.tracks)
        for well, position in track(wells, f"  {experiment.name}", console=console, transient=True, disable=quiet):
            try:
                cells = _cells(tracks, well, position, experiment)
                image = _image(plate, position, experiment, settings)
                _check_inside(cells, image.shape, position, experiment)
                cells = _without_missing(cells, image, channels, settings, counts)
                cells = _with_good_pixels(
                    cells, image, channels, settings, light, n_frames, counts, position, experiment
                )
            except UserError as error:
                problems.append(str(error))
                continue
            yield cells
        dropped += [{"experiment": experiment.name, "reason": reason, "cells": n} for reason, n in counts.items() if n]


def _cells(source: Tracks, well: str, position: str, experiment: Experiment) -> pd.DataFrame:
    tracks = source.of(position)
    return tracks.assign(
        experiment=experiment.name,
        condition=experiment.conditions[well],
        well=well,
        position=position,
        hours_post_infection=experiment.hours_post_infection(tracks["t"].astype(float)),
    )


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


def _without_missing(
    cells: pd.DataFrame, image: Any, channels: list[int], settings: _Settings, counts: dict[str, int]
) -> pd.DataFrame:
    top, left = _corners(cells, image.shape, settings.crop)
    z = middle_slices(image.shape[2], settings.z_slices)
    missing = lie_in_missing_chunks(image, cells["t"].to_numpy(), channels, z, top, left, settings.crop)
    reason = "left out: the plate lacks a chunk of their frame, it is blank or lost"
    counts[reason] = counts.get(reason, 0) + int(missing.sum())
    return cells[~missing]


def _with_good_pixels(
    cells: pd.DataFrame,
    image: Any,
    channels: list[int],
    settings: _Settings,
    light: _Light,
    n_frames: int,
    counts: dict[str, int],
    position: str,
    experiment: Experiment,
) -> pd.DataFrame:
    """Read frames, for their brightness; where all are read, leave out cells with bad pixels."""
    frames = np.unique(cells["t"].to_numpy())
    sampled = (
        set(frames[np.linspace(0, len(frames) - 1, min(n_frames, len(frames))).astype(int)]) if len(frames) else set()
    )
    top, left = _corners(cells, image.shape, settings.crop)
    z = middle_slices(image.shape[2], settings.z_slices)
    bad = np.zeros(len(cells), dtype=bool)
    for frame in frames if settings.pixels == "all" else sorted(sampled):
        here = np.flatnonzero(cells["t"].to_numpy() == frame)
        try:
            pixels = np.stack([np.asarray(image[int(frame), channel, z]) for channel in channels])
        except Exception as error:  # of many types: those of zarr and of each codec
            reason = " ".join(str(error).split()) or type(error).__name__
            problem = f"cannot be read ({reason})"
            bad[here] = True
        else:
            pixels = pixels.astype(np.float32)
            finite = np.isfinite(pixels)
            problem = "has pixels that are NaN or infinite"
            if not finite.all():
                windows = zip(top[here], left[here], strict=True)
                inside = (
                    [slice(y, y + settings.crop) for y in top[here]],
                    [slice(x, x + settings.crop) for _, x in windows],
                )
                bad[here] = [not finite[:, :, rows, columns].all() for rows, columns in zip(*inside, strict=True)]
            if frame in sampled:
                light.add(pixels, finite)
        if bad[here].any() and settings.pixels == "sample":
            raise UserError(
                f"position {position} of plate {experiment.plate}, frame {frame} {problem}; restore it, or leave its "
                "cells out with `viscy-train index --pixels all`"
            )
    reason = "left out: their pixels cannot be read or are no numbers"
    counts[reason] = counts.get(reason, 0) + int(bad.sum())
    return cells[~bad]


def _corners(cells: pd.DataFrame, shape: tuple[int, ...], crop: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return the first row and column of each crop, moved into the image."""
    sizes = shape[3:]
    centres = np.rint(cells[["y", "x"]].to_numpy()).astype(np.int64)
    corners = np.clip(centres - crop // 2, 0, np.array(sizes) - crop)
    return corners[:, 0], corners[:, 1]


def _count_without_positive(cells: pd.DataFrame, positive: PositiveConfig, dropped: list[dict[str, Any]]) -> None:
    alone = cells[~cells["has_positive"]].groupby("experiment", observed=True, sort=False).size()
    bounds = f"{positive.min_frames} to {positive.max_frames}"
    reason = f"are no anchors: nothing of their lineage is {bounds} frames away"
    dropped += [{"experiment": str(name), "reason": reason, "cells": int(n)} for name, n in alone.items()]


class _Light:
    """Brightness of the channels of an experiment, summed up frame by frame."""

    def __init__(self, n_channels: int) -> None:
        self._n = np.zeros(n_channels)
        self._sum = np.zeros(n_channels)
        self._squares = np.zeros(n_channels)

    def add(self, pixels: NDArray[np.float32], finite: NDArray[np.bool_]) -> None:
        """Add pixels of shape (n_channels, n_slices, height, width)."""
        values = np.where(finite, pixels, 0).astype(np.float64)
        self._n += finite.sum(axis=(1, 2, 3))
        self._sum += values.sum(axis=(1, 2, 3))
        self._squares += (values**2).sum(axis=(1, 2, 3))

    def mean_and_deviation(self) -> list[list[float]]:
        n = np.maximum(self._n, 1)
        mean = self._sum / n
        deviation = np.sqrt(np.maximum(self._squares / n - mean**2, 0))
        return np.stack([mean, deviation], axis=1).tolist()
