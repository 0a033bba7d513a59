"""The package's descriptions: examples run, and maps name what is there."""

import doctest
import re
from pathlib import Path

import pytest

import viscy_data

PACKAGE = Path(__file__).parents[1]
CORE = Path(viscy_data.__file__).parent


def test_the_example_of_the_readme_runs(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    result = doctest.testfile(str(PACKAGE / "README.md"), module_relative=False)
    assert result.attempted > 5
    assert result.failed == 0


def test_the_readme_names_what_is_there():
    paths = re.findall(r"`((?:src|tests)/[\w./]+)`", (PACKAGE / "README.md").read_text())
    assert paths
    assert [path for path in paths if not (PACKAGE / path).exists()] == []


@pytest.mark.parametrize("module", sorted(path.name for path in CORE.glob("_[a-z]*.py")))
def test_every_step_has_its_line_in_the_mental_model(module):
    assert f"`{module}`" in (CORE / "README.md").read_text()
