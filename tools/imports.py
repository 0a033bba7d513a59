"""Imports of a Python file: which names it takes from which other files, read from the syntax tree.

No module is executed. Imports inside functions and under `TYPE_CHECKING` count like any other. A name that is imported
from a package is followed through the `__init__.py` that re-exports it to the module that defines it.
"""

import ast
from collections.abc import Iterator, Sequence
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

type Tree = ast.Module


class Imported(NamedTuple):
    """A name that a file imports, and the file that it comes from; the name is None for a module by itself."""

    file: Path
    name: str | None


class _Statement(NamedTuple):
    """One alias of an import statement: ``from sys import path as p`` binds ``p`` to the target ``sys.path``."""

    bound: str
    bound_to: str
    target: str


@lru_cache(maxsize=1024)
def parse(text: str) -> Tree:
    """Parse Python source; the same text is parsed once."""
    return ast.parse(text)


def imported(file: Path, roots: Sequence[Path]) -> set[Imported]:
    """Return the names that a file imports from files below `roots`.

    Parameters
    ----------
    file : Path
        The Python file whose imports are read.
    roots : sequence of Path
        Folders in which top-level modules are looked up, in this order.

    Returns
    -------
    set of Imported
        ``from module import name`` imports a name, and so does ``module.name`` after an import of ``module``. A
        re-exported name is listed with the `__init__.py` as well as with the module that defines it.

    Raises
    ------
    SyntaxError
        If `file`, or an `__init__.py` that it imports from, is not Python.
    """
    tree = _read(file)
    statements = list(_statements(file, ast.walk(tree), roots))
    bound: dict[str, set[str]] = {}
    for statement in statements:
        bound.setdefault(statement.bound, set()).add(statement.bound_to)
    dotted = {statement.target for statement in statements}
    for first, *rest in _attributes(tree):
        dotted |= {".".join([target, *rest]) for target in bound.get(first, ())}
    return {item for name in dotted for item in _resolve(name, roots)}


def exports(file: Path, roots: Sequence[Path]) -> set[str]:
    """Return the names that a module offers to others.

    Those are the names that it defines at its top level, and the imported names that it re-exports: all of them in an
    `__init__.py`, elsewhere those in `__all__`. Names in `__all__` that a module-level `__getattr__` loads count, too.

    Raises
    ------
    SyntaxError
        If the file is not Python.
    """
    tree = _read(file)
    defined, listed = _defined(tree), _listed(tree)
    imports = {statement.bound for statement in _statements(file, _top_level(tree), roots)}
    if file.name != "__init__.py":
        imports &= listed
    return defined | imports | (listed if "__getattr__" in defined else set())


def module_name(file: Path) -> tuple[Path, str]:
    """Return the folder that a module is imported from, and its dotted name there.

    The name starts at the outermost folder that has an `__init__.py`: ``src/pkg/a.py`` is ``pkg.a`` in ``src``.
    """
    root = file.parent
    while (root / "__init__.py").exists():
        root = root.parent
    parts = file.relative_to(root).with_suffix("").parts
    return root, ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def _read(file: Path) -> Tree:
    return parse(file.read_text(encoding="utf-8"))


def _statements(file: Path, nodes: Iterator[ast.AST], roots: Sequence[Path]) -> Iterator[_Statement]:
    """Return the aliases of all import statements among `nodes`."""
    for node in nodes:
        if isinstance(node, ast.Import):
            for alias in node.names:
                first = alias.name.partition(".")[0]
                yield _Statement(alias.asname or first, alias.name if alias.asname else first, alias.name)
        elif isinstance(node, ast.ImportFrom):
            module = _absolute(file, node)
            for alias in node.names:
                for name in _names_of_star(module, roots) if alias.name == "*" else [alias.name]:
                    yield _Statement(alias.asname or name, f"{module}.{name}", f"{module}.{name}")


def _absolute(file: Path, node: ast.ImportFrom) -> str:
    """Return the dotted name of the module in ``from module import name``; dots lead up from the file's package."""
    if node.level == 0:
        return node.module or ""
    package = module_name(file)[1].split(".")
    n_dropped = node.level - (file.name == "__init__.py")
    return ".".join([*package[: len(package) - n_dropped], *filter(None, [node.module])])


def _names_of_star(module: str, roots: Sequence[Path]) -> set[str]:
    """Return the names that ``from module import *`` binds, except those from another star."""
    found = _find(module, roots)
    if not found or found[1]:
        return set()
    tree = _read(found[0])
    bound = {
        alias.asname or alias.name
        for node in _top_level(tree)
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    }
    return _listed(tree) or {name for name in _defined(tree) | bound - {"*"} if not name.startswith("_")}


def _attributes(tree: Tree) -> Iterator[list[str]]:
    """Return the parts of each chain of attributes: ``["module", "name"]`` for ``module.name``."""
    for node in ast.walk(tree):
        parts: list[str] = []
        while isinstance(node, ast.Attribute):
            parts.insert(0, node.attr)
            node = node.value
        if parts and isinstance(node, ast.Name):
            yield [node.id, *parts]


def _resolve(dotted: str, roots: Sequence[Path]) -> Iterator[Imported]:
    """Return where a dotted name comes from: a module, or a name in it, followed through `__init__.py` files."""
    seen, names = {dotted}, [dotted]
    while names:
        found = _find(names.pop(), roots)
        if not found:
            continue
        file, rest = found
        yield Imported(file, rest[0] if rest else None)
        if rest and file.name == "__init__.py":
            passed_on = {
                ".".join([statement.bound_to, *rest[1:]])
                for statement in _statements(file, ast.walk(_read(file)), roots)
                if statement.bound == rest[0]
            }
            names += passed_on - seen
            seen |= passed_on


def _find(dotted: str, roots: Sequence[Path]) -> tuple[Path, list[str]] | None:
    """Return the file of the longest part of a dotted name that is a module, and the rest of the name."""
    parts = dotted.split(".")
    for root in roots:
        for n in range(len(parts), 0, -1):
            folder = root.joinpath(*parts[:n])
            for file in (folder.with_name(f"{folder.name}.py"), folder / "__init__.py"):
                if file.is_file():
                    return file, parts[n:]
    return None


def _top_level(node: ast.AST) -> Iterator[ast.AST]:
    """Return the statements that run on import, also inside `if`, `try` and `with`."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.stmt | ast.excepthandler | ast.match_case):
            yield child
            if not isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
                yield from _top_level(child)


def _defined(tree: Tree) -> set[str]:
    """Return the names that a module defines at its top level."""
    names = set()
    for node in _top_level(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            names.add(node.name)
        elif isinstance(node, ast.Assign | ast.TypeAlias) or (isinstance(node, ast.AnnAssign) and node.value):
            names |= {
                leaf.id for leaf in ast.walk(node) if isinstance(leaf, ast.Name) and isinstance(leaf.ctx, ast.Store)
            }
    return names


def _listed(tree: Tree) -> set[str]:
    """Return the names in `__all__`."""
    return {
        leaf.value
        for node in _top_level(tree)
        if isinstance(node, ast.Assign | ast.AnnAssign | ast.AugAssign)
        and "__all__" in {leaf.id for leaf in ast.walk(node) if isinstance(leaf, ast.Name)}
        for leaf in ast.walk(node)
        if isinstance(leaf, ast.Constant) and isinstance(leaf.value, str)
    }
