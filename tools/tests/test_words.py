"""Words: retired idioms and terms do not come back, except where they are meant literally."""

import subprocess

import pytest

from words import ROOT, RULES, files_of, find

# Literal uses: the file, a part of the line, and why the wording is right there.
ALLOWED: dict[tuple[str, str], str] = {}


@pytest.fixture(scope="module")
def occurrences():
    return find(files_of(ROOT))


@pytest.mark.parametrize("rule", RULES)
def test_a_retired_word_does_not_come_back(occurrences, rule):
    lines = [
        f"{file}:{occurrence.line}: {occurrence.text}"
        for occurrence in occurrences
        if occurrence.rule == rule
        for file in [str(occurrence.file.relative_to(ROOT))]
        if not any(file == path and part in occurrence.text for path, part in ALLOWED)
    ]
    assert lines == []


def test_every_allowed_use_occurs(occurrences):
    used = {(str(o.file.relative_to(ROOT)), o.text) for o in occurrences}
    unused = [key for key in ALLOWED if not any(key[0] == file and key[1] in text for file, text in used)]
    assert unused == []


def rules_in(tmp_path, text):
    file = tmp_path / "sample.py"
    file.write_text(text)
    return [(occurrence.line, occurrence.rule) for occurrence in find([file])]


@pytest.mark.parametrize(
    ("text", "rule"),
    [
        ("The error is told.", "told"),
        ("def test_it_is_told_at_once(): ...", "told"),
        ("Told at once.", "told"),
        ("A run that goes on.", "go on"),
        ("def go_on_with(): ...", "go on"),
        ("class Tickets: ...", "ticket, seat, lap"),
        ("There is no file.", "is no, are no"),
        ("as asked", "asked for, as asked"),
        ("drawn from a deck", "deck, card"),
        ("the hand of cards", "hand"),
        ("deal_out = 1", "deal"),
        ("with whole_file(path):", "whole_file"),
        ("WholeCheckpoints()", "whole_file"),
        ("log('val/found it', 1)", "metric with a space"),
        ('f"batch/condition {name}"', "metric with a space"),
        ('"learning rate"', "learning rate as a metric"),
        ("normalise", "British spelling"),
        ("the neighbouring cell", "British spelling"),
    ],
)
def test_a_retired_word_is_found_in_prose_and_in_names(tmp_path, text, rule):
    assert (1, rule) in rules_in(tmp_path, text)


def test_a_phrase_is_found_across_lines(tmp_path):
    assert rules_in(tmp_path, "x = 1\n# It goes\n# on, and there is\nno end.\n") == [(2, "go on"), (3, "is no, are no")]


@pytest.mark.parametrize(
    "text",
    [
        "laptrack discards standard wildcards",
        "by hand, hand-made, handle, a function that hands out positions",
        "ideal dealer",
        "alive, lifetime, lifecycle",
        "the whole batch, whole_slots",
        "'val/loss', 'batch/condition/a_b'",
        "the learning rate decreases",
        "this node, that area",
        "going online",
        "concentrate, center, gray",
    ],
)
def test_other_words_that_look_alike_are_fine(tmp_path, text):
    assert rules_in(tmp_path, text) == []


def test_files_outside_git_are_listed_too(tmp_path):
    for name in ("a.py", "deep/b.md", "c.txt", "Makefile"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    names = ["Makefile", "a.py", "deep/b.md"]
    assert [str(file.relative_to(tmp_path)) for file in files_of(tmp_path)] == names
    subprocess.run(["git", "init", "--quiet", str(tmp_path)], check=True)
    assert [str(file.relative_to(tmp_path)) for file in files_of(tmp_path)] == names
    assert files_of(tmp_path, ["dee*"]) == [tmp_path / "deep/b.md"]
