"""The README's example runs, and its map names every public name and every file."""

import re
from pathlib import Path

import viscy_sampling_testkit

README = (Path(__file__).parents[1] / "README.md").read_text()


def test_the_example_runs():
    (example,) = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
    names = {}
    exec(compile(example, "README.md", "exec"), names)
    assert len(names["batches"]) == 120


def test_every_public_name_is_on_the_map():
    rows = [line for line in README.splitlines() if line.startswith("| `")]
    assert set(viscy_sampling_testkit.__all__) == set(re.findall(r"`([A-Za-z]\w+)`", "\n".join(rows)))
    files = {file.name for file in Path(viscy_sampling_testkit.__file__).parent.glob("*.py")} - {"__init__.py"}
    assert files == set(re.findall(r"^\| `(\w+\.py)`", README, re.MULTILINE))


def test_the_sampler_package_is_not_imported():
    sources = Path(viscy_sampling_testkit.__file__).parent.glob("*.py")
    assert not [file.name for file in sources if re.search(r"viscy_data|viscy_train", file.read_text())]
