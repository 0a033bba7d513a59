"""The code in CONFORMANCE.md runs and prints the reports on the page."""

import importlib.util
import re
from pathlib import Path

import pytest

PAGE = (Path(__file__).parents[2] / "CONFORMANCE.md").read_text()
# Each block of code, with the report below it if there is one.
BLOCKS = re.findall(r"```python\n(.*?)```(?:\n\n```text\n(.*?)```)?", PAGE, re.DOTALL)


def verdicts(report):
    """Return the summary and the laws of a report; its duration and its failures can differ from run to run."""
    summary, *laws = report.split("\n\n")[0].splitlines()
    return [re.sub(r"[\d.]+ s\)", "", summary), *laws]


@pytest.fixture
def names():
    """Return the names that the first block defines and all other blocks use."""
    defined = {"__name__": "page"}
    exec(compile(BLOCKS[0][0], "CONFORMANCE.md", "exec"), defined)
    return defined


def test_page_has_a_test_class_and_three_reports(capsys):
    assert len(BLOCKS) == 4
    assert sum(bool(report) for _, report in BLOCKS) == 3


def test_first_report_is_printed(names, capsys):
    exec(compile(BLOCKS[0][0], "CONFORMANCE.md", "exec"), names)
    printed = capsys.readouterr().out
    assert verdicts(printed) == verdicts(BLOCKS[0][1])
    # The second failure counts function calls, which depend on the version of Python.
    assert printed.split("\n\n")[1] == BLOCKS[0][1].split("\n\n")[1]
    assert "rank cost: failed" in printed


def test_test_class_checks_the_sampler(names):
    exec(compile(BLOCKS[1][0], "CONFORMANCE.md", "exec"), names)
    assert list(names["TestHalfInfected"]().make_sampler(0, 1, seed=0)) == list(names["HalfInfected"](0, 1, 0))


def test_report_on_torch_is_printed(names, capsys):
    exec(compile(BLOCKS[2][0], "CONFORMANCE.md", "exec"), names)
    printed = capsys.readouterr().out
    assert verdicts(printed) == verdicts(BLOCKS[2][1])
    assert "seeds unrelated: failed (ranks 1, seeds (0, 1), epochs (1, 0))" in printed


@pytest.mark.skipif(
    importlib.util.find_spec("pytorch_metric_learning") is None, reason="pytorch-metric-learning is not installed"
)
def test_report_on_pytorch_metric_learning_is_printed(names, capsys):
    exec(compile("\n".join(code for code, _ in BLOCKS[2:]), "CONFORMANCE.md", "exec"), names)
    printed = capsys.readouterr().out
    assert verdicts(printed[printed.rindex("10 passed, ") :]) == verdicts(BLOCKS[3][1])
