"""Fixtures of the tests of the command line."""

from __future__ import annotations

from collections.abc import Callable, Generator

import pytest
import torch


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> Generator[None]:
    """Let torch use one thread: on the sizes of these tests, more are slower."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture
def error_line(capsys: pytest.CaptureFixture[str]) -> Callable[[], str]:
    """A function that returns the only line on standard error, which the command line has written."""

    def read() -> str:
        lines = capsys.readouterr().err.splitlines()
        assert len(lines) == 1, lines
        assert lines[0].startswith("viscy-train: ")
        return lines[0]

    return read
