"""Projects of all formats of tracks and all forms of plates, and those that `import` and `init` write."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import tifffile
import yaml

from viscy_train.plates.plate import write_plate

# The same files as in the tests of the formats.
from ..plates.odd_plates import write_image  # noqa: TID252
from ..tracks.formats import tracker_files  # noqa: TID252
from .conftest import Project, write_files
from .maker import draw, make_cells, write_movies
from .page import yaml_of

CELLS, canonical = tracker_files.CELLS, tracker_files.canonical
WRITERS = {
    "csv": tracker_files.write_table,
    "napari": tracker_files.write_napari_csv,
    "trackmate": tracker_files.write_trackmate_xml,
    "trackmate_spots": tracker_files.write_trackmate_csv,
    "ultrack": tracker_files.write_ultrack,
    "btrack": tracker_files.write_btrack_csv,
    "laptrack": tracker_files.write_laptrack,
    "trackastra": tracker_files.write_trackastra_edges,
    "geff": tracker_files.write_geff,
    "challenge": tracker_files.write_ctc,
    "labels": lambda directory: np.save(directory / "labels.npy", tracker_files.label_images()),
}
WITHOUT_MOTHERS = {"labels"}
_SMALL = (
    "--trainer.max_steps=1",
    "--trainer.accelerator=cpu",
    "--trainer.logger=false",
    "--model.encoder={name: tiny, width: 4, features: 8, projection: 4}",
    "--data.crop=16",
    "--data.num_workers=0",
    "--data.sampler.batch_size=16",
    "--data.split.by=none",
)


def test_the_tracks_of_every_tracker_become_the_same_observations(tmp_path: Path, run_project: Callable[..., Project]):
    image = draw(CELLS, side=64)[:, :, :, :48]
    write_plate(tmp_path / "plates/csv.zarr", ["Phase3D"], {"A/1/0": image}, micrometers_per_pixel=0.5)
    for name, write in WRITERS.items():
        if name != "csv":
            shutil.copytree(tmp_path / "plates/csv.zarr", tmp_path / "plates" / f"{name}.zarr")
        directory = tmp_path / "tracks" / name / "A/1/0"
        directory.mkdir(parents=True)
        write(directory)
    project = run_project("tracks")
    observations = project.table.observations
    assert observations["experiment"].nunique() == len(WRITERS)
    for name, rows in observations.groupby("experiment", observed=True):
        expected = CELLS.assign(parent_track_id=-1) if name in WITHOUT_MOTHERS else CELLS
        pd.testing.assert_frame_equal(canonical(rows[CELLS.columns]), canonical(expected), check_dtype=False)
    project.check_page()


def test_images_with_and_without_wells_are_trained_on_together(tmp_path: Path, run_project):
    cells = write_movies(tmp_path, "plate", ["Phase3D"], {"A/1": 1, "B/1": 2})
    names = {"movie": ("movie.ome.zarr", "movie/movie"), "control": ("folder/control.zarr", "folder/control")}
    names |= {f"treated/{number}": (f"folder/treated/{number}.zarr", f"folder/treated/{number}") for number in "12"}
    for seed, (name, (plate, tracks)) in enumerate(names.items()):
        cells[name] = make_cells(seed)
        image, axes = draw(cells[name], seed=seed), "tczyx"
        if name == "control":  # without slices, big-endian, in Fortran's order
            image, axes = np.asfortranarray(image[:, :, 0]).astype(">u2"), "tcyx"
        path = tmp_path / "plates" / plate
        path.parent.mkdir(parents=True, exist_ok=True)
        write_image(path, image, channels=["Phase3D"], axes=axes, chunks=image.shape, dataset="pixels/full")
        file = tmp_path / "tracks" / f"{tracks}.csv"
        file.parent.mkdir(parents=True, exist_ok=True)
        cells[name].to_csv(file, index=False)
    project = run_project("images")
    observations = project.table.observations
    counts = observations["position"].value_counts()
    used = {name: len(table) for name, table in cells.items() if name != "B/1/1"}
    assert counts[counts > 0].to_dict() == used
    conditions = observations.drop_duplicates("position").set_index("position")["condition"]
    assert conditions[["A/1/0", "B/1/0", "movie", "control"]].tolist() == ["mock", "infected", "mock", "mock"]
    assert conditions[["treated/1", "treated/2"]].tolist() == ["infected", "infected"]
    assert set(observations.loc[observations["dose"].notna(), "position"]) == {"treated/2"}
    project.check_page()


def test_fields_of_view_that_failed_are_left_out(tmp_path: Path, run_project):
    cells = write_movies(tmp_path, "monday", ["Phase3D"], {"A/1": 3, "B/1": 1})
    (tmp_path / "tracks/monday/A/1/0.csv").write_text("neither tracks\n nor a table")
    (tmp_path / "tracks/monday/A/1/1.csv").unlink()
    project = run_project("failed")
    counts = project.table.observations["position"].value_counts()
    assert counts[counts > 0].to_dict() == {name: len(cells[name]) for name in ("A/1/2", "B/1/0")}
    project.check_page()


def test_a_tiff_file_is_refused_with_the_command_that_converts_it(tmp_path: Path, run_viscy_train):
    (tmp_path / "plates").mkdir()
    tifffile.imwrite(tmp_path / "plates" / "monday.ome.tif", np.zeros((2, 8, 8), np.uint16))
    write_files(tmp_path, "tiff")
    project = run_viscy_train(["index", "--config", "config.yaml"], tmp_path, exit_code=2)
    Project("tiff", tmp_path, {"index": project.stderr}).check_page()


@pytest.mark.slow
def test_a_collection_of_viscy_is_imported_and_trained_on(tmp_path: Path, run_viscy_train):
    cells = write_movies(tmp_path, "plate", ["Phase3D", "GFP"], {"A/1": 1, "B/1": 1})
    (tmp_path / "collection.yml").write_text(yaml_of("collection", "collection.yml"))
    project = run_written(tmp_path, run_viscy_train, ["import", "collection.yml", "--out", "project"])
    observations = project.table.observations
    assert len(observations) == sum(len(one) for one in cells.values())
    assert set(zip(observations["well"], observations["condition"], strict=True)) == {
        ("A/1", "uninfected"),
        ("B/1", "ZIKV"),
    }
    np.testing.assert_allclose(observations["hours_post_infection"], 3 + observations["t"] / 3)
    assert set(observations["organelle"]) == {"stress_granules"}
    project.check_page()


@pytest.mark.slow
def test_a_project_is_started_from_a_plate(tmp_path: Path, run_viscy_train):
    cells = write_movies(tmp_path, "plate", ["Phase3D", "GFP"], {"A/1": 1, "B/1": 1})
    command = ["init", "plates/plate.zarr", "--out", "project"]
    started = run_viscy_train(command, tmp_path)
    path = tmp_path / "project" / "experiments.yaml"
    described = yaml.safe_load(path.read_text())
    described["experiments"][0] |= {
        "conditions": {"A/1": "mock", "B/1": "infected"},
        "tracks": str(tmp_path / "tracks" / "plate"),
        "minutes_per_frame": 30,
    }
    assert described["experiments"][0]["channels"] == ["Phase3D", "GFP"]
    path.write_text(yaml.safe_dump(described))
    project = run_written(tmp_path, run_viscy_train)
    assert len(project.table.observations) == sum(len(one) for one in cells.values())
    Project("init", tmp_path, {"init": started.stdout}).check_page()


def run_written(folder: Path, run_viscy_train, *commands: list[str]) -> Project:
    """Index, train and embed the project that a command has written into the directory ``project``."""
    given = ["--config", "project/config.yaml", *_SMALL]
    before = [*commands, *([command, *given] for command in ("index", "fit"))]
    code = f"for arguments in {before!r}:\n    if code := main(arguments):\n        sys.exit(code)\n"
    done = run_viscy_train(["predict", *given], folder, before=code)
    written = Project("collection", folder / "project", {"all": done.stdout})
    assert len(written.embeddings) == len(written.table.observations)
    return written
