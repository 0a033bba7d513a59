"""The README's examples run, and its map lists every public name and every file."""

import importlib
import re
from pathlib import Path

import pytest

import viscy_sampling_testkit

README = (Path(__file__).parents[1] / "README.md").read_text()
SOURCES = Path(viscy_sampling_testkit.__file__).parent


@pytest.mark.slow
def test_examples_run():
    names = {}
    for example in re.findall(r"```python\n(.*?)```", README, re.DOTALL):
        exec(compile(example, "README.md", "exec"), names)
    assert len(names["batches"]) == 120
    names["test_every_position_is_a_row_of_the_table"]()


def test_map_names_every_file_and_public_name():
    rows = [line.split(" | ", 1) for line in README.splitlines() if re.match(r"\| `[\w/]+\.py`", line)]
    contents = {file: names for files, names in rows for file in re.findall(r"`([\w/]+\.py)`", files)}
    existing = {str(file.relative_to(SOURCES)) for file in SOURCES.rglob("*.py") if file.name != "__init__.py"}
    assert set(contents) == existing
    listed = set()
    for file, names in contents.items():
        module = importlib.import_module(f"viscy_sampling_testkit.{file.removesuffix('.py').replace('/', '.')}")
        names_of_file = set(re.findall(r"`([A-Za-z]\w+)`", names)) - {"pytest"}
        assert not [name for name in names_of_file if not hasattr(module, name)]
        listed |= names_of_file
    assert set(viscy_sampling_testkit.__all__) <= listed


def test_former_names_are_aliases():
    for former, name in (
        ("Life", "Attempt"),
        ("assert_dealt_evenly", "assert_drawn_evenly"),
        ("detectable_place", "detectable_position"),
    ):
        assert getattr(viscy_sampling_testkit, former) is getattr(viscy_sampling_testkit, name)
        assert name in viscy_sampling_testkit.__all__


def test_sampler_and_training_packages_are_not_imported():
    sources = list(SOURCES.rglob("*.py"))
    assert len(sources) > 20
    assert not [file.name for file in sources if re.search(r"viscy_data|viscy_train", file.read_text())]
