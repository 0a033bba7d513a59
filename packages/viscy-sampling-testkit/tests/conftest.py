"""Fixtures of all tests: contexts in which an assertion must fail, and checks that no process is left behind."""

import multiprocessing
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest
from hypothesis import settings

# Each run tries the same examples, others only on request (`make test-random`). A busy machine takes any time for an
# example; only processes that hang have deadlines.
settings.register_profile("project", deadline=None, derandomize="RANDOM_EXAMPLES" not in os.environ)
settings.load_profile("project")

# Seconds to wait for another process; many times what an idle machine needs, so that a load of 16 is not a problem.
PATIENCE = 600.0


@pytest.fixture
def assertion_fails():
    """Return a context manager in which an assertion must fail, with these patterns in its message in this order."""

    def expect_failure(*patterns):
        return pytest.raises(AssertionError, match="(?s)" + ".*".join(patterns))

    return expect_failure


@pytest.fixture
def patience():
    """Return how many seconds a test may wait for another process."""
    return PATIENCE


@pytest.fixture
def wait_until():
    """Return a function that polls a condition until it is true, and fails if that takes too long."""

    def poll(condition, what):
        ends = time.monotonic() + PATIENCE
        while not condition():
            assert time.monotonic() < ends, f"{what} took longer than {PATIENCE:g} s"
            time.sleep(0.02)

    return poll


@pytest.fixture
def is_running():
    """Return a function that tells whether a process exists and is not a zombie."""

    def check(pid):
        try:
            return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
        except OSError:
            return False

    return check


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """Return a folder for process ids; the temporary files of a call are below it, too."""
    (tmp_path / "temporary").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "temporary"))
    return str(tmp_path)


@pytest.fixture
def nothing_is_left(folder, wait_until, is_running):
    """Return a function that waits for the end of the processes in ``pid*`` files, and returns how many there were."""
    earlier = set(multiprocessing.active_children())  # of tests of other packages

    def check():
        pids = [int(file.read_text()) for file in Path(folder).glob("pid*")]
        wait_until(lambda: not any(map(is_running, pids)), "the end of all processes")
        assert set(multiprocessing.active_children()) <= earlier
        assert list(Path(tempfile.gettempdir()).iterdir()) == []
        return len(pids)

    return check


@pytest.fixture
def run_python():
    """Return a function that runs Python with some arguments and returns its output; a failure shows its error."""

    def run(*arguments, **options):
        command = [sys.executable, *map(str, arguments)]
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=PATIENCE, **options)
        assert done.returncode == 0, f"exit code {done.returncode}, standard error:\n{done.stderr}"
        return done.stdout

    return run
