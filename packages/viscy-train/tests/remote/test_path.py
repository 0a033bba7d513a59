"""Remote paths: the methods of `pathlib.Path` at a URL."""

import pickle
from pathlib import Path

import pytest

from viscy_train.errors import UserError
from viscy_train.remote.path import RemotePath, as_path, local_path
from viscy_train.remote.url import is_url


@pytest.mark.parametrize("text", ["plates/a.zarr", "/data/a.zarr", "~/a", "C:/a"])
def test_a_name_without_a_scheme_is_a_local_path(text):
    assert not is_url(text)
    assert as_path(text) == Path(text)
    assert as_path(Path(text)) == Path(text)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("ftp://host/a", "must begin with s3://, gs://, http://, https://"),
        ("s3://", "must have a bucket or a host"),
        ("https://user:secret@host/a", "and no password"),
        ("https://host/a.zarr?token=1", "must have no query"),
    ],
)
def test_a_url_that_is_not_supported_is_refused(text, message):
    with pytest.raises(UserError, match=message):
        as_path(text)


def test_parts_of_a_remote_path_are_those_of_its_key():
    path = as_path("s3://bucket/plates/a.ome.zarr/")
    assert isinstance(path, RemotePath)
    assert (str(path), path.name, path.suffix, path.stem) == (
        "s3://bucket/plates/a.ome.zarr",
        "a.ome.zarr",
        ".zarr",
        "a.ome",
    )
    assert path.parts == ("s3://bucket", "plates", "a.ome.zarr")
    assert str(path.parent) == "s3://bucket/plates"
    assert [str(one) for one in path.parents] == ["s3://bucket/plates", "s3://bucket"]
    assert str(path / "A/1") == "s3://bucket/plates/a.ome.zarr/A/1"
    assert str(path / "../b.zarr") == "s3://bucket/plates/b.zarr"
    assert path / "/data/b.zarr" == Path("/data/b.zarr")
    assert path / "s3://other/b" == as_path("s3://other/b")
    assert str((path / "A").relative_to(path.parent)) == "a.ome.zarr/A"
    assert str(path.with_name("b.csv")) == "s3://bucket/plates/b.csv"


def test_a_url_of_a_web_server_keeps_the_slash_that_makes_it_a_directory():
    path = as_path("https://example.org/data/")
    assert str(path) == "https://example.org/data/"
    assert path.is_dir()
    assert str(path / "a.csv") == "https://example.org/data/a.csv"
    assert str((path / "a.csv").parent) == "https://example.org/data/"


def test_equal_urls_are_equal_paths_also_after_pickling():
    path = as_path("s3://bucket/a")
    assert path == as_path("s3://bucket//a/")
    assert path != as_path("gs://bucket/a")
    assert path != Path("s3://bucket/a")
    assert {path: 1}[pickle.loads(pickle.dumps(path))] == 1
    assert sorted([as_path("s3://bucket/b"), path])[0] == path


def test_a_url_is_refused_for_what_is_written():
    assert local_path("run", "output") == Path("run")
    with pytest.raises(UserError, match="output must be a local path, because only reading is possible at a URL"):
        local_path("s3://bucket/run", "output")


def test_a_remote_path_cannot_be_opened_for_writing():
    with pytest.raises(OSError, match="can only be read"):
        as_path("s3://bucket/a").open("w")


@pytest.mark.parametrize(
    "text",
    [
        "https://user:secret@host/a.csv",
        "ftp://user:secret@host/a",
        "https://host/a.csv?X-Amz-Signature=secret",
        "https://host/a.csv#secret",
    ],
)
def test_a_password_in_a_url_is_not_shown(text):
    with pytest.raises(UserError) as caught:
        as_path(text)
    assert "secret" not in str(caught.value)
    assert "host/a" in str(caught.value)


def test_a_url_of_a_web_server_may_be_quoted():
    path = as_path("https://example.org/my%20plate/100%25%20a%23b%3F.csv")
    assert path.name == "100% a#b?.csv"
    assert path == as_path(str(path))
    assert str(path) == "https://example.org/my plate/100%25 a%23b%3F.csv"
    assert as_path("https://example.org/my plate") / "100% a#b?.csv" == path
    assert pickle.loads(pickle.dumps(path)) == path
    assert as_path("s3://bucket/a%20b").name == "a%20b"
