"""HeLa nuclei: the tracked nuclei of a real time-lapse, cut into made-up experiments that share no pixels and no cells.

The field of view is cut into the six tiles of `viscy_train.sample_projects.hela`, an experiment each, and each of these
into a left and a right position. Tracks are cut at the borders. A lineage is in the position that has most of its
nuclei, the first of equals, and its nuclei elsewhere are left out: no cell is in two experiments or positions.
"""

from __future__ import annotations

import os
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from viscy_train.atomic import atomic_write
from viscy_train.sample_projects.hela import Tile, cut_tracks, find_nuclei, link_nuclei, make_tiles
from viscy_train.tracks.tracks import COLUMNS

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from numpy.typing import NDArray

PHASES = ("interphase", "dividing")
"""What a nucleus is in, the second of which is rare and passes within an hour."""


def hela_is_installed() -> bool:
    """Return whether the packages of the extra `hela` are installed."""
    return all(find_spec(package) is not None for package in ("trackastra", "laptrack"))


def cached_tracks(path: Path, read_labels: Callable[[], NDArray[np.integer]]) -> pd.DataFrame:
    """Return the tracks of all nuclei of a label sequence, which are found and linked once.

    Parameters
    ----------
    path : pathlib.Path
        File that keeps the tracks. Several processes may write it at the same time.
    read_labels : callable
        Returns the label image of each frame, shape (n_frames, height, width). It is called if there is no file.

    Returns
    -------
    pandas.DataFrame
        Columns `viscy_train.tracks.tracks.COLUMNS`, a row for each nucleus in each frame.
    """
    if path.exists():
        with np.load(path) as columns:
            return pd.DataFrame({name: columns[name] for name in COLUMNS})
    tracks = link_nuclei(find_nuclei(read_labels()))
    with atomic_write(path, by=str(os.getpid())) as unfinished, unfinished.open("wb") as file:
        np.savez(file, **{name: tracks[name].to_numpy() for name in COLUMNS})
    return tracks


def is_dividing(tracks: pd.DataFrame) -> NDArray[np.bool_]:
    """Return which nuclei divide: a mother in her last frame, and her two daughters in their first.

    Parameters
    ----------
    tracks : pandas.DataFrame
        Columns of `viscy_train.tracks.tracks`, before tracks are cut.

    Returns
    -------
    numpy.ndarray
        Shape (n_nuclei,). A track whose mother has no other daughter has not divided from it.
    """
    frames = tracks.groupby("track_id", sort=False)["t"]
    first, last = (frames.transform(which) == tracks["t"] for which in ("min", "max"))
    daughters = tracks.drop_duplicates("track_id")["parent_track_id"].value_counts()
    mothers = daughters.index[(daughters == 2) & (daughters.index >= 0)]
    dividing = (tracks["track_id"].isin(mothers) & last) | (tracks["parent_track_id"].isin(mothers) & first)
    return dividing.to_numpy()


def make_positions(height: int, width: int) -> dict[tuple[int, str], Tile]:
    """Return the tile of each position by number of the experiment, from 0, and name, for a field of this size."""
    positions = {}
    for number, (rows, columns) in enumerate(make_tiles(height, width).values()):
        middle = (columns.start + columns.stop) // 2
        positions[number, "A/1/0"] = Tile(rows, slice(columns.start, middle))
        positions[number, "A/1/1"] = Tile(rows, slice(middle, columns.stop))
    return positions


def divide_nuclei(tracks: pd.DataFrame, positions: dict[tuple[int, str], Tile]) -> pd.DataFrame:
    """Return the nuclei of all positions, with their phase.

    Parameters
    ----------
    tracks : pandas.DataFrame
        Columns of `viscy_train.tracks.tracks`, of the field of view.
    positions : dict
        Result of `make_positions`.

    Returns
    -------
    pandas.DataFrame
        The same columns with coordinates in the position's own pixels, and `experiment` (its number), `position` and
        `phase`, sorted by experiment, position, track and frame.
    """
    tracks = tracks.assign(phase=np.asarray(PHASES)[is_dividing(tracks).astype(int)], root=_roots(tracks))
    cut = [
        cut_tracks(tracks, tile).assign(experiment=experiment, position=position)
        for (experiment, position), tile in positions.items()
    ]
    nuclei = pd.concat(cut, ignore_index=True)
    sizes: Any = nuclei.groupby(["root", "experiment", "position"], as_index=False)["id"].count()
    main = sizes.sort_values("id", ascending=False, kind="stable").drop_duplicates("root").drop(columns="id")
    kept = nuclei.merge(main, on=["root", "experiment", "position"]).drop(columns="root")
    return kept.sort_values(["experiment", "position", "track_id", "t"], ignore_index=True)


def _roots(tracks: pd.DataFrame) -> NDArray[np.int64]:
    """Return the first ancestor of each nucleus's track."""
    parents = tracks.drop_duplicates("track_id").set_index("track_id")["parent_track_id"]
    root = tracks["track_id"]
    while (is_daughter := (parent := root.map(parents)) >= 0).any():
        root = root.where(~is_daughter, parent)
    return root.to_numpy(np.int64)
