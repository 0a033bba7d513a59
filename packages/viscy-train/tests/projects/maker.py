"""Maker: small plates, and tracks of the cells in them, for sample projects."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from viscy_train.plates.plate import write_plate

SIDE = 48
# Cells are this large, whatever the size of a pixel.
CELL_UM = 1.5
_BACKGROUND = 100
_NOISE = 20.0


def make_cells(seed: int, n_cells: int = 6, n_frames: int = 8, *, side: float = SIDE) -> pd.DataFrame:
    """Return tracks of cells that move little; in the middle of the movie, the first one divides into two."""
    rng = np.random.default_rng(seed)
    start = rng.uniform(0.2 * side, 0.8 * side, (n_cells, 2))
    path = start[:, None] + rng.normal(0, 0.005 * side, (n_cells, n_frames, 2)).cumsum(axis=1)
    rows = [(track + 1, t, *path[track, t], -1) for track in range(n_cells) for t in range(n_frames)]
    cells = pd.DataFrame(rows, columns=["track_id", "t", "y", "x", "parent_track_id"])
    return _divide(cells, n_frames // 2)


def _divide(cells: pd.DataFrame, frame: int) -> pd.DataFrame:
    later = (cells["track_id"] == 1) & (cells["t"] >= frame)
    daughters = [
        cells[later].assign(track_id=100 + number, parent_track_id=1, y=cells["y"] + shift)
        for number, shift in enumerate((-2.0, 2.0))
    ]
    return pd.concat([cells[~later], *daughters], ignore_index=True).round(2)


def draw(
    cells: pd.DataFrame,
    n_channels: int = 1,
    *,
    seed: int = 0,
    side: int = SIDE,
    n_slices: int = 1,
    micrometers: float = 0.5,
    n_frames: int | None = None,
) -> NDArray[np.uint16]:
    """Return images of cells, shape (n_frames, n_channels, n_slices, side, side): each a bright spot of `CELL_UM`."""
    n_frames = n_frames or int(cells["t"].max()) + 1
    rng = np.random.default_rng(seed)
    image = rng.normal(_BACKGROUND, _NOISE, (n_frames, n_channels, n_slices, side, side))
    grid = np.arange(side)
    for t, y, x in cells[["t", "y", "x"]].itertuples(index=False):
        distance = (grid[:, None] - y) ** 2 + (grid - x) ** 2
        spot = np.exp(-distance * micrometers**2 / (2 * CELL_UM**2))
        image[int(t)] += 1000 * (1 + np.arange(n_channels))[:, None, None, None] * spot
    return image.clip(0, 65535).astype(np.uint16)


def write_movies(
    folder: Path, name: str, channels: Sequence[str], wells: Mapping[str, int], *, micrometers: float = 0.5
) -> dict[str, pd.DataFrame]:
    """Write a plate and CSV tables of tracks; return the cells of each position.

    Parameters
    ----------
    folder : pathlib.Path
        Receives ``plates/NAME.zarr`` and ``tracks/NAME``.
    name : str
        Name of the plate.
    channels : sequence of str
        Its channels.
    wells : mapping of str to int
        Number of positions of each well.
    micrometers : float
        Size of a pixel. Fields of view have the same physical size, whatever it is.
    """
    side = round(SIDE * 0.5 / micrometers)
    seed = sum(name.encode())
    cells = {
        f"{well}/{number}": make_cells(seed + 100 * index + number, side=side)
        for index, (well, n) in enumerate(wells.items())
        for number in range(n)
    }
    images = {
        position: draw(table, len(channels), seed=seed, side=side, micrometers=micrometers)
        for position, table in cells.items()
    }
    write_plate(folder / "plates" / f"{name}.zarr", list(channels), images, micrometers_per_pixel=micrometers)
    for position, table in cells.items():
        path = folder / "tracks" / name / f"{position}.csv"
        path.parent.mkdir(parents=True, exist_ok=True)
        table.to_csv(path, index=False)
    return cells
