"""Fixtures that several test modules use; those that are functions are named for what they do."""

import functools
import itertools
import logging
import os
import signal
import socket
import subprocess
import sys

import pytest
from hypothesis import settings

from viscy_data import FlexibleBatchSampler
from viscy_sampling_testkit import spawn_ranks

# Each run tries the same examples, others only on request (`make test-random`). A busy machine takes any time for an
# example; only processes that hang have deadlines.
settings.register_profile("project", deadline=None, derandomize="RANDOM_EXAMPLES" not in os.environ)
settings.load_profile("project")

# Seconds that only a process that hangs takes; the tests need seconds, and a few minutes under heavy load.
DEADLINE = 1800.0


@pytest.fixture
def draw_batches():
    """Draw the batches of the first epoch, or `n_batches` of as many epochs as needed."""

    def draw_batches(table, batch_size=32, n_batches=None, **options):
        sampler = FlexibleBatchSampler(table, batch_size, **options)
        batches = itertools.chain.from_iterable(sampler for _ in itertools.count())
        return list(itertools.islice(batches, n_batches or len(sampler)))

    return draw_batches


@pytest.fixture
def collect_warnings(caplog):
    """Return the warnings that are logged while a sampler is constructed with the given arguments."""

    def collect_warnings(*args, **options):
        caplog.clear()
        with caplog.at_level(logging.WARNING, logger="viscy_data.sampler"):
            FlexibleBatchSampler(*args, **options)
        return caplog.messages

    return collect_warnings


@pytest.fixture(scope="session")
def run_on_ranks():
    """Call a function on real ranks; only ranks that hang reach the deadline, however busy the machine."""
    return functools.partial(spawn_ranks, deadline=DEADLINE)


@pytest.fixture(scope="session")
def run_python():
    """Run Python in a child process and return its output; the message of a failure shows its standard error."""

    def run_python(*arguments, **environment):
        command = [sys.executable, *map(str, arguments)]
        with subprocess.Popen(
            command,
            env=os.environ | environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,  # its own process group, so that the processes it has started end with it
        ) as child:
            try:
                output, errors = child.communicate(timeout=DEADLINE)
                outcome = f"exit code {child.returncode}"
            except subprocess.TimeoutExpired:
                os.killpg(child.pid, signal.SIGKILL)
                output, errors = child.communicate()
                outcome = f"no result within {DEADLINE:g} s"
        assert outcome == "exit code 0", f"{' '.join(command)}: {outcome}\n{output}\n{errors}"
        return output

    return run_python


@pytest.fixture(scope="session")
def loopback():
    """Return the name of the loopback interface, through which processes on one machine connect."""
    return next(name for _, name in socket.if_nameindex() if name in ("lo", "lo0"))
