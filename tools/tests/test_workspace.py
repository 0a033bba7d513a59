"""The workspace: its commands, its recorded dependencies and its README."""

import re
import subprocess
import tomllib
import zipfile
from datetime import datetime
from pathlib import Path

import pytest

from dist_check import check_names

ROOT = Path(__file__).parents[2]


def words_of_line(path, pattern):
    """Return the words in the first group of the line that matches `pattern`."""
    found = re.search(pattern, (ROOT / path).read_text(), re.MULTILINE)
    assert found, f"no line of {path} matches {pattern}"
    return found[1].split()


def test_the_exported_requirements_have_hashes_and_no_addresses():
    text = (ROOT / "requirements.txt").read_text()
    packages = [entry for entry in re.split(r"\n(?=\S)", text) if not entry.startswith("#")]
    assert len(packages) > 50
    assert [entry for entry in packages if "--hash=sha256:" not in entry] == []
    assert re.findall(r"\S*://\S*|^-.*", text, re.MULTILINE) == []


def test_no_later_upload_is_resolved():
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["uv"]
    assert datetime.fromisoformat(settings["exclude-newer"]).tzinfo is not None


def test_every_target_has_a_description():
    makefile = (ROOT / "Makefile").read_text()
    listed = words_of_line("Makefile", r"^\.PHONY: (.*)$")
    described = set(re.findall(r"^([a-z][a-z-]*):.*## ", makefile, re.MULTILINE))
    packages = {f"test-{path.parent.name}" for path in ROOT.glob("packages/*/pyproject.toml")}
    assert {name for name in listed if "$" not in name and "%" not in name} <= described
    assert packages <= described


@pytest.mark.parametrize("caller", [".ci/run", ".github/workflows/ci.yml"])
def test_ci_only_calls_make_targets(caller):
    text = (ROOT / caller).read_text()
    assert "make " in text
    assert re.findall(r"\b(?:ruff|ty check|-m pytest|uv run|uv sync)\b", text) == []


def test_ci_on_a_fresh_machine_runs_the_stages_of_make_check():
    assert words_of_line(".ci/run", r"^stages=\((.*)\)$") == words_of_line("Makefile", r"^check: (.*?) *##")


def test_the_fast_tests_are_those_not_marked_slow_and_run_in_parallel():
    assert words_of_line("Makefile", r'^test-fast:.*\n\t.*-m "(not slow)"') == ["not", "slow"]
    assert words_of_line("Makefile", r"^test-fast:.*\n\t.*-n (\w+)") == ["auto"]


def test_no_text_says_to_install_our_packages_by_name():
    """On the public index, viscy-data is the package of another project."""
    files = [
        ROOT / "README.md",
        ROOT / "CONTRIBUTING.md",
        *ROOT.glob("packages/*/*.md"),
        *ROOT.glob("docs/**/*.md"),
        *ROOT.glob("packages/*/src/**/*"),
    ]
    texts = {path: path.read_text() for path in files if path.suffix in (".md", ".py", ".j2")}
    by_name = re.compile(r"pip install (?:\S+ )*['\"]?viscy[-_]")
    assert [path.name for path, text in texts.items() if by_name.search(text)] == []
    assert by_name.search("pip install 'viscy-train[hela]'")
    assert not by_name.search("pip install dist/viscy_data-*.whl ./packages/viscy-train")


@pytest.mark.slow
@pytest.mark.weekly
def test_the_wheels_contain_all_files_of_the_packages(tmp_path):
    subprocess.run(["make", "wheels", f"DIST={tmp_path}"], cwd=ROOT, check=True)
    names = {wheel.name.split("-")[0]: set(zipfile.ZipFile(wheel).namelist()) for wheel in tmp_path.glob("*.whl")}
    assert set(names) == {"viscy_data", "viscy_sampling_testkit", "viscy_train"}
    for package, files in names.items():
        assert check_names(files, ROOT / "packages" / package.replace("_", "-") / "src") == []


def test_the_example_in_the_readme_runs():
    blocks = re.findall(r"^```python\n(.*?)^```", (ROOT / "README.md").read_text(), re.MULTILINE | re.DOTALL)
    assert len(blocks) == 1
    namespace = {"__name__": "readme"}
    exec(compile(blocks[0], "README.md", "exec"), namespace)
    assert namespace["epoch"] == 1
