"""Plan check: a plan or requirement that is not true of the tree is reported."""

import subprocess
import sys
from pathlib import Path

import pytest

from plan_check import check

SCRIPT = Path(__file__).parents[1] / "plan_check.py"
PLAN = ".planning/phases/01-queue/01-01-PLAN.md"
SUMMARY = ".planning/phases/01-queue/01-01-SUMMARY.md"
LATER = ".planning/phases/02-speed/02-01-PLAN.md"
REQUIREMENTS = ".planning/REQUIREMENTS.md"

FILES = {
    "src/pool/__init__.py": "from pool.queue import Queue\n",
    "src/pool/queue.py": """from pool.items import Item

SIZE: int = 52
ONE, TWO = 1, 2


class Queue:
    def pop(self) -> Item:
        pass
""",
    "src/pool/items.py": "class Item: ...\n",
    "src/pool/more_items.py": "class Item: ...\n",
    "src/api.py": '__all__ = ["Queue"]\nfrom pool import *\n',
    "tests/test_queue.py": """from pool import Queue


def test_a_queue_keeps_order():
    pass


class TestQueue:
    def test_it_ends():
        pass
""",
    REQUIREMENTS: (
        "# Requirements\n\n### QUEUE-01 Order\n\nA queue keeps its order.\n\n- Plan: 01-01\n- Tests:\n"
        "  - `tests/test_queue.py::test_a_queue_keeps_order`\n"
        "  - `tests/test_queue.py::TestQueue::test_it_ends`\n\n"
        "### QUEUE-02 Speed\n\nA queue is fast.\n\n- Plan: 02-01\n"
    ),
    PLAN: """---
phase: 01-queue
plan: 01-01
status: done
type: tdd
wave: 1
depends_on: []
requirements: [QUEUE-01]
files_modified: [src/pool/queue.py]
must_haves:
  truths:
    - A queue keeps its order.
  artifacts:
    - path: src/pool/queue.py
      provides: the queue
      exports: [Queue, SIZE, TWO]
      min_lines: 9
    - path: src/api.py
      provides: the public names
      exports: [Queue]
      min_lines: 1
  key_links:
    - from: src/pool/queue.py
      to: src/pool/items.py
      via: a queue returns items
      pattern: Item
    - from: tests/test_queue.py
      to: src/pool/queue.py
      via: the public name is tested
      pattern: Queue
---
# 01-01 The queue
""",
    SUMMARY: "# 01-01 summary\n",
    LATER: """---
phase: 02-speed
plan: 02-01
status: planned
type: tdd
wave: 2
depends_on: [01-01]
requirements: [QUEUE-02]
files_modified: [benchmarks/queue.py]
must_haves:
  truths: [A queue is fast.]
  artifacts:
    - path: benchmarks/queue.py
      provides: the benchmark
      exports: [main]
      min_lines: 50
  key_links:
    - from: benchmarks/queue.py
      to: src/pool/queue.py
      via: the queue is timed
      pattern: Queue
---
# 02-01 Speed
""",
}


@pytest.fixture
def tree(tmp_path):
    for path, text in FILES.items():
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_text(text)
    return tmp_path


def edit(root, path, old, new):
    text = (root / path).read_text()
    assert old in text
    (root / path).write_text(text.replace(old, new, 1))


def test_a_true_plan_has_no_problems(tree):
    assert check(tree) == []


@pytest.mark.parametrize("key", ["phase", "plan", "status", "type", "wave", "depends_on", "requirements"])
@pytest.mark.parametrize("path", [PLAN, LATER])
def test_a_front_matter_key_is_required(tree, path, key):
    edit(tree, path, f"\n{key}: ", f"\nx-{key}: ")
    assert f"{path}: front matter lacks {key!r}" in check(tree)


@pytest.mark.parametrize("key", ["truths", "artifacts", "key_links"])
def test_every_must_have_is_required(tree, key):
    edit(tree, LATER, f"  {key}:", f"  x-{key}:")
    assert check(tree) == [f"{LATER}: must_haves lacks {key!r}"]


@pytest.mark.parametrize("key", ["path", "provides", "exports", "min_lines"])
def test_an_artifact_has_all_its_keys(tree, key):
    edit(tree, LATER, f"{key}: ", f"x-{key}: ")
    assert check(tree) == [f"{LATER}: must_haves.artifacts[0] lacks {key!r}"]


@pytest.mark.parametrize("key", ["from", "to", "via", "pattern"])
def test_a_key_link_has_all_its_keys(tree, key):
    edit(tree, LATER, f"{key}: ", f"x-{key}: ")
    assert check(tree) == [f"{LATER}: must_haves.key_links[0] lacks {key!r}"]


@pytest.mark.parametrize(
    ("path", "old", "new", "problem"),
    [
        (PLAN, "---\nphase", "phase", "no front matter between two lines '---'"),
        (PLAN, "wave: 1", "wave: [", "front matter is not YAML: "),
        (PLAN, "wave: 1", "wave: one", "front matter 'wave' must be int, got 'one'"),
        (PLAN, "depends_on: []", "depends_on: none", "front matter 'depends_on' must be list, got 'none'"),
        (PLAN, "    - A queue keeps its order.", "    - {}", "must_haves 'truths' must hold text, got {}"),
        (PLAN, "  - path: src/api.py", "  - src/api.py\n    - path: src/api.py", "must_haves.artifacts[1] must be"),
        (PLAN, "truths:\n    - A queue keeps its order.", "truths: []", "must_haves 'truths' is empty"),
        (PLAN, "plan: 01-01", "plan: 01-02", "plan is '01-02', but the file name says '01-01'"),
        (PLAN, "phase: 01-queue", "phase: 01-items", "phase is '01-items', but the folder name says '01-queue'"),
        (PLAN, "status: done", "status: nearly", "status must be 'planned' or 'done', got 'nearly'"),
        (PLAN, "status: done", "status: planned", "planned, but 01-01-SUMMARY.md exists: set status to done"),
        (PLAN, "depends_on: []", "depends_on: [00-07]", "depends on plan 00-07, which does not exist"),
        (LATER, "depends_on: [01-01]", "depends_on: [02-01]", "depends on plan 02-01, which is not of an earlier wave"),
        (PLAN, "[QUEUE-01]", "[QUEUE-01, QUEUE-09]", "delivers QUEUE-09, which is not a requirement"),
        (PLAN, "[QUEUE-01]", "[QUEUE-01, QUEUE-02]", "delivers QUEUE-02, which does not name this plan"),
        (PLAN, "[src/pool/queue.py]", "[src/gone.py]", "src/gone.py is in files_modified but does not exist"),
        (PLAN, "- path: src/api.py", "- path: src/gone.py", "artifact src/gone.py does not exist"),
        (PLAN, "min_lines: 9", "min_lines: 10", "artifact src/pool/queue.py has 9 lines, fewer than 10"),
        (PLAN, "[Queue, SIZE, TWO]", "[pop]", "artifact src/pool/queue.py does not export 'pop'"),
        (PLAN, "[Queue, SIZE, TWO]", "[Item]", "artifact src/pool/queue.py does not export 'Item'"),
        (PLAN, "from: src/pool/queue.py", "from: src/gone.py", "key link from src/gone.py, which does not exist"),
        (PLAN, "to: src/pool/items.py", "to: src/gone.py", "key link to src/gone.py, which does not exist"),
        (PLAN, "to: src/pool/items.py", "to: Makefile", "key link to Makefile, which is not a Python file"),
        (LATER, "from: benchmarks/queue.py", "from: ci.yml", "key link from ci.yml, which is not a Python file"),
        (LATER, "pattern: Queue", "pattern: import\\s+Queue", "key link: pattern 'import\\\\s+Queue' must be the name"),
        (LATER, "pattern: Queue", "pattern: class", "key link: pattern 'class' must be the name"),
        (PLAN, "pattern: Item", "pattern: Thing", "key link: src/pool/queue.py does not import 'Thing' from "),
        (PLAN, "to: src/pool/items.py", "to: src/pool/more_items.py",
         "key link: src/pool/queue.py does not import 'Item' from src/pool/more_items.py, but from src/pool/items.py"),
        ("src/pool/queue.py", "from pool.items import Item", "import (", "artifact src/pool/queue.py is not Python: "),
        ("tests/test_queue.py", "from pool import Queue", "import (", "key link: tests/test_queue.py is not Python"),
    ],
)  # fmt: skip
def test_what_a_plan_says_must_be_true(tree, path, old, new, problem):
    edit(tree, path, old, new)
    owner = path if path.startswith(".planning") else PLAN
    assert any(line.startswith(f"{owner}: {problem}") for line in check(tree)), check(tree)


def test_a_link_to_a_module_that_the_name_is_not_imported_from_is_untrue(tree):
    """Plan 27-02 once claimed this: the name occurs in both modules and is imported from the other one."""
    (tree / "src/pool/sampler.py").write_text("def make_sampler(): ...\n")
    (tree / "src/pool/composition.py").write_text("def make_sampler(): ...\n")
    (tree / "src/pool/data_module.py").write_text("from pool.sampler import make_sampler\n\nmake_sampler()\n")
    edit(tree, PLAN, "from: src/pool/queue.py", "from: src/pool/data_module.py")
    edit(tree, PLAN, "to: src/pool/items.py", "to: src/pool/composition.py")
    edit(tree, PLAN, "pattern: Item", "pattern: make_sampler")
    assert check(tree) == [
        f"{PLAN}: key link: src/pool/data_module.py does not import 'make_sampler' from src/pool/composition.py, "
        "but from src/pool/sampler.py"
    ]
    edit(tree, PLAN, "to: src/pool/composition.py", "to: src/pool/sampler.py")
    assert check(tree) == []


def test_a_module_of_the_same_name_elsewhere_is_another_module(tree):
    (tree / "tools").mkdir()
    (tree / "tools/items.py").write_text("class Item: ...\n")
    edit(tree, PLAN, "to: src/pool/items.py", "to: tools/items.py")
    assert len(check(tree)) == 1
    edit(tree, "src/pool/queue.py", "from pool.items", "from items")
    assert check(tree) == []


@pytest.mark.parametrize(
    "code",
    [
        "from .items import Item",
        "from pool.items import *",
        "from pool import items\nitems.Item()",
        "import pool.items\npool.items.Item()",
        "def f():\n    from pool.items import Item",
        "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from pool.items import Item",
    ],
)
def test_every_way_to_import_the_name_makes_a_link_true(tree, code):
    edit(tree, "src/pool/queue.py", "from pool.items import Item", code)
    assert check(tree) == []


@pytest.mark.parametrize("code", ["# from pool.items import Item", '"pool.items.Item"', "import pool.items"])
def test_a_name_that_is_only_mentioned_makes_a_link_untrue(tree, code):
    edit(tree, "src/pool/queue.py", "from pool.items import Item", code)
    assert check(tree) == [f"{PLAN}: key link: src/pool/queue.py does not import 'Item' from src/pool/items.py"]


@pytest.mark.parametrize(
    ("old", "new", "problem"),
    [
        ("::test_a_queue_keeps_order", "::test_gone", "QUEUE-01: test tests/test_queue.py::test_gone does not exist"),
        ("TestQueue::", "Queue::", "QUEUE-01: test tests/test_queue.py::Queue::test_it_ends does not exist"),
        ("tests/test_queue.py::test_a", "t.py::test_a", "QUEUE-01: test t.py::test_a_queue_keeps_order does not exist"),
        ("- Plan: 01-01", "- Plan: 09-01", "QUEUE-01: plan 09-01 does not exist"),
        ("- Plan: 01-01", "- Plan: 02-01", "QUEUE-01: plan 02-01 does not list it under requirements"),
        ("- Plan: 01-01\n", "", "QUEUE-01: no plan delivers it"),
        ("### QUEUE-02", "### QUEUE-01", "QUEUE-01: the name is used twice"),
        ("A queue keeps its order.\n", "", "QUEUE-01: a sentence that states the requirement is missing"),
    ],
)  # fmt: skip
def test_what_a_requirement_says_must_be_true(tree, old, new, problem):
    edit(tree, REQUIREMENTS, old, new)
    assert f"{REQUIREMENTS}: {problem}" in check(tree)


def test_a_requirement_whose_plan_is_done_needs_a_test(tree):
    text = (tree / REQUIREMENTS).read_text()
    (tree / REQUIREMENTS).write_text("".join(line for line in text.splitlines(True) if "::" not in line))
    assert check(tree) == [f"{REQUIREMENTS}: QUEUE-01: no test is listed, although plan 01-01 is done"]


def test_a_done_plan_needs_a_summary(tree):
    (tree / SUMMARY).unlink()
    assert check(tree) == [f"{PLAN}: done, but 01-01-SUMMARY.md is missing"]


def test_a_name_in_all_must_exist(tree):
    edit(tree, "src/api.py", '["Queue"]', '["Queue", "Stack"]')
    edit(tree, PLAN, "exports: [Queue]", "exports: [Queue, Stack]")
    assert check(tree) == [f"{PLAN}: artifact src/api.py does not export 'Stack'"]


def test_only_python_files_have_exports(tree):
    (tree / "src/queue.txt").write_text("Queue\n" * 9)
    edit(tree, PLAN, "- path: src/pool/queue.py", "- path: src/queue.txt")
    assert f"{PLAN}: artifact src/queue.txt is not a Python file and has no exports" in check(tree)


def test_a_tree_without_plans_is_a_problem(tmp_path):
    assert check(tmp_path) == [
        ".planning/phases: no plans found",
        f"{REQUIREMENTS}: no requirements found",
    ]


def run(root):
    return subprocess.run([sys.executable, SCRIPT, root], capture_output=True, text=True, timeout=600)


def test_the_command_reports_how_much_it_read(tree):
    result = run(tree)
    assert result.returncode == 0
    assert result.stdout == "plan-check: 2 plans, 2 requirements, no problems\n"


def test_the_command_fails_with_a_line_for_each_problem(tree):
    (tree / SUMMARY).unlink()
    (tree / "src/pool/items.py").unlink()
    result = run(tree)
    assert result.returncode == 1
    assert result.stdout.splitlines() == [*check(tree), "plan-check: 2 plans, 2 requirements, 2 problems"]
