"""Import graph: which modules of a package import each other, and whether the imports respect the package's levels.

A level is a list of modules and sub-packages directly below the package. Levels are listed from the bottom up. A module
may import from lower levels and from its own sub-package, but not from a higher level or from another name on its own
level, and no modules may form a cycle. Imports inside functions and under `TYPE_CHECKING` count like any other, because
a reader has to follow them just the same.
"""

import argparse
import sys
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

from imports import imported

type Graph = dict[str, set[str]]

ROOT = Path(__file__).parents[1]
LEVELS = {
    "viscy_data": [
        ["_options", "_random", "_torch"],
        ["_table"],
        ["index"],
        ["_compose", "_ranks"],
        ["_checks", "_iterator", "_sharding", "_state"],
        ["_attributes", "distributed"],
        ["composed_batches"],
        ["sampler"],
        ["_from_viscy"],
    ],
    "viscy_sampling_testkit": [
        ["tables"],
        ["faults", "simulate", "strategies"],
        ["assertions"],
        ["conformance"],
        ["mutants", "pytest_class"],
    ],
    "viscy_train": [
        ["errors", "palette", "row_slices", "wording"],
        ["output", "remote"],
        ["atomic", "console", "exit_codes"],
        ["config"],
        ["model", "parts", "plates", "process_pool", "run"],
        ["experiments"],
        ["crops", "positives", "tracks"],
        ["anchors"],
        ["crop_store"],
        ["loading", "project_files", "sample_projects"],
        ["composition", "contact_sheet", "evaluation", "packing"],
        ["report", "training", "viewer"],
        ["study"],
        ["cli"],
    ],
}


def source_of(package: str) -> Path:
    """Return the source folder of a workspace package."""
    return ROOT / "packages" / package.replace("_", "-") / "src" / package


def read_graph(source: Path) -> Graph:
    """Read which modules each module of a package imports.

    Parameters
    ----------
    source : Path
        Folder of the package, which has the package's name.

    Returns
    -------
    dict of str to set of str
        Dotted names below the package, such as ``run.directory``. `__init__` and `__main__` files are left out: a name
        that is imported from a sub-package counts as imported from the module that defines it.
    """
    names = {
        file: ".".join(file.relative_to(source).with_suffix("").parts)
        for file in source.rglob("*.py")
        if file.stem not in ("__init__", "__main__")
    }
    return {
        name: {names[item.file] for item in imported(file, [source.parent]) if item.file in names} - {name}
        for file, name in names.items()
    }


def upward(graph: Graph, levels: list[list[str]]) -> list[str]:
    """Return one line for each import that breaks the levels and for each name that has no level."""
    level = {name: number for number, names in enumerate(levels) for name in names}
    top = {name: name.partition(".")[0] for name in graph}
    unplaced = sorted({top[name] for name in graph} - set(level))
    violations = [
        f"{name} imports {other}"
        for name in sorted(graph)
        for other in sorted(graph[name])
        if top[name] != top[other] and top[name] in level and level[top[name]] <= level.get(top[other], -1)
    ]
    return [f"{name} has no level" for name in unplaced] + violations


def depth(graph: Graph) -> int:
    """Return the number of modules on the longest import path; the modules of a cycle count as one."""
    members = _cycle_members(graph)
    merged = {members.get(name, name): set() for name in graph}
    for name, others in graph.items():
        merged[members.get(name, name)] |= {members.get(other, other) for other in others}
    height: dict[str, int] = {}
    for name in TopologicalSorter({name: others - {name} for name, others in merged.items()}).static_order():
        height[name] = 1 + max((height[other] for other in merged[name] - {name}), default=0)
    return max(height.values(), default=0)


def cycles(graph: Graph) -> list[list[str]]:
    """Return the groups of modules that import each other, each group in alphabetical order."""
    groups: dict[str, list[str]] = {}
    for name, first in _cycle_members(graph).items():
        groups.setdefault(first, []).append(name)
    return [sorted(group) for group in groups.values()]


def _cycle_members(graph: Graph) -> dict[str, str]:
    """Map each module of a cycle to the first module of that cycle in alphabetical order."""
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
    """Return a description of a package's import graph, and whether the package respects its levels."""
    graph = read_graph(source)
    violations, groups = upward(graph, LEVELS[package]), cycles(graph)
    lines = [
        f"{package}: {len(graph)} modules, {sum(map(len, graph.values()))} imports, longest import path {depth(graph)} "
        f"modules; imports against the levels: {len(violations)}; cycles: {len(groups)}",
        *(f"  {line}" for line in violations),
        *(f"  cycle: {', '.join(group)}" for group in groups),
    ]
    return "\n".join(lines), not violations and not groups


def main() -> int:
    """Describe the given packages, all by default; return 1 if one of them breaks its levels."""
    parser = argparse.ArgumentParser(description="Show the import graph of each package.")
    parser.add_argument("packages", nargs="*", default=list(LEVELS), help="import names (default: all)")
    parser.add_argument("--root", type=Path, default=ROOT, help="read another checkout")
    options = parser.parse_args()
    results = [describe(package, options.root / source_of(package).relative_to(ROOT)) for package in options.packages]
    print(*(text for text, _ in results), sep="\n")
    return 0 if all(passed for _, passed in results) else 1


if __name__ == "__main__":
    sys.exit(main())
