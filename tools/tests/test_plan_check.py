import runpy
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[1] / "plan_check.py"
check = runpy.run_path(str(SCRIPT))["check"]

PLAN = ".planning/phases/01-deck/01-01-PLAN.md"
SUMMARY = ".planning/phases/01-deck/01-01-SUMMARY.md"
LATER = ".planning/phases/02-speed/02-01-PLAN.md"
REQUIREMENTS = ".planning/REQUIREMENTS.md"

FILES = {
    "src/deck.py": """import cards

SIZE: int = 52
ONE, TWO = 1, 2


class Deck:
    def deal(self):
        pass
""",
    "src/cards.py": "",
    "src/api.py": '__all__ = ["Deck"]\nfrom deck import *\n',
    "tests/test_deck.py": """def test_a_deck_is_whole():
    pass


class TestDeck:
    def test_it_is_dealt(self):
        pass
""",
    REQUIREMENTS: (
        "# Requirements\n\n### DECK-01 Whole\n\nA deck has every card once.\n\n- Plan: 01-01\n- Tests:\n"
        "  - `tests/test_deck.py::test_a_deck_is_whole`\n  - `tests/test_deck.py::TestDeck::test_it_is_dealt`\n\n"
        "### DECK-02 Fast\n\nDealing is fast.\n\n- Plan: 02-01\n"
    ),
    PLAN: """---
phase: 01-deck
plan: 01-01
status: done
type: tdd
wave: 1
depends_on: []
requirements: [DECK-01]
files_modified: [src/deck.py]
must_haves:
  truths:
    - A deck has every card once.
  artifacts:
    - path: src/deck.py
      provides: the deck
      exports: [Deck, SIZE, TWO]
      min_lines: 9
    - path: src/api.py
      provides: the public names
      exports: [Deck]
      min_lines: 1
  key_links:
    - from: src/deck.py
      to: src/cards.py
      via: a deck is made of cards
      pattern: import\\s+cards
---
# 01-01 The deck
""",
    SUMMARY: "# 01-01 summary\n",
    LATER: """---
phase: 02-speed
plan: 02-01
status: planned
type: tdd
wave: 2
depends_on: [01-01]
requirements: [DECK-02]
files_modified: [benchmarks/deal.py]
must_haves:
  truths: [Dealing is fast.]
  artifacts:
    - path: benchmarks/deal.py
      provides: the benchmark
      exports: [main]
      min_lines: 50
  key_links:
    - from: benchmarks/deal.py
      to: src/deck.py
      via: what is timed
      pattern: import deck
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
def test_a_front_matter_key_must_be_there(tree, path, key):
    edit(tree, path, f"\n{key}: ", f"\nx-{key}: ")
    assert f"{path}: front matter lacks {key!r}" in check(tree)


@pytest.mark.parametrize("key", ["truths", "artifacts", "key_links"])
def test_a_must_have_must_be_there(tree, key):
    edit(tree, LATER, f"  {key}:", f"  x-{key}:")
    assert check(tree) == [f"{LATER}: must_haves lacks {key!r}"]


@pytest.mark.parametrize("key", ["path", "provides", "exports", "min_lines"])
def test_an_artifact_says_all_there_is_to_say(tree, key):
    edit(tree, LATER, f"{key}: ", f"x-{key}: ")
    assert check(tree) == [f"{LATER}: must_haves.artifacts[0] lacks {key!r}"]


@pytest.mark.parametrize("key", ["from", "to", "via", "pattern"])
def test_a_key_link_says_all_there_is_to_say(tree, key):
    edit(tree, LATER, f"{key}: ", f"x-{key}: ")
    assert check(tree) == [f"{LATER}: must_haves.key_links[0] lacks {key!r}"]


@pytest.mark.parametrize(
    ("path", "old", "new", "problem"),
    [
        (PLAN, "---\nphase", "phase", "no front matter between two lines '---'"),
        (PLAN, "wave: 1", "wave: [", "front matter is not YAML: "),
        (PLAN, "wave: 1", "wave: one", "front matter 'wave' must be int, got 'one'"),
        (PLAN, "depends_on: []", "depends_on: none", "front matter 'depends_on' must be list, got 'none'"),
        (PLAN, "    - A deck has every card once.", "    - {}", "must_haves 'truths' must hold text, got {}"),
        (PLAN, "  - path: src/api.py", "  - src/api.py\n    - path: src/api.py", "must_haves.artifacts[1] must be"),
        (PLAN, "truths:\n    - A deck has every card once.", "truths: []", "must_haves 'truths' is empty"),
        (PLAN, "plan: 01-01", "plan: 01-02", "plan is '01-02', the file's name says '01-01'"),
        (PLAN, "phase: 01-deck", "phase: 01-cards", "phase is '01-cards', the folder's name says '01-deck'"),
        (PLAN, "status: done", "status: nearly", "status must be 'planned' or 'done', got 'nearly'"),
        (PLAN, "status: done", "status: planned", "planned, but 01-01-SUMMARY.md is there: set status to done"),
        (PLAN, "depends_on: []", "depends_on: [00-07]", "depends on plan 00-07, which does not exist"),
        (LATER, "depends_on: [01-01]", "depends_on: [02-01]", "depends on plan 02-01, which is not of an earlier wave"),
        (PLAN, "[DECK-01]", "[DECK-01, DECK-09]", "delivers DECK-09, which is no requirement"),
        (PLAN, "[DECK-01]", "[DECK-01, DECK-02]", "delivers DECK-02, which does not name this plan"),
        (PLAN, "[src/deck.py]", "[src/gone.py]", "src/gone.py is in files_modified and does not exist"),
        (PLAN, "- path: src/deck.py", "- path: src/gone.py", "artifact src/gone.py does not exist"),
        (PLAN, "min_lines: 9", "min_lines: 10", "artifact src/deck.py has 9 lines, fewer than 10"),
        (PLAN, "[Deck, SIZE, TWO]", "[deal]", "artifact src/deck.py does not export 'deal'"),
        (PLAN, "from: src/deck.py", "from: src/gone.py", "key link from src/gone.py, which does not exist"),
        (PLAN, "to: src/cards.py", "to: src/gone.py", "key link to src/gone.py, which does not exist"),
        (PLAN, r"import\s+cards", "import dice", "key link: pattern 'import dice' is not found in src/deck.py"),
        (PLAN, r"import\s+cards", "'(cards'", "key link: pattern '(cards' is no regular expression: "),
        ("src/deck.py", "import cards", "import (", "artifact src/deck.py is not Python: "),
    ],
)  # fmt: skip
def test_what_a_plan_says_must_be_true(tree, path, old, new, problem):
    edit(tree, path, old, new)
    owner = path if path.startswith(".planning") else PLAN
    assert any(line.startswith(f"{owner}: {problem}") for line in check(tree)), check(tree)


@pytest.mark.parametrize(
    ("old", "new", "problem"),
    [
        ("::test_a_deck_is_whole", "::test_gone", "DECK-01: test tests/test_deck.py::test_gone does not exist"),
        ("TestDeck::", "Deck::", "DECK-01: test tests/test_deck.py::Deck::test_it_is_dealt does not exist"),
        ("tests/test_deck.py", "tests/gone.py", "DECK-01: test tests/gone.py::test_a_deck_is_whole does not exist"),
        ("- Plan: 01-01", "- Plan: 09-01", "DECK-01: plan 09-01 does not exist"),
        ("- Plan: 01-01", "- Plan: 02-01", "DECK-01: plan 02-01 does not list it under requirements"),
        ("- Plan: 01-01\n", "", "DECK-01: no plan delivers it"),
        ("### DECK-02", "### DECK-01", "DECK-01: there are two of this name"),
        ("A deck has every card once.\n", "", "DECK-01: no sentence says what is promised"),
    ],
)  # fmt: skip
def test_what_a_requirement_says_must_be_true(tree, old, new, problem):
    edit(tree, REQUIREMENTS, old, new)
    assert f"{REQUIREMENTS}: {problem}" in check(tree)


def test_a_requirement_whose_plan_is_done_needs_a_test(tree):
    text = (tree / REQUIREMENTS).read_text()
    (tree / REQUIREMENTS).write_text("".join(line for line in text.splitlines(True) if "::" not in line))
    assert check(tree) == [f"{REQUIREMENTS}: DECK-01: no test holds it, though plan 01-01 is done"]


def test_a_done_plan_needs_a_summary(tree):
    (tree / SUMMARY).unlink()
    assert check(tree) == [f"{PLAN}: done, but there is no 01-01-SUMMARY.md"]


def test_names_that_are_only_listed_are_exports(tree):
    edit(tree, "src/api.py", '["Deck"]', '["Card"]')
    assert check(tree) == [f"{PLAN}: artifact src/api.py does not export 'Deck'"]


def test_only_python_has_exports(tree):
    (tree / "src/deck.txt").write_text("Deck\n" * 9)
    edit(tree, PLAN, "- path: src/deck.py", "- path: src/deck.txt")
    assert f"{PLAN}: artifact src/deck.txt is not a Python file and has no exports" in check(tree)


def test_a_tree_without_plans_is_a_problem(tmp_path):
    assert check(tmp_path) == [
        ".planning/phases: there are no plans",
        f"{REQUIREMENTS}: there are no requirements",
    ]


def run(root):
    return subprocess.run([sys.executable, SCRIPT, root], capture_output=True, text=True, timeout=60)


def test_the_command_counts_what_it_read(tree):
    result = run(tree)
    assert result.returncode == 0
    assert result.stdout == "plan-check: 2 plans, 2 requirements, no problems\n"


def test_the_command_fails_with_a_line_for_each_problem(tree):
    (tree / SUMMARY).unlink()
    (tree / "src/cards.py").unlink()
    result = run(tree)
    assert result.returncode == 1
    assert result.stdout.splitlines() == [*check(tree), "plan-check: 2 plans, 2 requirements, 2 problems"]
