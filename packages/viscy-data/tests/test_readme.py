"""READMEs: examples run, and maps name the modules that exist."""

import doctest
import re
from pathlib import Path

import pytest

import viscy_data

PACKAGE = Path(__file__).parents[1]
CORE = Path(viscy_data.__file__).parent
MENTAL_MODEL = (CORE / "README.md").read_text()


def test_the_examples_in_the_readme_run(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    result = doctest.testfile(str(PACKAGE / "README.md"), module_relative=False)
    assert result.attempted > 5
    assert result.failed == 0


def test_paths_in_the_readme_exist():
    paths = re.findall(r"`((?:src|tests)/[\w./]+)`", (PACKAGE / "README.md").read_text())
    assert paths
    assert [path for path in paths if not (PACKAGE / path).exists()] == []


def modules():
    """Return the paths of all modules below the package's source folder, without `__init__` files."""
    return sorted(path.relative_to(CORE).as_posix() for path in CORE.rglob("*.py") if path.name != "__init__.py")


@pytest.mark.parametrize("module", modules())
def test_every_module_has_a_row_in_the_mental_model(module):
    assert re.search(rf"^\|.*\| `{re.escape(module)}` \|$", MENTAL_MODEL, re.MULTILINE)


def test_the_mental_model_names_only_modules_that_exist():
    named = re.findall(r"`([\w/]+\.py)`", MENTAL_MODEL)
    assert sorted(set(named)) == modules()
