"""The README's example runs, and its map names every public name and every file."""

import re
from pathlib import Path

import viscy_sampling_testkit

README = (Path(__file__).parents[1] / "README.md").read_text()


def test_the_examples_run():
    names = {}
    for example in re.findall(r"```python\n(.*?)```", README, re.DOTALL):
        exec(compile(example, "README.md", "exec"), names)
    assert len(names["batches"]) == 120
    names["test_an_epoch_is_made_of_rows_of_the_table"]()


def test_every_public_name_is_on_the_map():
    rows = [line for line in README.splitlines() if line.startswith("| `")]
    named = set(re.findall(r"`([A-Za-z_]\w*)`", "\n".join(rows)))
    assert named == {*viscy_sampling_testkit.__all__, "anchor_tables", "sampler_options"}
    files = {file.name for file in Path(viscy_sampling_testkit.__file__).parent.glob("*.py")} - {"__init__.py"}
    assert files == set(re.findall(r"^\| `(\w+\.py)`", README, re.MULTILINE))


def test_the_sampler_package_is_not_imported():
    sources = Path(viscy_sampling_testkit.__file__).parent.glob("*.py")
    assert not [file.name for file in sources if re.search(r"viscy_data|viscy_train", file.read_text())]
