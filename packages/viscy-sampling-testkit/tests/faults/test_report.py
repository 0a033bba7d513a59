"""A report summarizes verdicts, as text, as a table, and as lines of a file."""

import pytest

from viscy_sampling_testkit import FaultReport, FaultVerdict


@pytest.fixture
def report(make_plan):
    """A report with a verdict of each outcome."""
    failed = FaultVerdict(
        plan=make_plan("kill rank", number=1),
        outcome="failed",
        problems={"same losses": ("1 batch with another loss",), "nothing left": ("process 7: sleep",)},
        attempts=("attempt on 1 rank",),
        output="the output",
        seconds=2.0,
    )
    passed = FaultVerdict(plan=make_plan("kill all"), outcome="passed", problems={}, attempts=("first", "second"))
    missed = FaultVerdict(plan=make_plan("kill worker", number=2), outcome="missed", problems={}, attempts=())
    return FaultReport((passed, failed, missed))


def test_a_failure_is_shown_in_full(report):
    text = str(report)
    assert text.startswith("3 faults: 1 passed, 1 failed, 1 missed (2.0 s)\n")
    for part in ("same losses: 1 batch with another loss", "process 7: sleep", "attempt on 1 rank", "  the output"):
        assert part in text
    assert "second" not in text
    with pytest.raises(AssertionError, match="1 batch with another loss"):
        report.raise_if_failed()


def test_a_report_without_failures_does_not_raise(report):
    FaultReport(tuple(report.passed + report.missed)).raise_if_failed()
    assert str(FaultReport(())).startswith("0 faults")
    assert FaultReport(()).to_frame().empty


def test_the_table_has_a_row_for_each_plan(report):
    frame = report.to_frame()
    assert frame.index.tolist() == [0, 1, 2]
    assert frame["outcome"].tolist() == ["passed", "failed", "missed"]
    assert frame["problems"].tolist() == [[], ["same losses", "nothing left"], []]


def test_a_verdict_survives_as_a_line(report):
    for verdict in report.verdicts:
        assert "\n" not in verdict.dumps()
        assert FaultVerdict.loads(verdict.dumps()) == verdict
