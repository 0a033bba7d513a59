import os
import socket

import pytest

from viscy_train.errors import UserError, require_regular_file


def make_socket(path):
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(path))


@pytest.mark.parametrize(
    ("make", "kind"),
    [
        (os.mkfifo, "a named pipe"),
        (os.mkdir, "a directory"),
        (make_socket, "a socket"),
        (lambda path: path.symlink_to("/dev/zero"), "a device"),
        (lambda path: (path.with_name("pipe").symlink_to("target"), os.mkfifo(path)), "a named pipe"),
    ],
)
def test_what_is_not_a_regular_file_is_refused_without_opening_it(tmp_path, monkeypatch, make, kind):
    monkeypatch.chdir(tmp_path)  # the path of a socket must be short
    path = tmp_path.relative_to(tmp_path) / "target"
    make(path)
    with pytest.raises(UserError, match=f"the table must be a regular file, got {kind}: target"):
        require_regular_file(path, "the table")


def test_files_links_to_files_and_missing_files_are_accepted(tmp_path):
    (tmp_path / "file").write_text("")
    (tmp_path / "link").symlink_to("file")
    for name in ("file", "link", "missing", "file/below"):
        require_regular_file(tmp_path / name, "the table")


@pytest.mark.parametrize("name", ["null\0byte", "n" * 300, "loop"])
def test_a_path_that_cannot_be_accessed_is_refused(tmp_path, name):
    (tmp_path / "loop").symlink_to("loop")
    with pytest.raises(UserError, match="cannot access the table"):
        require_regular_file(tmp_path / name, "the table")
