"""Plan check: whether the plans and requirements in `.planning` are true of the tree.

A plan that is done is held to what it says: its artifacts, exports, key links and files must be there. A plan that is
only planned is checked for its form. A requirement names its plan and, once that is done, the tests that hold it.
"""

import ast
import re
import sys
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import yaml

_PHASES = Path(".planning/phases")
_REQUIREMENTS = Path(".planning/REQUIREMENTS.md")
_STATUS = ("planned", "done")
_FRONT = {
    "phase": str,
    "plan": str,
    "status": str,
    "type": str,
    "wave": int,
    "depends_on": list,
    "requirements": list,
    "files_modified": list,
    "must_haves": dict,
}
_MUST_HAVES = {"truths": list, "artifacts": list, "key_links": list}
_ARTIFACT = {"path": str, "provides": str, "exports": list, "min_lines": int}
_LINK = {"from": str, "to": str, "via": str, "pattern": str}
_OF_MAPPINGS = {"artifacts": _ARTIFACT, "key_links": _LINK}


class Plan(NamedTuple):
    """A plan whose front matter has the right form."""

    file: Path
    front: dict[str, Any]

    @property
    def summary(self) -> Path:
        """Where the plan's summary belongs."""
        return self.file.with_name(self.file.name.replace("-PLAN", "-SUMMARY"))

    @property
    def is_done(self) -> bool:
        """Whether the plan says that it was carried out."""
        return self.front["status"] == "done"


# By name; one whose form is wrong is there, but cannot be looked into.
type Plans = dict[str, Plan | None]


class Requirement(NamedTuple):
    """A section of the requirements."""

    name: str
    promise: str
    plans: list[str]
    tests: list[str]


class Report(NamedTuple):
    """What was read and what is wrong with it."""

    n_plans: int
    n_requirements: int
    problems: list[str]


def check(root: Path) -> list[str]:
    """Return one line for each problem of the plans and requirements below `root`; none if all is well."""
    return examine(root).problems


def examine(root: Path) -> Report:
    """Read and check all plans and requirements below `root`."""
    problems: list[str] = []
    plans: Plans = {}
    files = sorted((root / _PHASES).glob("*/*-PLAN.md"))
    for file in files:
        front, wrong = _front_matter(file)
        problems += [f"{file.relative_to(root)}: {line}" for line in wrong]
        plans[_name(file)] = None if wrong else Plan(file, front)
    requirements = _read_requirements(root / _REQUIREMENTS)
    if not files:
        problems.append(f"{_PHASES}: there are no plans")
    if not requirements:
        problems.append(f"{_REQUIREMENTS}: there are no requirements")
    for plan in filter(None, plans.values()):
        problems += [
            f"{plan.file.relative_to(root)}: {line}" for line in _plan_problems(root, plan, plans, requirements)
        ]
    problems += [f"{_REQUIREMENTS}: {line}" for line in _requirement_problems(root, requirements, plans)]
    return Report(len(files), len(requirements), problems)


def _front_matter(file: Path) -> tuple[dict[str, Any], list[str]]:
    """Read a plan's front matter, and what is wrong with its form."""
    found = re.match(r"---\n(.*?)\n---\n", file.read_text(), re.DOTALL)
    if not found:
        return {}, ["no front matter between two lines '---'"]
    try:
        front = yaml.safe_load(found[1])
    except yaml.YAMLError as error:
        return {}, ["front matter is not YAML: " + " ".join(str(error).split())]
    return front, _form_problems(file, front)


def _name(file: Path) -> str:
    return file.name.removesuffix("-PLAN.md")


def _form_problems(file: Path, front: Any) -> list[str]:
    wrong = _mapping_problems("front matter", front, _FRONT)
    if wrong:
        return wrong
    must_haves = front["must_haves"]
    wrong = _mapping_problems("must_haves", must_haves, _MUST_HAVES)
    if wrong:
        return wrong
    for key, form in _OF_MAPPINGS.items():
        for i, item in enumerate(must_haves[key]):
            wrong += _mapping_problems(f"must_haves.{key}[{i}]", item, form)
    wrong += [f"must_haves {key!r} is empty" for key, items in must_haves.items() if not items]
    name, phase = _name(file), file.parent.name
    if front["plan"] != name:
        wrong.append(f"plan is {front['plan']!r}, the file's name says {name!r}")
    if front["phase"] != phase:
        wrong.append(f"phase is {front['phase']!r}, the folder's name says {phase!r}")
    if front["status"] not in _STATUS:
        wrong.append(f"status must be 'planned' or 'done', got {front['status']!r}")
    return wrong


def _mapping_problems(where: str, value: Any, form: Mapping[str, type]) -> list[str]:
    """Compare a mapping with the keys it must have; a list holds text, unless its items have a form of their own."""
    if not isinstance(value, dict):
        return [f"{where} must be a mapping, got {value!r}"]
    wrong = []
    for key, kind in form.items():
        if key not in value:
            wrong.append(f"{where} lacks {key!r}")
        elif not isinstance(value[key], kind):
            wrong.append(f"{where} {key!r} must be {kind.__name__}, got {value[key]!r}")
        elif kind is list and key not in _OF_MAPPINGS:
            wrong += [f"{where} {key!r} must hold text, got {item!r}" for item in value[key] if type(item) is not str]
    return wrong


def _plan_problems(root: Path, plan: Plan, plans: Plans, requirements: list[Requirement]) -> list[str]:
    return [
        *_dependency_problems(plan, plans),
        *_delivery_problems(plan, requirements),
        *_summary_problems(plan),
        *(_truth_problems(root, plan) if plan.is_done else []),
    ]


def _dependency_problems(plan: Plan, plans: Plans) -> list[str]:
    wrong = []
    for name in plan.front["depends_on"]:
        earlier = plans.get(name)
        if name not in plans:
            wrong.append(f"depends on plan {name}, which does not exist")
        elif earlier and earlier.front["wave"] >= plan.front["wave"]:
            wrong.append(f"depends on plan {name}, which is not of an earlier wave")
    return wrong


def _delivery_problems(plan: Plan, requirements: list[Requirement]) -> list[str]:
    wrong = []
    deliverers = {requirement.name: requirement.plans for requirement in requirements}
    for name in plan.front["requirements"]:
        if name not in deliverers:
            wrong.append(f"delivers {name}, which is no requirement")
        elif plan.front["plan"] not in deliverers[name]:
            wrong.append(f"delivers {name}, which does not name this plan")
    return wrong


def _summary_problems(plan: Plan) -> list[str]:
    if plan.is_done and not plan.summary.exists():
        return [f"done, but there is no {plan.summary.name}"]
    if plan.summary.exists() and not plan.is_done:
        return [f"planned, but {plan.summary.name} is there: set status to done"]
    return []


def _truth_problems(root: Path, plan: Plan) -> list[str]:
    """Compare what a plan that is done says with the tree."""
    must_haves = plan.front["must_haves"]
    wrong = [
        f"{path} is in files_modified and does not exist"
        for path in plan.front["files_modified"]
        if not (root / path).exists()
    ]
    for artifact in must_haves["artifacts"]:
        wrong += _artifact_problems(root, **artifact)
    for link in must_haves["key_links"]:
        wrong += _link_problems(root, link)
    return wrong


def _artifact_problems(root: Path, path: str, exports: list[str], min_lines: int, **_: str) -> list[str]:
    file = root / path
    if not file.is_file():
        return [f"artifact {path} does not exist"]
    wrong = []
    n_lines = len(file.read_text().splitlines())
    if n_lines < min_lines:
        wrong.append(f"artifact {path} has {n_lines} lines, fewer than {min_lines}")
    if exports and file.suffix != ".py":
        return [*wrong, f"artifact {path} is not a Python file and has no exports"]
    try:
        names = _exported(file) if exports else set()
    except SyntaxError as error:
        return [*wrong, f"artifact {path} is not Python: {error.msg}, line {error.lineno}"]
    return wrong + [f"artifact {path} does not export {name!r}" for name in exports if name not in names]


def _link_problems(root: Path, link: dict[str, str]) -> list[str]:
    source, pattern = link["from"], link["pattern"]
    wrong = [
        f"key link {end} {link[end]}, which does not exist"
        for end in ("from", "to")
        if not (root / link[end]).is_file()
    ]
    if wrong:
        return wrong
    try:
        found = re.search(pattern, (root / source).read_text(), re.MULTILINE)
    except re.error as error:
        return [f"key link: pattern {pattern!r} is no regular expression: {error}"]
    return [] if found else [f"key link: pattern {pattern!r} is not found in {source}"]


def _exported(file: Path) -> set[str]:
    """Return the names that a module defines at its top level or lists in `__all__`."""
    names = set()
    for node in ast.parse(file.read_text()).body:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            names.add(node.name)
        elif isinstance(node, ast.Assign | ast.AnnAssign):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            assigned = {leaf.id for target in targets for leaf in ast.walk(target) if isinstance(leaf, ast.Name)}
            names |= assigned
            if "__all__" in assigned and node.value:
                names |= set(ast.literal_eval(node.value))
    return names


def _read_requirements(file: Path) -> list[Requirement]:
    """Read the sections that are headed by a requirement's name."""
    if not file.exists():
        return []
    sections = re.split(r"^#+ +", file.read_text(), flags=re.MULTILINE)
    heads = [(re.match(r"([A-Z]+-\d+)\b.*\n", section), section) for section in sections]
    return [_requirement(head[1], section[head.end() :]) for head, section in heads if head]


def _requirement(name: str, body: str) -> Requirement:
    plans = re.search(r"^- Plan: *(.*)$", body, re.MULTILINE)
    return Requirement(
        name=name,
        promise=body.partition("\n- ")[0].strip(),
        plans=re.split(r", *", plans[1]) if plans else [],
        tests=re.findall(r"`([^`\s]+::[^`\s]+)`", body),
    )


def _requirement_problems(root: Path, requirements: list[Requirement], plans: Plans) -> list[str]:
    wrong = []
    seen = set()
    for requirement in requirements:
        lines = ["there are two of this name"] if requirement.name in seen else []
        seen.add(requirement.name)
        if not requirement.promise:
            lines.append("no sentence says what is promised")
        lines += _deliverer_problems(requirement, plans)
        lines += [f"test {test} does not exist" for test in requirement.tests if not _has_test(root, test)]
        wrong += [f"{requirement.name}: {line}" for line in lines]
    return wrong


def _deliverer_problems(requirement: Requirement, plans: Plans) -> list[str]:
    wrong = [] if requirement.plans else ["no plan delivers it"]
    for name in requirement.plans:
        plan = plans.get(name)
        if name not in plans:
            wrong.append(f"plan {name} does not exist")
        if plan and requirement.name not in plan.front["requirements"]:
            wrong.append(f"plan {name} does not list it under requirements")
        if plan and plan.is_done and not requirement.tests:
            wrong.append(f"no test holds it, though plan {name} is done")
    return wrong


def _has_test(root: Path, test: str) -> bool:
    path, *names = test.split("::")
    return "::".join(names) in _tests_of(root / path)


@cache
def _tests_of(file: Path) -> frozenset[str]:
    """Return the functions of a test module, those of classes as `Class::function`."""
    if not file.is_file():
        return frozenset()
    names = set()
    for node in ast.parse(file.read_text()).body:
        members = (
            [(f"{node.name}::", member) for member in node.body] if isinstance(node, ast.ClassDef) else [("", node)]
        )
        names |= {
            f"{prefix}{member.name}"
            for prefix, member in members
            if isinstance(member, ast.FunctionDef | ast.AsyncFunctionDef)
        }
    return frozenset(names)


def main(root: Path) -> int:
    """Print one line for each problem and what was read; return the exit code, 1 if there are problems."""
    report = examine(root)
    n = len(report.problems)
    count = "no problems" if n == 0 else "1 problem" if n == 1 else f"{n} problems"
    print(
        *report.problems, f"plan-check: {report.n_plans} plans, {report.n_requirements} requirements, {count}", sep="\n"
    )
    return 1 if n else 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).parents[1]))
