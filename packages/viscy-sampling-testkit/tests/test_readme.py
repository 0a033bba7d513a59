"""The README's example runs, and its map names every public name and every file."""

import importlib
import re
from pathlib import Path

import viscy_sampling_testkit

README = (Path(__file__).parents[1] / "README.md").read_text()
SOURCES = Path(viscy_sampling_testkit.__file__).parent


def test_the_examples_run():
    names = {}
    for example in re.findall(r"```python\n(.*?)```", README, re.DOTALL):
        exec(compile(example, "README.md", "exec"), names)
    assert len(names["batches"]) == 120
    names["test_an_epoch_is_made_of_rows_of_the_table"]()


def test_every_public_name_is_on_the_map():
    rows = [line.split(" | ", 1) for line in README.splitlines() if line.startswith("| `")]
    files = {file: names for cells, names in rows for file in re.findall(r"`([\w/]+\.py)`", cells)}
    there = {str(file.relative_to(SOURCES)) for file in SOURCES.rglob("*.py") if file.name != "__init__.py"}
    assert set(files) == there
    named = set()
    for file, names in files.items():
        module = importlib.import_module(f"viscy_sampling_testkit.{file.removesuffix('.py').replace('/', '.')}")
        of_file = set(re.findall(r"`([A-Za-z]\w+)`", names)) - {"pytest"}
        assert not [name for name in of_file if not hasattr(module, name)]
        named |= of_file
    assert set(viscy_sampling_testkit.__all__) <= named


def test_the_sampler_package_is_not_imported():
    sources = list(SOURCES.rglob("*.py"))
    assert len(sources) > 20
    assert not [file.name for file in sources if re.search(r"viscy_data|viscy_train", file.read_text())]
