"""CONFORMANCE.md runs, and the reports that it shows are those that it prints."""

import importlib.util
import re
from pathlib import Path

import pytest

PAGE = (Path(__file__).parents[2] / "CONFORMANCE.md").read_text()
# Code, and the report below it, if there is one.
BLOCKS = re.findall(r"```python\n(.*?)```(?:\n\n```text\n(.*?)```)?", PAGE, re.DOTALL)


def verdicts(report):
    """Return a report's counts and laws; its seconds and examples may differ from run to run."""
    head, *laws = report.split("\n\n")[0].splitlines()
    return [re.sub(r"[\d.]+ s\)", "", head), *laws]


@pytest.fixture
def names():
    """What the first block defines, on which all others build."""
    defined = {"__name__": "page"}
    exec(compile(BLOCKS[0][0], "CONFORMANCE.md", "exec"), defined)
    return defined


def test_the_page_has_a_class_and_three_reports(capsys):
    assert len(BLOCKS) == 4
    assert sum(bool(report) for _, report in BLOCKS) == 3


def test_the_first_report_is_printed(names, capsys):
    exec(compile(BLOCKS[0][0], "CONFORMANCE.md", "exec"), names)
    printed = capsys.readouterr().out
    assert verdicts(printed) == verdicts(BLOCKS[0][1])
    # Of its failures one counts calls, of which another Python may make others.
    assert printed.split("\n\n")[1] == BLOCKS[0][1].split("\n\n")[1]
    assert "rank cost: broken" in printed


def test_the_test_class_checks_the_sampler(names):
    exec(compile(BLOCKS[1][0], "CONFORMANCE.md", "exec"), names)
    assert list(names["TestHalfInfected"]().make_sampler(0, 1, seed=0)) == list(names["HalfInfected"](0, 1, 0))


def test_the_report_on_torch_is_printed(names, capsys):
    exec(compile(BLOCKS[2][0], "CONFORMANCE.md", "exec"), names)
    printed = capsys.readouterr().out
    assert verdicts(printed) == verdicts(BLOCKS[2][1])
    assert "seeds unrelated: broken (ranks 1, seeds (0, 1), epochs (1, 0))" in printed


@pytest.mark.skipif(
    importlib.util.find_spec("pytorch_metric_learning") is None, reason="pytorch-metric-learning is not installed"
)
def test_the_report_on_pytorch_metric_learning_is_printed(names, capsys):
    exec(compile("\n".join(code for code, _ in BLOCKS[2:]), "CONFORMANCE.md", "exec"), names)
    printed = capsys.readouterr().out
    assert verdicts(printed[printed.rindex(" kept, ") - 1 :]) == verdicts(BLOCKS[3][1])
