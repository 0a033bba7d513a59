"""Anchor table: one row for each tracked cell at each time that has a positive, with where to read it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from viscy_train.errors import UserError
from viscy_train.plates import channel_indices, image_of, open_plate, positions_of_well
from viscy_train.tracks import read_tracks

if TYPE_CHECKING:
    from pathlib import Path

    from iohub.ngff import Plate

    from viscy_train.config import Config, ExperimentConfig, PositiveConfig

COLUMNS = ["experiment", "condition", "hours_post_infection", "well", "position", "track_id", "id", "t", "y", "x"]
_INTEGERS = ["track_id", "id", "t"]
_FLOATS = ["hours_post_infection", "y", "x"]


def build_anchors(config: Config) -> pd.DataFrame:
    """Build the anchor table of a run.

    Parameters
    ----------
    config : Config
        Names the plates, the tracks and the wells.

    Returns
    -------
    pandas.DataFrame
        Columns `COLUMNS`, shape (n_anchors, 10), sorted by experiment as configured, position, track and time. Cells
        without another time at a distance that `positive` allows are left out.

    Raises
    ------
    UserError
        If a plate, well, channel or tracks file is not there, tracks are outside the image, or no anchor is left.
    """
    cells = pd.concat(
        [_cells_of_experiment(experiment, config) for experiment in config.experiments], ignore_index=True
    )
    anchors = cells[partners_of(cells, config.positive).max(axis=1) >= 0].reset_index(drop=True)
    if anchors.empty:
        bounds = f"{config.positive.min_frames} to {config.positive.max_frames}"
        raise UserError(f"no cell is tracked at two times {bounds} frames apart; widen `positive`")
    return anchors


def partners_of(anchors: pd.DataFrame, positive: PositiveConfig) -> np.ndarray:
    """Find the possible positives of each row: the same track, a permitted number of frames before or after.

    Parameters
    ----------
    anchors : pandas.DataFrame
        With experiment, position, track_id and t.
    positive : PositiveConfig
        The permitted numbers of frames.

    Returns
    -------
    numpy.ndarray
        Row numbers, -1 where the track has no such frame; shape (n_rows, 2 * (max_frames - min_frames + 1)). If row i
        has partner j then j has partner i, so a positive is itself an anchor.
    """
    track = anchors.groupby(["experiment", "position", "track_id"], sort=False).ngroup().to_numpy()
    frame = anchors["t"].to_numpy()
    # Spaced so that a step from one track never lands in another.
    key = track * (frame.max() + 2 * positive.max_frames + 1) + frame + positive.max_frames
    order = np.argsort(key)
    steps = np.arange(positive.min_frames, positive.max_frames + 1)
    wanted = key[:, None] + np.concatenate([-steps[::-1], steps])
    found = order[np.minimum(np.searchsorted(key, wanted, sorter=order), len(key) - 1)]
    return np.where(key[found] == wanted, found, -1)


def write_anchors(path: Path, anchors: pd.DataFrame) -> None:
    """Write an anchor table as CSV.

    Parameters
    ----------
    path : pathlib.Path
        File to write.
    anchors : pandas.DataFrame
        With the columns `COLUMNS`.
    """
    anchors[COLUMNS].to_csv(path, index=False)


def read_anchors(path: Path) -> pd.DataFrame:
    """Read an anchor table that `write_anchors` wrote, with the same types and values.

    Parameters
    ----------
    path : pathlib.Path
        CSV file.

    Returns
    -------
    pandas.DataFrame
        Columns `COLUMNS`, shape (n_anchors, 10).
    """
    # As text first: pandas's own reading of numbers can be off in the last digit.
    text = pd.read_csv(path, dtype="str", keep_default_na=False)
    return text.astype(dict.fromkeys(_INTEGERS, "int64") | dict.fromkeys(_FLOATS, "float64"))


def _cells_of_experiment(experiment: ExperimentConfig, config: Config) -> pd.DataFrame:
    with open_plate(experiment.plate) as plate:
        channel_indices(plate, config.channels, experiment.plate)
        return pd.concat(
            [
                _cells_of_position(plate, position, well, experiment, config.crop)
                for well in experiment.conditions
                for position in positions_of_well(plate, well, experiment.plate)
            ]
        )


def _cells_of_position(plate: Plate, position: str, well: str, experiment: ExperimentConfig, crop: int) -> pd.DataFrame:
    path = experiment.tracks / f"{position}.csv"
    tracks = read_tracks(path).sort_values(["track_id", "t"])
    _check_inside(tracks, image_of(plate, position, experiment.plate).shape, crop, path)
    hours = experiment.hours_at_start + tracks["t"] * experiment.hours_per_frame
    return tracks.assign(
        experiment=experiment.name,
        condition=experiment.conditions[well],
        hours_post_infection=hours,
        well=well,
        position=position,
    )[COLUMNS]


def _check_inside(tracks: pd.DataFrame, shape: tuple[int, ...], crop: int, path: Path) -> None:
    n_frames, _, _, height, width = shape
    if crop > min(height, width):
        raise UserError(f"crop must fit into the images of {height} x {width} pixels, got {crop}")
    for column, size in (("t", n_frames), ("y", height), ("x", width)):
        outside = tracks[(tracks[column] < 0) | (tracks[column] > size - 1)]
        if len(outside):
            value = outside[column].iloc[0]
            raise UserError(
                f"tracks must lie inside the image, {column} in [0, {size - 1}], got {value} for id "
                f"{outside['id'].iloc[0]} of {path} ({len(outside)} such rows)"
            )
