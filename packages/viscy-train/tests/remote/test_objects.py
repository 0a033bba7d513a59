"""Files and directories of an object store: found, read, copied, and reported if they cannot be read."""

import os
import time

import pytest

from viscy_train.errors import UserError, kind_of_file
from viscy_train.remote.path import as_path

MONDAY = "plates/monday.zarr"


def test_files_and_directories_of_a_bucket_are_those_that_were_uploaded(bucket, data_folder):
    path = as_path(bucket)
    assert sorted(one.name for one in path.iterdir()) == ["plates", "tracks"]
    tracks, local = path / "tracks/monday/A/1", data_folder / "tracks/monday/A/1"
    assert tracks.is_dir()
    assert kind_of_file(tracks, "tracks") == "a directory"
    files = sorted(tracks.iterdir())
    assert [one.name for one in files] == ["0.csv", "1.csv"]
    assert all(one.is_file() and one.stat().st_size == (local / one.name).stat().st_size for one in files)
    assert files[0].read_bytes() == (local / "0.csv").read_bytes()
    assert files[0].read_text("utf-8") == (local / "0.csv").read_text("utf-8")
    with files[1].open(encoding="utf-8") as file:
        assert file.read() == (local / "1.csv").read_text("utf-8")
    names = {str(one.relative_to(path / "tracks")) for one in (path / "tracks").rglob("*.csv")}
    assert names == {str(one.relative_to(data_folder / "tracks")) for one in (data_folder / "tracks").rglob("*.csv")}
    assert [one.name for one in tracks.glob("1*")] == ["1.csv"]


def test_what_is_not_there_does_not_exist(bucket):
    path = as_path(bucket) / "plates/mon"  # the beginning of a name
    assert not path.exists()
    assert not path.is_dir()
    assert kind_of_file(path, "plate") is None
    with pytest.raises(FileNotFoundError):
        path.read_bytes()
    with pytest.raises(IsADirectoryError):
        (as_path(bucket) / "plates").open()


def test_a_library_that_reads_files_gets_a_copy_which_is_transferred_once(bucket, faults, data_folder):
    path = as_path(bucket) / "tracks/monday/A/1/0.csv"
    copies = {os.fspath(path) for _ in range(3)}
    assert len(copies) == 1
    (copy,) = copies
    assert os.path.basename(copy) == "0.csv"
    with open(copy, "rb") as file:
        assert file.read() == (data_folder / "tracks/monday/A/1/0.csv").read_bytes()
    n_requests = faults.seen["/project/tracks/monday/A/1/0.csv"]
    os.fspath(path)
    # Asked whether it has changed, but not transferred again.
    assert faults.seen["/project/tracks/monday/A/1/0.csv"] - n_requests <= 2
    directory = os.fspath(as_path(bucket) / "tracks/monday")
    assert os.path.isfile(os.path.join(directory, "B", "1", "1.csv"))


@pytest.mark.parametrize("fault", ["500", "slow", "cut"])
def test_a_transfer_that_is_disturbed_twice_gives_the_same_bytes(bucket, faults, data_folder, fault):
    faults.of = lambda path, n_before: fault if n_before < 2 else None
    path = f"{MONDAY}/A/1/0/0/zarr.json"
    assert (as_path(bucket) / path).read_bytes() == (data_folder / path).read_bytes()
    assert faults.n_injected == (1 if fault == "slow" else 2)


@pytest.mark.parametrize(
    ("fault", "message"),
    [
        ("500", "500 Internal Server Error"),
        ("403", "access denied to s3://project/plates/x; set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_SKIP"),
        ("stall", "error sending request"),
    ],
)
def test_a_lasting_fault_is_one_line_after_a_bounded_time(bucket, faults, monkeypatch, fault, message):
    if fault == "stall":
        monkeypatch.setenv("VISCY_TRAIN_REMOTE_SECONDS", "1")
    faults.of = lambda path, n_before: fault
    started = time.monotonic()
    with pytest.raises(UserError, match=message) as caught:
        (as_path(bucket) / "plates/x").read_bytes()
    assert "\n" not in str(caught.value)
    assert "s3://project/plates/x" in str(caught.value)
    assert time.monotonic() - started < 60


def test_a_bucket_that_does_not_exist_is_named(bucket):
    with pytest.raises(UserError, match="no such bucket: nowhere of s3://nowhere/a; correct the URL, or AWS_ENDPOINT"):
        as_path("s3://nowhere/a").exists()


def test_a_server_that_does_not_answer_is_one_line(bucket, monkeypatch):
    monkeypatch.setenv("VISCY_TRAIN_REMOTE_SECONDS", "1")
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:1")
    with pytest.raises(UserError, match=r"cannot read s3://project/a: .*; check the network, AWS_") as caught:
        as_path("s3://project/a").exists()
    assert "\n" not in str(caught.value)


def test_how_long_a_server_may_take_must_be_a_number(bucket, monkeypatch):
    monkeypatch.setenv("VISCY_TRAIN_REMOTE_SECONDS", "soon")
    with pytest.raises(UserError, match="VISCY_TRAIN_REMOTE_SECONDS must be a number of seconds above 0, got 'soon'"):
        as_path("s3://project/a").exists()


def test_a_url_without_the_extra_says_what_to_install(bucket, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "obstore.store", None)
    with pytest.raises(UserError, match=r"gs://bucket needs the package obstore; install viscy-train\[remote\]"):
        as_path("gs://bucket/without-obstore").exists()
