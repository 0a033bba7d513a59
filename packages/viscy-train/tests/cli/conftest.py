"""Fixtures of the tests of the command line."""

from __future__ import annotations

from collections.abc import Callable

import pytest


@pytest.fixture
def error_line(capsys: pytest.CaptureFixture[str]) -> Callable[[], str]:
    """A function that returns the only line on standard error, which the command line has written."""

    def read() -> str:
        lines = capsys.readouterr().err.splitlines()
        assert len(lines) == 1, lines
        assert lines[0].startswith("viscy-train: ")
        return lines[0]

    return read
