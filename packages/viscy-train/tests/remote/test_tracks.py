"""Tracks, annotations and anchor tables at URLs: read like files on disk."""

import os
import shutil

import numpy as np
import pandas as pd
import pytest
import tifffile
import yaml
import zarr

from viscy_train.anchors.table import AnchorTable
from viscy_train.errors import UserError
from viscy_train.experiments.annotation_files import read_annotations
from viscy_train.experiments.annotations import annotation_checksums
from viscy_train.experiments.experiments_file import load_experiments
from viscy_train.remote.path import as_path
from viscy_train.tracks.tracks import Tracks, checksums

from ..tracks.formats import tracker_files  # noqa: TID252
from .servers import Faults, proxy, upload, web_server

POSITIONS = ["A/1/0", "A/1/1", "B/1/0", "B/1/1"]


@pytest.fixture
def web(data_folder, faults: Faults, monkeypatch):
    """The URL of the data of two experiments on a web server."""
    with web_server(data_folder) as server, proxy(server, faults) as address:
        yield address


def test_tracks_in_a_bucket_are_those_on_disk(bucket, data_folder):
    local, remote = data_folder / "tracks/monday", as_path(bucket) / "tracks/monday"
    for position in POSITIONS:
        pd.testing.assert_frame_equal(Tracks(remote).of(position), Tracks(local).of(position))
    assert checksums(remote, POSITIONS) == checksums(local, POSITIONS)


def test_tracks_on_a_web_server_are_found_by_their_usual_names(web, data_folder):
    local, remote = data_folder / "tracks/monday", as_path(f"{web}/tracks/monday/")
    pd.testing.assert_frame_equal(Tracks(remote).of("B/1/1"), Tracks(local).of("B/1/1"))
    assert checksums(remote, POSITIONS) == checksums(local, POSITIONS)
    with pytest.raises(UserError, match=r"tracks file not found: http://127.0.0.1:\d+/tracks/monday/C/1/0\.csv"):
        Tracks(remote).of("C/1/0")


def test_one_file_of_all_positions_is_read_from_a_url(store_address, bucket, data_folder, tmp_path):
    parts = [pd.read_csv(data_folder / f"tracks/monday/{one}.csv").assign(position=one) for one in POSITIONS]
    pd.concat(parts).to_parquet(tmp_path / "all.parquet")
    upload(tmp_path, store_address, "one-file")
    remote, local = Tracks(as_path("s3://one-file/all.parquet")), Tracks(tmp_path / "all.parquet")
    for position in POSITIONS:
        pd.testing.assert_frame_equal(remote.of(position), local.of(position))


def test_label_images_graphs_and_other_directories_are_read_from_a_bucket(store_address, bucket, tmp_path):
    labels = np.zeros((3, 20, 24), np.uint16)
    labels[:, 4:9, 5:10] = 1
    (tmp_path / "tiff").mkdir()
    for frame, image in enumerate(labels):
        tifffile.imwrite(tmp_path / f"tiff/t{frame}.tif", image)
    zarr.save_array(tmp_path / "labels.zarr", labels)
    tracker_files.write_geff(tmp_path, unit="pixel", name="graph.geff")
    upload(tmp_path, store_address, "directories")
    for name in ("tiff", "labels.zarr", "graph.geff"):
        local, remote = Tracks(tmp_path / name), Tracks(as_path(f"s3://directories/{name}"))
        pd.testing.assert_frame_equal(remote.of("A/1/0", is_only=True), local.of("A/1/0", is_only=True))
        assert checksums(as_path(f"s3://directories/{name}"), ["A/1/0"]) == checksums(tmp_path / name, ["A/1/0"])


@pytest.mark.parametrize("fault", ["500", "403"])
def test_tracks_that_cannot_be_read_are_one_line(store_address, bucket, data_folder, faults, fault):
    upload(data_folder / "tracks/monday", store_address, f"unread-{fault}")  # other tests have copies of the others
    faults.of = lambda path, n_before: fault if path.endswith(".csv") else None
    with pytest.raises(UserError, match=rf"s3://unread-{fault}/A/1/0\.csv") as caught:
        Tracks(as_path(f"s3://unread-{fault}")).of("A/1/0")
    assert "\n" not in str(caught.value)


def test_annotations_are_read_from_a_url(store_address, bucket, data_folder, tmp_path):
    pd.DataFrame({"fov_name": POSITIONS, "dose": [1.0, 2.0, 3.0, 4.0]}).to_csv(tmp_path / "dose.csv", index=False)
    upload(tmp_path, store_address, "annotations")
    remote = as_path("s3://annotations/dose.csv")
    pd.testing.assert_frame_equal(read_annotations(remote), read_annotations(tmp_path / "dose.csv"))
    with pytest.raises(UserError, match=r"annotations not found: s3://annotations/none\.csv; correct `annotations`"):
        read_annotations(as_path("s3://annotations/none.csv"))
    (tmp_path / "experiments.yaml").write_text(yaml.safe_dump({"experiments": [entry(annotations=str(remote))]}))
    (there,) = load_experiments(tmp_path / "experiments.yaml")
    (tmp_path / "experiments.yaml").write_text(yaml.safe_dump({"experiments": [entry(annotations="dose.csv")]}))
    (here,) = load_experiments(tmp_path / "experiments.yaml")
    assert annotation_checksums(there) == annotation_checksums(here)


def entry(**changes):
    """Return an experiment of a file."""
    return {
        "name": "a",
        "plate": "s3://project/plates/monday.zarr",
        "tracks": "tracks/a",
        "channels": ["Phase3D"],
        "conditions": {"A/1": "mock"},
        "minutes_per_frame": 30,
        **changes,
    }


def test_urls_stay_and_other_names_are_relative_to_the_file(store_address, bucket, tmp_path):
    path = tmp_path / "experiments.yaml"
    path.write_text(yaml.safe_dump({"experiments": [entry()]}))
    (experiment,) = load_experiments(path)
    assert experiment.plate == as_path("s3://project/plates/monday.zarr")
    assert experiment.tracks == tmp_path / "tracks/a"
    upload(tmp_path, store_address, "files")
    (experiment,) = load_experiments(as_path("s3://files/experiments.yaml"))
    assert experiment.tracks == as_path("s3://files/tracks/a")
    path.write_text(yaml.safe_dump({"experiments": [entry(plate="ftp://host/a.zarr")]}))
    with pytest.raises(UserError, match="a URL must begin with s3://"):
        load_experiments(path)


def test_an_anchor_table_is_read_from_a_url(store_address, bucket, table, tmp_path):
    table.write(tmp_path / "anchors.parquet")
    upload(tmp_path, store_address, "tables")
    read = AnchorTable.read(as_path("s3://tables/anchors.parquet"))
    pd.testing.assert_frame_equal(read.observations, table.observations)
    assert read.fingerprint == table.fingerprint
    with pytest.raises(UserError, match=r"anchor table not found: s3://tables/none\.parquet"):
        AnchorTable.read(as_path("s3://tables/none.parquet"))


def test_the_columns_of_a_large_table_at_a_url_are_mapped_beside_its_copy(
    store_address, bucket, table, tmp_path, monkeypatch
):
    from viscy_train.anchors import shared_table

    monkeypatch.setattr(shared_table, "LEAST_ROWS", 1)
    table.write(tmp_path / "large.parquet")
    upload(tmp_path, store_address, "large")
    path = as_path("s3://large/large.parquet")
    for _ in range(2):
        pd.testing.assert_frame_equal(AnchorTable.read(path).observations, table.observations)
    directory = shared_table.store_of(path).directory
    assert directory.is_dir()
    assert os.path.dirname(os.fspath(path)) == str(directory.parent)
    shutil.rmtree(directory)
