"""Projects whose experiments differ in interval, pixel size or channels, and one of a thousand conditions."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from viscy_train.loading.crops import CropReader
from viscy_train.plates.plate import write_plate
from viscy_train.positives.rule import make_positives

from .conftest import Project
from .maker import draw, write_movies

WELLS = {"A/1": 2, "B/1": 1}
N_PERTURBATIONS = 1000


def test_positives_are_hours_away_whatever_the_interval(tmp_path: Path, run_project: Callable[..., Project]):
    cells = {name: write_movies(tmp_path, name, ["Phase3D", "GFP"], WELLS) for name in ("slow", "fast")}
    project = run_project("intervals")
    table = project.table
    observations = table.observations
    assert len(observations) == sum(len(of_position) for one in cells.values() for of_position in one.values())
    rows = table.anchors
    draws = np.random.default_rng(0).random((2, len(rows)))
    found = make_positives(observations, table.experiments, table.positive).choose(rows, *draws)
    hours = observations["hours_post_infection"].to_numpy()
    apart = np.abs(hours[found] - hours[rows])
    assert apart.min() >= 0.5 - 1e-9
    assert apart.max() <= 1 + 1e-9
    # 20 minutes are less than half an hour, so the nearest frame of this experiment is not a positive.
    is_fast = (observations["experiment"] == "fast").to_numpy()[rows]
    assert {round(one * 3) for one in apart[is_fast]} == {2, 3}
    assert {round(one * 2) for one in apart[~is_fast]} == {1, 2}
    project.check_page()
    assert len(project.embeddings) == len(observations)


def test_crops_have_one_physical_size_whatever_the_size_of_a_pixel(tmp_path: Path, run_project):
    for name, micrometers in (("coarse", 0.5), ("fine", 0.25)):
        write_movies(tmp_path, name, ["Phase3D"], WELLS, micrometers=micrometers)
    project = run_project("pixel-sizes")
    observations = project.table.observations
    reader = CropReader(project.table)
    widths = {}
    for name in ("coarse", "fine"):
        alone = observations[(observations["experiment"] == name) & (observations["t"] == 0)]
        crops = reader.read(alone.index.to_numpy())[:, 0, 0]
        widths[name] = np.median([width_of_spot(crop) for crop in crops])
    # In the images, a cell of the fine experiment is twice as many pixels wide.
    assert widths["fine"] == pytest.approx(widths["coarse"], rel=0.3)
    project.check_page()


def width_of_spot(crop: np.ndarray) -> float:
    """Return the number of pixels in which a crop is at least half as bright as its brightest pixel."""
    bright = crop - np.median(crop)
    return float(np.sqrt((bright > 0.5 * bright.max()).sum()))


@pytest.mark.weekly
@pytest.mark.slow
def test_experiments_with_other_channels_are_trained_on_channel_by_channel(tmp_path: Path, run_project):
    channels = {"nuclei": ["Phase3D", "mCherry"], "organelles": ["Phase", "GFP", "mCherry"]}
    cells = {name: write_movies(tmp_path, name, names, WELLS) for name, names in channels.items()}
    project = run_project("channels")
    observations = project.table.observations
    for name, names in channels.items():
        n_cells = sum(len(one) for one in cells[name].values())
        assert (observations["experiment"] == name).sum() == n_cells * len(names)
    markers = {"phase", "H2B", "SEC61B", "TOMM20"}
    assert set(observations["marker"]) == markers
    assert set(observations["microscope"]) == {"Dragonfly", "Mantis"}
    assert all(batch["marker"].nunique() == 1 for batch in project.batches)
    assert project.embeddings.obs["marker"].nunique() == len(markers)
    project.check_page()


@pytest.mark.weekly
@pytest.mark.slow
def test_each_batch_has_several_cells_of_each_of_its_perturbations(tmp_path: Path, run_project):
    cells = make_screen(tmp_path)
    project = run_project("screen")
    observations = project.table.observations
    assert len(observations) == len(cells)
    assert observations["perturbation"].nunique() == N_PERTURBATIONS
    for batch in project.batches:
        counts = batch["perturbation"].value_counts()
        assert (counts[counts > 0] >= 4).all()
        assert (counts > 0).sum() == 64 // 4
    project.check_page()


def make_screen(folder: Path) -> pd.DataFrame:
    """Write a pooled screen: a position with 2000 cells in three frames, and the perturbation of each cell."""
    n_cells, side = 2 * N_PERTURBATIONS, 96
    track, t = (values.ravel() for values in np.mgrid[1 : n_cells + 1, :3])
    y, x = np.random.default_rng(0).uniform(0, side - 1, (2, n_cells))[:, track - 1]
    cells = pd.DataFrame({"track_id": track, "t": t, "y": y, "x": x, "parent_track_id": -1}).round(2)
    (folder / "tracks" / "screen" / "A/1").mkdir(parents=True)
    cells.to_csv(folder / "tracks" / "screen" / "A/1/0.csv", index=False)
    write_plate(folder / "plates" / "screen.zarr", ["DAPI"], {"A/1/0": draw(cells[::50], side=side, n_frames=3)})
    guides = cells.drop_duplicates("track_id")[["track_id"]].assign(position="A/1/0")
    guides["perturbation"] = [f"guide {number % N_PERTURBATIONS:03d}" for number in guides["track_id"]]
    guides.to_csv(folder / "guides.csv", index=False)
    return cells
