"""Fixtures of the tests of training."""

from __future__ import annotations

from collections.abc import Generator

import pytest
import torch


@pytest.fixture
def one_thread() -> Generator[None]:
    """Let torch use one thread: on the sizes of these tests, more are slower."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)
