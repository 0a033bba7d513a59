"""The layout: imports run one way in all three packages."""

import importlib.util
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SCRIPT = ROOT / "tools" / "import_graph.py"
spec = importlib.util.spec_from_file_location("import_graph", SCRIPT)
assert spec
assert spec.loader
import_graph = importlib.util.module_from_spec(spec)
spec.loader.exec_module(import_graph)

PACKAGES = sorted(import_graph.LEVELS)


@pytest.mark.parametrize("package", PACKAGES)
def test_no_import_runs_against_the_levels_and_there_is_no_cycle(package):
    graph = import_graph.read_graph(import_graph.source_of(package))
    assert len(graph) > 20
    assert import_graph.upward(graph, import_graph.LEVELS[package]) == []
    assert import_graph.cycles(graph) == []


@pytest.mark.parametrize("package", PACKAGES)
def test_every_sub_package_says_what_it_holds_and_what_may_import_it(package):
    for face in import_graph.source_of(package).glob("*/__init__.py"):
        text = face.read_text()
        assert re.match(r'"""[^"]+\n\n[^"]*import[^"]*"""\n', text), face
        assert not re.search(r"^(def|class) ", text, re.MULTILINE), face


@pytest.mark.parametrize("package", PACKAGES)
def test_tests_stand_in_folders_named_like_those_of_the_sources(package):
    source = import_graph.source_of(package)
    folders = {path.name.lstrip("_") for path in source.iterdir() if (path / "__init__.py").exists()}
    tests = source.parents[1] / "tests"
    assert {path.name for path in tests.iterdir() if any(path.glob("test_*.py"))} <= folders


def write(folder, **modules):
    """Write a package `sample` whose modules have the given contents; three underscores stand for a slash."""
    source = folder / "sample"
    for name, text in modules.items():
        file = source / f"{name.replace('___', '/')}.py"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
        (file.parent / "__init__.py").touch()
    return source


def test_every_way_to_import_a_module_is_seen(tmp_path):
    source = write(
        tmp_path,
        a="import sample.d\n",
        b="from sample import a\n",
        c="def f():\n    from sample.a import x\n",
        d="from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from sample.deep.e import y\n",
        deep___e="import os\n",
        f="from sample.deep import z\n",
    )
    (source / "deep" / "__init__.py").write_text("from sample.deep.e import y as z\n")
    assert import_graph.read_graph(source) == {
        "a": {"d"},
        "b": {"a"},
        "c": {"a"},
        "d": {"deep.e"},
        "deep.e": set(),
        "f": {"deep.e"},
    }


def test_an_import_of_a_higher_level_or_one_beside_is_named(tmp_path):
    source = write(tmp_path, low="import sample.high\n", beside="import sample.low\n", high="import sample.low\n")
    graph = import_graph.read_graph(source)
    assert import_graph.upward(graph, [["low", "beside"], ["high"]]) == ["beside imports low", "low imports high"]
    assert import_graph.upward(graph, [["low"], ["high"]]) == ["beside has no level", "low imports high"]


def test_a_cycle_is_found_through_other_modules(tmp_path):
    source = write(
        tmp_path, a="import sample.b\n", b="import sample.c\n", c="import sample.a\n", d="import sample.a\n", e=""
    )
    graph = import_graph.read_graph(source)
    assert import_graph.cycles(graph) == [["a", "b", "c"]]
    assert import_graph.depth(graph) == 2


def test_levels_of_modules_are_counted(tmp_path):
    graph = import_graph.read_graph(write(tmp_path, a="", b="import sample.a\n", c="import sample.a, sample.b\n"))
    assert import_graph.depth(graph) == 3
