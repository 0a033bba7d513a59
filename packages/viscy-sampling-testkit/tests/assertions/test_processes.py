"""A sampler draws the same batches in processes with another hash seed, process id and time, or the assertion fails."""

import os
import sys
import threading
import time

import pytest

from viscy_sampling_testkit import assert_same_in_other_processes
from viscy_sampling_testkit.assertions import _forks
from viscy_sampling_testkit.assertions._forks import call_in_forks


def make_batches():
    return [[0, 1], [2, 3]]


class FromHash:
    """A class of this module, which other processes cannot import."""

    def __iter__(self):
        yield [0, hash("a string") % 1000]


def test_equal_batches_pass():
    assert_same_in_other_processes(make_batches)
    assert_same_in_other_processes(lambda: [[0, 1]])
    assert_same_in_other_processes(lambda: iter([[len("local")]]), n_epochs=1)


@pytest.mark.slow
def test_other_processes_may_run_in_another_directory(monkeypatch, tmp_path):
    """Then they do not find modules that this process finds in its current directory."""
    monkeypatch.setattr(_forks, "_servers", {})
    monkeypatch.setattr("sys.path", ["", *sys.path])
    with monkeypatch.context() as elsewhere:
        elsewhere.chdir(tmp_path)
        assert_same_in_other_processes(lambda: [[0, 1]])
    assert_same_in_other_processes(make_batches)
    for server in _forks._servers.values():
        server.close()


@pytest.mark.parametrize(
    "make_sampler",
    [
        FromHash,
        lambda: [[0, os.getpid()]],
        lambda: [[0, int(time.time() // 86_400)]],
        lambda: [[int(next(iter({str(number) for number in range(100)})))]],
        lambda: [list(os.environ.get("PYTHONHASHSEED", "").encode() or b"x")],
    ],
    ids=["hash", "process id", "day", "set", "variable"],
)
def test_batches_that_depend_on_the_process_fail(make_sampler, assertion_fails):
    with assertion_fails("must draw the same batches in another process", "first offending batch: 0"):
        assert_same_in_other_processes(make_sampler)


def test_factory_that_cannot_be_pickled_raises():
    lock = threading.Lock()
    with pytest.raises(ValueError, match="it must be possible to pickle the factory, got TypeError"):
        assert_same_in_other_processes(lambda: [[0, lock.locked()]])


def test_factory_that_raises_in_the_other_process_raises():
    own = os.getpid()

    def make_sampler():
        if os.getpid() != own:
            raise KeyError("only here")
        return [[0, 1]]

    with pytest.raises(ValueError, match="possible to make the sampler in another process, got KeyError: 'only here'"):
        assert_same_in_other_processes(make_sampler)


def test_process_that_dies_raises_and_the_next_call_is_answered():
    own = os.getpid()
    with pytest.raises(RuntimeError, match="the process ended without an answer"):
        call_in_forks(lambda: os._exit(3) if os.getpid() != own else None)
    assert call_in_forks(sum, [1, 2]) == [3, 3]


def test_each_call_has_processes_of_its_own():
    first, second = call_in_forks(os.getpid), call_in_forks(os.getpid)
    assert len({os.getpid(), *first, *second}) == 5
