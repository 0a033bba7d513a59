"""Words: retired idioms and terms do not come back, except where they are meant literally."""

import subprocess
from fnmatch import fnmatch

import pytest

from words import ROOT, RULES, files_of, find

TRAIN = "packages/viscy-train"
TESTKIT = "packages/viscy-sampling-testkit"
TESTKIT_NAMES = f"{TESTKIT}/src/viscy_sampling_testkit/__init__.py"

# Literal uses: the files, a part of the line, and why the wording is right there.
ALLOWED = {
    ("*", "here is no "): "says literally that something does not exist",
    ("*", "here are no "): "says literally that something does not exist",
    ("*", "here_are_no_"): "says literally that something does not exist",
    ("*", "is no longer"): "the usual adverb",
    ("*", "odel card"): "the usual name of the description that is published with a model",
    ("*", "odel_card"): "the usual name of the description that is published with a model",
    ("CHANGELOG.md", "(`learning rate`)"): "names the former name of a metric",
    ("CHANGELOG.md", "(`time/waiting for data`)"): "names the former name of a metric",
    ("CHANGELOG.md", "(`val/found again`)"): "names the former name of a metric",
    ("CHANGELOG.md", "replaces `lives.csv`"): "names the former name of a file",
    ("CHANGELOG.md", "`Life` is now `Attempt`"): "names former names of the testkit",
    (f"{TRAIN}/src/viscy_train/sample_projects/hela.py", "LapTrack"): "a class of the library laptrack",
    (f"{TRAIN}/src/viscy_train/run/directory.py", "lives.csv"): "a file of runs of earlier versions",
    (f"{TRAIN}/tests/run/test_attempts.py", "lives.csv"): "a file of runs of earlier versions",
    (f"{TRAIN}/src/viscy_train/run/metrics_csv.py", '": '): "metric names of runs of earlier versions",
    (f"{TRAIN}/tests/run/test_metrics_csv.py", "batch/hours mean,"): "metric names of runs of earlier versions",
    (TESTKIT_NAMES, "Life = Attempt"): "a name that earlier versions exported",
    (TESTKIT_NAMES, "assert_dealt_evenly = "): "a name that earlier versions exported",
    (f"{TESTKIT}/tests/test_readme.py", '("Life", "Attempt")'): "a name that earlier versions exported",
    (f"{TESTKIT}/tests/test_readme.py", '("assert_dealt_evenly", '): "a name that earlier versions exported",
}  # fmt: skip


def is_allowed(occurrence):
    file = str(occurrence.file.relative_to(ROOT))
    return any(fnmatch(file, path) and part in occurrence.text for path, part in ALLOWED)


@pytest.fixture(scope="module")
def occurrences():
    return find(files_of(ROOT))


@pytest.mark.parametrize("rule", RULES)
def test_a_retired_word_does_not_come_back(occurrences, rule):
    lines = [
        f"{occurrence.file.relative_to(ROOT)}:{occurrence.line}: {occurrence.text}"
        for occurrence in occurrences
        if occurrence.rule == rule and not is_allowed(occurrence)
    ]
    assert lines == []


def test_every_allowed_use_occurs(occurrences):
    used = {(str(occurrence.file.relative_to(ROOT)), occurrence.text) for occurrence in occurrences}
    unused = [
        (path, part) for path, part in ALLOWED if not any(fnmatch(file, path) and part in text for file, text in used)
    ]
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
