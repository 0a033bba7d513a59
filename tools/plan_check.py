"""Plan check: reports every statement of the plans and requirements in `.planning` that the repository contradicts.

A plan that is done must be true: its artifacts, exports, key links and files must exist. A key link joins two Python
files; it is true if the first imports the name in `pattern` from the second. A plan that is only planned is checked for
its form. A requirement names its plan and, once that plan is done, the tests that verify it.
"""

import ast
import keyword
import re
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import yaml

from imports import exports, imported, module_name, parse

_PHASES = Path(".planning/phases")
_REQUIREMENTS = Path(".planning/REQUIREMENTS.md")
_SOURCES = ("src", "packages/*/src", "tools")
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
_ITEM_FORMS = {"artifacts": _ARTIFACT, "key_links": _LINK}


class Plan(NamedTuple):
    """A plan whose front matter has the required form."""

    file: Path
    front: dict[str, Any]

    @property
    def summary(self) -> Path:
        """The file of the plan's summary."""
        return self.file.with_name(self.file.name.replace("-PLAN", "-SUMMARY"))

    @property
    def is_done(self) -> bool:
        """Whether the plan says that it is done."""
        return self.front["status"] == "done"


# Plans by name; None for a plan whose front matter does not have the required form.
type Plans = dict[str, Plan | None]


class Requirement(NamedTuple):
    """A section of the requirements."""

    name: str
    sentence: str
    plans: list[str]
    tests: list[str]


class Report(NamedTuple):
    """How much was read, and one line for each problem."""

    n_plans: int
    n_requirements: int
    problems: list[str]


def check(root: Path) -> list[str]:
    """Return one line for each problem of the plans and requirements below `root`."""
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
        problems.append(f"{_PHASES}: no plans found")
    if not requirements:
        problems.append(f"{_REQUIREMENTS}: no requirements found")
    for plan in filter(None, plans.values()):
        problems += [
            f"{plan.file.relative_to(root)}: {line}" for line in _plan_problems(root, plan, plans, requirements)
        ]
    problems += [f"{_REQUIREMENTS}: {line}" for line in _requirement_problems(root, requirements, plans)]
    return Report(len(files), len(requirements), problems)


def _front_matter(file: Path) -> tuple[dict[str, Any], list[str]]:
    """Return a plan's front matter and the problems of its form."""
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
    for key, form in _ITEM_FORMS.items():
        for i, item in enumerate(must_haves[key]):
            wrong += _mapping_problems(f"must_haves.{key}[{i}]", item, form)
    if wrong:
        return wrong
    for link in must_haves["key_links"]:
        wrong += _link_form_problems(link)
    wrong += [f"must_haves {key!r} is empty" for key, items in must_haves.items() if not items]
    name, phase = _name(file), file.parent.name
    if front["plan"] != name:
        wrong.append(f"plan is {front['plan']!r}, but the file name says {name!r}")
    if front["phase"] != phase:
        wrong.append(f"phase is {front['phase']!r}, but the folder name says {phase!r}")
    if front["status"] not in _STATUS:
        wrong.append(f"status must be 'planned' or 'done', got {front['status']!r}")
    return wrong


def _mapping_problems(where: str, value: Any, form: Mapping[str, type]) -> list[str]:
    """Check the keys and types of a mapping; a list holds text unless its items have a form of their own."""
    if not isinstance(value, dict):
        return [f"{where} must be a mapping, got {value!r}"]
    wrong = []
    for key, kind in form.items():
        if key not in value:
            wrong.append(f"{where} lacks {key!r}")
        elif not isinstance(value[key], kind):
            wrong.append(f"{where} {key!r} must be {kind.__name__}, got {value[key]!r}")
        elif kind is list and key not in _ITEM_FORMS:
            wrong += [f"{where} {key!r} must hold text, got {item!r}" for item in value[key] if type(item) is not str]
    return wrong


def _link_form_problems(link: dict[str, str]) -> list[str]:
    """Check that a key link joins two Python files by a name."""
    name = link["pattern"]
    wrong = [
        f"key link {end} {link[end]}, which is not a Python file" for end in ("from", "to") if link[end][-3:] != ".py"
    ]
    if not name.isidentifier() or keyword.iskeyword(name):
        wrong.append(f"key link: pattern {name!r} must be the name that is imported, a Python identifier")
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
            wrong.append(f"delivers {name}, which is not a requirement")
        elif plan.front["plan"] not in deliverers[name]:
            wrong.append(f"delivers {name}, which does not name this plan")
    return wrong


def _summary_problems(plan: Plan) -> list[str]:
    if plan.is_done and not plan.summary.exists():
        return [f"done, but {plan.summary.name} is missing"]
    if plan.summary.exists() and not plan.is_done:
        return [f"planned, but {plan.summary.name} exists: set status to done"]
    return []


def _truth_problems(root: Path, plan: Plan) -> list[str]:
    """Check the statements of a plan that is done."""
    must_haves = plan.front["must_haves"]
    wrong = [
        f"{path} is in files_modified but does not exist"
        for path in plan.front["files_modified"]
        if not (root / path).exists()
    ]
    for artifact in must_haves["artifacts"]:
        wrong += _artifact_problems(root, artifact)
    for link in must_haves["key_links"]:
        wrong += _link_problems(root, link)
    return wrong


def _artifact_problems(root: Path, artifact: dict[str, Any]) -> list[str]:
    path, names, min_lines = artifact["path"], artifact["exports"], artifact["min_lines"]
    file = root / path
    if not file.is_file():
        return [f"artifact {path} does not exist"]
    wrong = []
    n_lines = len(file.read_text().splitlines())
    if n_lines < min_lines:
        wrong.append(f"artifact {path} has {n_lines} lines, fewer than {min_lines}")
    if names and file.suffix != ".py":
        return [*wrong, f"artifact {path} is not a Python file and has no exports"]
    try:
        found = exports(file, _roots(root, file)) if names else set()
    except SyntaxError as error:
        return [*wrong, f"artifact {path} is not Python: {error.msg}, line {error.lineno}"]
    return wrong + [f"artifact {path} does not export {name!r}" for name in names if name not in found]


def _link_problems(root: Path, link: dict[str, str]) -> list[str]:
    """Check that the file at one end of a key link imports the name in `pattern` from the file at the other end."""
    source, target, name = link["from"], link["to"], link["pattern"]
    missing = [
        f"key link {end} {link[end]}, which does not exist"
        for end in ("from", "to")
        if not (root / link[end]).is_file()
    ]
    if missing:
        return missing
    try:
        found = imported(root / source, _roots(root, root / source))
    except SyntaxError as error:
        return [f"key link: {source} is not Python: {error.msg}, line {error.lineno}"]
    files = {str(item.file.relative_to(root)) for item in found if item.name == name}
    if target in files:
        return []
    elsewhere = f", but from {', '.join(sorted(files))}" if files else ""
    return [f"key link: {source} does not import {name!r} from {target}{elsewhere}"]


def _roots(root: Path, file: Path) -> list[Path]:
    """Return the folders in which a file's imports are looked up; the folder of its own package comes first."""
    return [module_name(file)[0], *(folder for pattern in _SOURCES for folder in sorted(root.glob(pattern)))]


def _read_requirements(file: Path) -> list[Requirement]:
    """Read the sections whose heading starts with the name of a requirement."""
    if not file.exists():
        return []
    sections = re.split(r"^#+ +", file.read_text(), flags=re.MULTILINE)
    heads = [(re.match(r"([A-Z]+-\d+)\b.*\n", section), section) for section in sections]
    return [_requirement(head[1], section[head.end() :]) for head, section in heads if head]


def _requirement(name: str, body: str) -> Requirement:
    plans = re.search(r"^- Plan: *(.*)$", body, re.MULTILINE)
    return Requirement(
        name=name,
        sentence=body.partition("\n- ")[0].strip(),
        plans=re.split(r", *", plans[1]) if plans else [],
        tests=re.findall(r"`([^`\s]+::[^`\s]+)`", body),
    )


def _requirement_problems(root: Path, requirements: list[Requirement], plans: Plans) -> list[str]:
    wrong = []
    seen = set()
    for requirement in requirements:
        lines = ["the name is used twice"] if requirement.name in seen else []
        seen.add(requirement.name)
        if not requirement.sentence:
            lines.append("a sentence that states the requirement is missing")
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
            wrong.append(f"no test is listed, although plan {name} is done")
    return wrong


def _has_test(root: Path, test: str) -> bool:
    path, *names = test.split("::")
    return "::".join(names) in _tests_of(root / path)


def _tests_of(file: Path) -> set[str]:
    """Return the functions of a test module; a method is listed as `Class::method`."""
    try:
        tree = parse(file.read_text())
    except (OSError, SyntaxError):
        return set()
    names = set()
    for node in tree.body:
        members = (
            [(f"{node.name}::", member) for member in node.body] if isinstance(node, ast.ClassDef) else [("", node)]
        )
        names |= {
            f"{prefix}{member.name}"
            for prefix, member in members
            if isinstance(member, ast.FunctionDef | ast.AsyncFunctionDef)
        }
    return names


def main(root: Path) -> int:
    """Print one line for each problem and the number of plans; return the exit code, 1 if there are problems."""
    report = examine(root)
    n = len(report.problems)
    count = "no problems" if n == 0 else "1 problem" if n == 1 else f"{n} problems"
    print(
        *report.problems, f"plan-check: {report.n_plans} plans, {report.n_requirements} requirements, {count}", sep="\n"
    )
    return 1 if n else 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).parents[1]))
