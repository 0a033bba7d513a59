import ast
import inspect
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import pytest

import viscy_train
from viscy_train.run.provenance import collect_versions

README = Path(__file__).parents[1] / "README.md"


def run_python(*arguments):
    """Run Python in a new process and return what it printed."""
    done = subprocess.run([sys.executable, *arguments], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_public_names_are_those_of_the_readme():
    section = README.read_text(encoding="utf-8").partition("## As a library")[2].partition("\n## ")[0]
    assert viscy_train.__all__ == dir(viscy_train)
    assert [name for name in viscy_train.__all__ if f"`{name}`" not in section] == []


@pytest.mark.parametrize("name", viscy_train.__all__)
def test_a_public_name_is_documented_with_its_parameters(name):
    documented = inspect.getdoc(getattr(viscy_train, name))
    assert documented
    assert name == "UserError" or "Parameters\n" in documented or "Notes\n" in documented


def test_type_checkers_see_the_names_that_are_imported_on_first_use():
    tree = ast.parse(Path(viscy_train.__file__).read_text(encoding="utf-8"))
    block = next(node for node in tree.body if isinstance(node, ast.If))
    imported = {alias.name for node in block.body if isinstance(node, ast.ImportFrom) for alias in node.names}
    assert sorted(imported | {"UserError"}) == viscy_train.__all__


def test_names_without_a_model_load_neither_torch_nor_lightning():
    names = "AnchorTable, LossConfig, SamplerConfig, UserError"
    heavy = "[name for name in ('torch', 'lightning') if name in sys.modules]"
    loaded = run_python("-c", f"import sys; from viscy_train import {names}; print({heavy})")
    assert loaded.strip() == "[]"


@pytest.mark.parametrize("name", viscy_train.__all__)
def test_a_public_name_is_defined_where_it_says(name):
    public = getattr(viscy_train, name)
    assert public.__name__ == name
    assert getattr(sys.modules[public.__module__], name) is public


def test_an_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="module 'viscy_train' has no attribute 'Anchors'"):
        _ = viscy_train.Anchors


@pytest.mark.parametrize(
    "module", ["viscy_train", "viscy_train.cli", pytest.param("viscy_train.cli.demo", marks=pytest.mark.slow)]
)
def test_an_import_loads_neither_torch_nor_lightning(module):
    loaded = run_python(
        "-c", f"import sys, {module}; print([name for name in ('torch', 'lightning') if name in sys.modules])"
    )
    assert loaded.strip() == "[]"


def test_the_command_line_can_be_imported_and_run_as_a_module():
    from viscy_train.cli import entry_point, main

    assert main is entry_point.main
    assert "viscy-train COMMAND" in run_python("-m", "viscy_train", "--help")


def test_the_version_is_that_of_the_installed_package_and_of_provenance():
    assert viscy_train.__version__ == version("viscy-train") == collect_versions()["viscy-train"]
