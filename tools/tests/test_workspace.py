import re
import tomllib
from datetime import datetime
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


def words(path, pattern):
    found = re.search(pattern, (ROOT / path).read_text(), re.MULTILINE)
    assert found, f"{path} has no line {pattern}"
    return found[1].split()


def test_the_lock_export_has_a_hash_for_every_package_and_no_address():
    text = (ROOT / "requirements.txt").read_text()
    packages = [entry for entry in re.split(r"\n(?=\S)", text) if not entry.startswith("#")]
    assert len(packages) > 50
    assert [entry for entry in packages if "--hash=sha256:" not in entry] == []
    assert re.findall(r"\S*://\S*|^-.*", text, re.MULTILINE) == []


def test_nothing_uploaded_later_is_resolved():
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["uv"]
    assert datetime.fromisoformat(settings["exclude-newer"]).tzinfo is not None


def test_every_target_is_described():
    makefile = (ROOT / "Makefile").read_text()
    listed = words("Makefile", r"^\.PHONY: (.*)$")
    described = set(re.findall(r"^([a-z][a-z-]*):.*## ", makefile, re.MULTILINE))
    packages = {f"test-{path.parent.name}" for path in ROOT.glob("packages/*/pyproject.toml")}
    assert {name for name in listed if "$" not in name and "%" not in name} <= described
    assert packages <= described


@pytest.mark.parametrize("caller", [".ci/run", ".github/workflows/ci.yml"])
def test_ci_calls_targets_and_no_tool_of_its_own(caller):
    text = (ROOT / caller).read_text()
    assert "make " in text
    assert re.findall(r"\b(?:ruff|ty check|-m pytest|uv run|uv sync)\b", text) == []


def test_ci_on_a_bare_machine_runs_what_make_check_runs():
    assert words(".ci/run", r"^stages=\((.*)\)$") == words("Makefile", r"^check: (.*?) *##")


def test_the_example_of_the_readme_runs():
    blocks = re.findall(r"^```python\n(.*?)^```", (ROOT / "README.md").read_text(), re.MULTILINE | re.DOTALL)
    assert len(blocks) == 1
    namespace = {"__name__": "readme"}
    exec(compile(blocks[0], "README.md", "exec"), namespace)
    assert namespace["epoch"] == 1
