"""Offline: what a page loads from other hosts is found; links are not."""

import pytest

from offline import main, remote_sources


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("a.html", '<script src="https://host/a.js"></script>'),
        ("a.html", '<img src="//host/a.png">'),
        ("a.html", '<link rel="stylesheet" href="http://host/a.css">'),
        ("a.css", "@font-face { src: url('https://host/a.woff') }"),
        ("a.css", '@import "https://host/a.css";'),
    ],
)
def test_what_is_loaded_from_another_host_is_found(tmp_path, name, text):
    (tmp_path / name).write_text(text)
    assert len(remote_sources(tmp_path)) == 1


def test_links_and_own_files_are_fine(tmp_path, capsys):
    text = '<a href="https://host/">a</a><img src="a.png"><link rel="next" href="https://host/">'
    (tmp_path / "a.html").write_text(text)
    assert main(tmp_path) == 0
    (tmp_path / "b.html").write_text('<script src="https://host/a.js"></script>')
    assert main(tmp_path) == 1
    assert capsys.readouterr().out == "b.html: https://host/a.js\n"


def test_a_directory_without_pages_is_refused(tmp_path):
    assert main(tmp_path) == 1
