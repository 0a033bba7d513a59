"""The layout: imports run one way in all three packages."""

import re

import pytest

import import_graph

PACKAGES = sorted(import_graph.LEVELS)


@pytest.mark.parametrize("package", PACKAGES)
def test_imports_respect_the_levels_and_form_no_cycle(package):
    graph = import_graph.read_graph(import_graph.source_of(package))
    assert len(graph) > 20
    assert import_graph.upward(graph, import_graph.LEVELS[package]) == []
    assert import_graph.cycles(graph) == []


@pytest.mark.parametrize("package", PACKAGES)
def test_every_sub_package_describes_its_contents_and_who_may_import_it(package):
    for init in import_graph.source_of(package).glob("*/__init__.py"):
        text = init.read_text()
        assert re.match(r'"""[^"]+\n\n[^"]*import[^"]*"""\n', text), init
        assert not re.search(r"^(def|class) ", text, re.MULTILINE), init


@pytest.mark.parametrize("package", PACKAGES)
def test_test_folders_are_named_like_source_folders(package):
    source = import_graph.source_of(package)
    folders = {path.name.lstrip("_") for path in source.iterdir() if (path / "__init__.py").exists()}
    tests = source.parents[1] / "tests"
    # Whole projects, from files on disk to embeddings, belong to no sub-package.
    assert {path.name for path in tests.iterdir() if any(path.glob("test_*.py"))} <= folders | {"projects"}


def write(folder, **modules):
    """Write a package `sample` whose modules have the given contents; three underscores in a name mean a slash."""
    source = folder / "sample"
    for name, text in modules.items():
        file = source / f"{name.replace('___', '/')}.py"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
        (file.parent / "__init__.py").touch()
    return source


def test_every_way_to_import_a_module_counts(tmp_path):
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


def test_an_import_from_a_higher_or_the_same_level_is_reported(tmp_path):
    source = write(tmp_path, low="import sample.high\n", same="import sample.low\n", high="import sample.low\n")
    graph = import_graph.read_graph(source)
    assert import_graph.upward(graph, [["low", "same"], ["high"]]) == ["low imports high", "same imports low"]
    assert import_graph.upward(graph, [["low"], ["high"]]) == ["same has no level", "low imports high"]


def test_a_cycle_through_several_modules_is_reported(tmp_path):
    source = write(
        tmp_path, a="import sample.b\n", b="import sample.c\n", c="import sample.a\n", d="import sample.a\n", e=""
    )
    graph = import_graph.read_graph(source)
    assert import_graph.cycles(graph) == [["a", "b", "c"]]
    assert import_graph.depth(graph) == 2


def test_the_longest_import_path_is_counted(tmp_path):
    graph = import_graph.read_graph(write(tmp_path, a="", b="import sample.a\n", c="import sample.a, sample.b\n"))
    assert import_graph.depth(graph) == 3
