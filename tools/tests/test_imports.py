"""Imports: which names a file takes from which other files, and which names a file exports."""

import pytest

from imports import Imported, exports, imported, module_name

NAME = "Queue"


@pytest.fixture
def write(tmp_path):
    """Return a function that writes files below the source root; a folder of Python files becomes a package."""

    def write(files):
        for path, text in files.items():
            file = tmp_path / path
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(text)
            for folder in file.relative_to(tmp_path).parents[:-1]:
                (tmp_path / folder / "__init__.py").touch()
        return tmp_path

    return write


@pytest.mark.parametrize(
    "code",
    [
        "from pkg.queues import Queue\n",
        "from pkg.queues import Queue as Line\n",
        "from pkg.queues import *\n",
        "from .queues import Queue\n",
        "from . import queues\nqueues.Queue()\n",
        "from pkg import queues as lines\nlines.Queue()\n",
        "import pkg.queues\npkg.queues.Queue()\n",
        "import pkg.queues as lines\nx: lines.Queue\n",
        "import pkg\npkg.queues.Queue.size\n",
        "def f():\n    from pkg.queues import Queue\n",
        "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from pkg.queues import Queue\n",
    ],
)
def test_every_way_to_import_a_name_counts(write, code):
    root = write({"pkg/queues.py": "class Queue: ...\n", "pkg/user.py": code})
    assert Imported(root / "pkg/queues.py", NAME) in imported(root / "pkg/user.py", [root])


@pytest.mark.parametrize(
    "code",
    [
        "# from pkg.queues import Queue\n",
        'text = "from pkg.queues import Queue"\n',
        "from pkg import queues\n",
        "from pkg import queues\nqueues.Stack()\n",
        "from pkg.queues import Stack as Queue\n",
        "from pkg.queues import Stack\nStack.Queue\n",
        "import pkg.queues\n",
        "from pkg.others import Queue\n",
        "from elsewhere import Queue\n",
    ],
)
def test_a_name_that_is_only_mentioned_does_not_count(write, code):
    root = write({"pkg/queues.py": "", "pkg/others.py": "", "pkg/user.py": code})
    assert Imported(root / "pkg/queues.py", NAME) not in imported(root / "pkg/user.py", [root])


@pytest.mark.parametrize(
    ("code", "name"),
    [
        ("from pkg.deep.queues import Queue\n", "Queue"),
        ("from .queues import Queue\n", "Queue"),
        ("from pkg.deep.queues import Line as Queue\n", "Line"),
        ("from pkg.deep.queues import *\n", "Queue"),
        ("from pkg.deep import queues\nQueue = queues.Queue\n", None),
    ],
)
def test_a_name_is_followed_through_the_init_that_re_exports_it(write, code, name):
    files = {
        "pkg/deep/__init__.py": code,
        "pkg/deep/queues.py": "class Queue: ...\nclass Line: ...\n",
        "pkg/user.py": "from pkg.deep import Queue\n",
    }
    root = write(files)
    found = imported(root / "pkg/user.py", [root])
    assert Imported(root / "pkg/deep/__init__.py", "Queue") in found
    assert (Imported(root / "pkg/deep/queues.py", name) in found) == (name is not None)


def test_a_module_that_is_not_an_init_does_not_pass_names_on(write):
    files = {
        "pkg/a.py": "class Queue: ...\n",
        "pkg/b.py": "from pkg.a import Queue\n",
        "user.py": "from pkg.b import *\n",
    }
    root = write(files)
    assert {item.file.name for item in imported(root / "user.py", [root])} == {"b.py"}


def test_an_init_that_imports_from_itself_ends(write):
    root = write({"pkg/__init__.py": "from pkg import Queue\n", "user.py": "from pkg import Queue\n"})
    assert imported(root / "user.py", [root]) == {Imported(root / "pkg/__init__.py", NAME)}


def test_of_modules_with_the_same_name_the_first_root_is_used(write):
    root = write({"one/names.py": "", "two/names.py": "", "user.py": "from names import Queue\n"})
    assert imported(root / "user.py", [root / "two", root / "one"]) == {Imported(root / "two/names.py", NAME)}


def test_the_name_of_a_module_starts_at_its_outermost_package(write):
    root = write({"src/pkg/deep/a.py": ""})
    (root / "src/__init__.py").unlink()
    assert module_name(root / "src/pkg/deep/a.py") == (root / "src", "pkg.deep.a")
    assert module_name(root / "src/pkg/deep/__init__.py") == (root / "src", "pkg.deep")


@pytest.mark.parametrize(
    ("file", "code", "names"),
    [
        ("a.py", "def f(): ...\nasync def g(): ...\nclass C:\n    x = 1\n", {"f", "g", "C"}),
        ("a.py", "A = B = 1\nC, (D, *E) = 1, [2]\nF: int = 1\nG: int\ntype H = int\n", set("ABCDEFH")),
        ("a.py", "try:\n    import x\n    A = 1\nexcept ImportError:\n    A = B = 0\n", {"A", "B"}),
        ("a.py", "from os import path\n", set()),
        ("a.py", '__all__ = ["path"]\nfrom os import path\n', {"__all__", "path"}),
        ("a.py", '__all__ = ["missing"]\n', {"__all__"}),
        ("a.py", '__all__ = ["lazy"]\ndef __getattr__(name): ...\n', {"__all__", "__getattr__", "lazy"}),
        ("a.py", '__all__ = ["size"]\nfrom other import *\n', {"__all__", "size"}),
        ("p/__init__.py", "from os import path as where\nimport sys\n", {"where", "sys"}),
        ("p/__init__.py", "from other import *\n", {"size", "Queue"}),
    ],
)  # fmt: skip
def test_a_module_exports_what_it_defines_or_re_exports(write, file, code, names):
    root = write({"other.py": "def size(): ...\nclass Queue: ...\n_hidden = 1\n", file: code})
    assert exports(root / file, [root]) == names
