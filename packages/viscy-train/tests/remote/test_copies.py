"""Copies of remote files: where they lie, what is left of them, and what is copied of a directory."""

import http.client
import os
import subprocess
import sys
import tempfile

import pytest

from viscy_train.errors import UserError
from viscy_train.remote import copies
from viscy_train.remote.path import as_path

TRACKS = "tracks/monday/A/1/0.csv"


# A worker process makes a copy, and ends.
WORKER = """
import multiprocessing, os
from viscy_train.remote.path import as_path

if __name__ == "__main__":
    process = multiprocessing.get_context({start_method!r}).Process(target=os.fspath, args=(as_path({url!r}),))
    process.start()
    process.join()
    assert process.exitcode == 0
"""


@pytest.fixture
def empty(tmp_path, monkeypatch):
    """An empty directory for temporary files, and a process without copies."""
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.setattr(copies, "_directories", {})
    return tmp_path


def files_below(folder):
    return [file for _, _, files in os.walk(folder) for file in files]


@pytest.mark.slow
@pytest.mark.parametrize("start_method", ["spawn", "forkserver", "fork"])
def test_a_process_that_ends_leaves_no_copies(bucket, empty, faults, start_method):
    script = empty / "worker.py"
    script.write_text(WORKER.format(start_method=start_method, url=f"{bucket}/{TRACKS}"))
    subprocess.run([sys.executable, script], check=True, timeout=120)
    assert faults.seen[f"/project/{TRACKS}"] > 0
    assert files_below(empty) == ["worker.py"]


def test_a_transfer_that_fails_leaves_no_part_of_the_file(bucket, faults, empty, monkeypatch):
    monkeypatch.setenv("VISCY_TRAIN_REMOTE_SECONDS", "1")
    faults.of = lambda path, n_before: "cut" if n_before else None  # the first request is for the size
    with pytest.raises(UserError, match=f"cannot read {bucket}/{TRACKS}"):
        os.fspath(as_path(bucket) / TRACKS)
    assert faults.n_injected > 0
    assert files_below(empty) == []


def test_no_directory_for_copies_is_one_line(bucket, empty, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(empty / "nowhere"))
    with pytest.raises(UserError, match=r"cannot make a directory for copies of remote files: .*; set TMPDIR to one"):
        os.fspath(as_path(bucket) / TRACKS)


def test_empty_objects_that_stand_for_directories_are_not_files(store_address, bucket, empty):
    """Consoles of clouds make them: their names end with a slash."""
    connection = http.client.HTTPConnection(store_address.removeprefix("http://"), timeout=60)
    for name in ("", "/marked/", "/marked/A/", "/marked/A/0.csv"):
        connection.request("PUT", f"/markers{name}", body=b"t\n" if name.endswith("csv") else b"")
        assert connection.getresponse().read() is not None
    connection.close()
    path = as_path("s3://markers/marked")
    assert [str(one) for one in path.rglob("*")] == ["s3://markers/marked/A/0.csv"]
    assert [one.name for one in path.iterdir()] == ["A"]
    assert list((path / "A").iterdir()) == [path / "A/0.csv"]
    assert files_below(os.fspath(path)) == ["0.csv"]
