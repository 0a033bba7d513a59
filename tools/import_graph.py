"""Import graph: which module of a package imports which, read from the syntax trees, and whether it keeps to the levels.

A level is a name right below the package: a module or a sub-package. Levels are listed from the ground up, those on one
line side by side. A module may import from lower levels and from its own sub-package, never from a higher level or from
one beside it, and no two modules may import each other, whether directly or through others. Imports inside functions
and those for type checkers alone count like any other: what a reader has to follow is the same.
"""

import argparse
import ast
import sys
from collections.abc import Iterator, Mapping
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

type Graph = dict[str, set[str]]

ROOT = Path(__file__).parents[1]
LEVELS = {
    "viscy_data": [
        ["_options", "_random"],
        ["_table"],
        ["index"],
        ["_compose", "distributed"],
        ["_checks", "_iterator", "_state"],
        ["sampler"],
    ],
    "viscy_sampling_testkit": [
        ["tables"],
        ["simulate", "strategies"],
        ["assertions"],
        ["conformance"],
        ["mutants", "pytest_class"],
    ],
    "viscy_train": [
        ["errors"],
        ["atomic", "console", "exit_codes"],
        ["config"],
        ["anchors", "model", "run"],
        ["loading", "sample_projects"],
        ["composition", "evaluation"],
        ["report", "training"],
        ["cli"],
    ],
}


def source_of(package: str) -> Path:
    """Return the folder of a package of the workspace."""
    return ROOT / "packages" / package.replace("_", "-") / "src" / package


def read_graph(source: Path) -> Graph:
    """Read which modules each module of a package imports; `__init__` and `__main__` files only pass names on.

    Parameters
    ----------
    source : Path
        Folder of the package, which has the package's name.

    Returns
    -------
    dict of str to set of str
        Dotted names below the package, such as ``run.directory``. A name that is imported from a sub-package is
        followed through its ``__init__`` to the module that defines it.
    """
    files = {".".join(path.relative_to(source).with_suffix("").parts): path for path in source.rglob("*.py")}
    modules = {name for name in files if name.rpartition(".")[2] not in ("__init__", "__main__")}
    return {name: set(_imports(name, files, source.name)) & modules - {name} for name in modules}


def _imports(name: str, files: Mapping[str, Path], package: str) -> Iterator[str]:
    for node in ast.walk(ast.parse(files[name].read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name.removeprefix(f"{package}.") for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            for alias in node.names:
                yield from _module_of(node.module or "", alias.name, files, package)


def _module_of(module: str, name: str, files: Mapping[str, Path], package: str) -> Iterator[str]:
    """Return the module that ``from module import name`` reads."""
    if module != package and not module.startswith(f"{package}."):
        return
    below = module.removeprefix(package).removeprefix(".")
    if below in files:
        yield below
        return
    inside = f"{below}.{name}".removeprefix(".")
    if inside in files:
        yield inside
        return
    face = files.get(f"{below}.__init__".removeprefix("."))
    for node in ast.walk(ast.parse(face.read_text(encoding="utf-8"))) if face else ():
        if isinstance(node, ast.ImportFrom) and name in [alias.asname or alias.name for alias in node.names]:
            yield from _module_of(node.module or "", name, files, package)


def upward(graph: Graph, levels: list[list[str]]) -> list[str]:
    """Return the imports against the levels, and the modules that have no level, a line for each."""
    level = {name: number for number, names in enumerate(levels) for name in names}
    top = {name: name.partition(".")[0] for name in graph}
    unplaced = sorted({top[name] for name in graph} - set(level))
    arrows = [
        f"{name} imports {other}"
        for name in sorted(graph)
        for other in sorted(graph[name])
        if top[name] != top[other] and top[name] in level and level[top[name]] <= level.get(top[other], -1)
    ]
    return [f"{name} has no level" for name in unplaced] + arrows


def depth(graph: Graph) -> int:
    """Return on how many levels single modules import one another; modules in a cycle count as one."""
    members = _cycle_members(graph)
    merged = {members.get(name, name): set() for name in graph}
    for name, others in graph.items():
        merged[members.get(name, name)] |= {members.get(other, other) for other in others}
    height: dict[str, int] = {}
    for name in TopologicalSorter({name: others - {name} for name, others in merged.items()}).static_order():
        height[name] = 1 + max((height[other] for other in merged[name] - {name}), default=0)
    return max(height.values(), default=0)


def cycles(graph: Graph) -> list[list[str]]:
    """Return groups of modules that import one another, each in alphabetical order."""
    groups: dict[str, list[str]] = {}
    for name, first in _cycle_members(graph).items():
        groups.setdefault(first, []).append(name)
    return [sorted(group) for group in groups.values()]


def _cycle_members(graph: Graph) -> dict[str, str]:
    """Return for each module of a cycle the name that stands for its cycle."""
    try:
        TopologicalSorter(graph).prepare()
    except CycleError:
        reached = {name: _reachable(graph, name) for name in graph}
        return {
            name: min(other for other in reached[name] if name in reached[other])
            for name in sorted(graph)
            if name in reached[name]
        }
    return {}


def _reachable(graph: Graph, start: str) -> set[str]:
    found: set[str] = set()
    stack = list(graph[start])
    while stack:
        name = stack.pop()
        if name not in found:
            found.add(name)
            stack += graph[name]
    return found


def describe(package: str, source: Path) -> tuple[str, bool]:
    """Return what a package's import graph looks like, and whether it keeps to its levels."""
    graph = read_graph(source)
    against, circles = upward(graph, LEVELS[package]), cycles(graph)
    lines = [
        f"{package}: {len(graph)} modules, {sum(map(len, graph.values()))} imports, module levels {depth(graph)}, "
        f"imports against the levels {len(against)}, cycles {len(circles)}",
        *(f"  {line}" for line in against),
        *(f"  cycle: {', '.join(group)}" for group in circles),
    ]
    return "\n".join(lines), not against and not circles


def main() -> int:
    """Describe the packages named, by default all; return 1 where one breaks its levels."""
    parser = argparse.ArgumentParser(description="Show the import graph of each package.")
    parser.add_argument("packages", nargs="*", default=list(LEVELS), help="import names; all by default")
    parser.add_argument("--root", type=Path, default=ROOT, help="another checkout to read")
    options = parser.parse_args()
    results = [describe(package, options.root / source_of(package).relative_to(ROOT)) for package in options.packages]
    print(*(text for text, _ in results), sep="\n")
    return 0 if all(fine for _, fine in results) else 1


if __name__ == "__main__":
    sys.exit(main())
