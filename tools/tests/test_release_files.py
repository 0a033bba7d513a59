"""Files that describe the project to others and their tools."""

import re
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[2]
WORKFLOWS = sorted(ROOT.glob(".github/workflows/*.yml"))
# The job that publishes has no checkout, and so no Makefile.
PUBLISH = "uv publish --trusted-publishing always 'dist/*'"


def read_yaml(path):
    # BaseLoader keeps the key `on`, which YAML 1.1 reads as a boolean.
    return yaml.load((ROOT / path).read_text(), Loader=yaml.BaseLoader)


def makefile_targets():
    return set(re.findall(r"^([a-z][a-z-]*):", (ROOT / "Makefile").read_text(), re.MULTILINE))


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.name)
def test_actions_are_pinned_by_commit(path):
    used = [step["uses"] for job in read_yaml(path)["jobs"].values() for step in job["steps"] if "uses" in step]
    assert used
    assert [name for name in used if not re.fullmatch(r"[\w./-]+@[0-9a-f]{40}", name)] == []


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.name)
def test_workflows_run_make_targets_that_exist(path):
    steps = [step["run"] for job in read_yaml(path)["jobs"].values() for step in job["steps"] if "run" in step]
    targets = {run.split()[1] for run in steps if run.startswith("make ")}
    assert {run for run in steps if not run.startswith("make ")} <= {"pip install uv", PUBLISH}
    assert {target for target in targets if "$" not in target} <= makefile_targets()


def test_hooks_run_make_targets():
    (repository,) = read_yaml(".pre-commit-config.yaml")["repos"]
    assert repository["repo"] == "local"
    commands = [hook["entry"].split() for hook in repository["hooks"]]
    assert {command[0] for command in commands} == {"make"}
    assert {command[1] for command in commands} <= makefile_targets()


def test_only_the_owner_can_turn_publishing_on():
    jobs = read_yaml(".github/workflows/release.yml")["jobs"]
    publishing = [name for name, job in jobs.items() if "id-token" in job.get("permissions", {})]
    assert publishing == ["publish"]
    assert jobs["publish"]["if"] == "vars.PUBLISH == 'true'"
    assert jobs["publish"]["environment"] == "release"
    assert "`PUBLISH` to `true`" in (ROOT / "RELEASING.md").read_text()


def test_the_citation_has_what_its_format_requires_and_the_license():
    citation = read_yaml("CITATION.cff")
    assert {"cff-version", "message", "title", "authors"} <= set(citation)
    assert citation["authors"] == [{"name": "viscy-sampling contributors"}]
    assert citation["license"] == "BSD-3-Clause"


def test_ci_tests_every_version_of_python_that_the_packages_name():
    tested = read_yaml(".github/workflows/ci.yml")["jobs"]["package"]["strategy"]["matrix"]["python"]
    for path in ROOT.glob("packages/*/pyproject.toml"):
        assert re.findall(r"Programming Language :: Python :: (3\.\d+)", path.read_text()) == tested
