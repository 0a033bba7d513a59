"""A wait that lasts long is reported, with what is waited for."""

import itertools
import os
import signal
import time
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from viscy_train.loading import stall
from viscy_train.loading.loader import Workers, make_loader
from viscy_train.loading.stall import StallWatch, is_stopped

FORKED = Workers(kind="processes", n=2, start_method="fork")


class Squares:
    """A data set that takes a moment for each batch."""

    def __getitems__(self, numbers):
        time.sleep(0.01)
        return torch.tensor(numbers) ** 2


@pytest.fixture
def make_watch():
    """A function that makes a watch of a fifth of a second, and returns it with the lines that it will report."""
    watches = []

    def make(report):
        watches.append(StallWatch(0.2, report))
        return watches[-1]

    yield make
    for watch in watches:
        watch.close()


# Python warns about threads in a parent that forks.
@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_a_stopped_worker_is_named_and_the_batches_are_right_after_it_continues(make_watch, wait_until):
    lines = []
    loader: Any = make_loader(Squares(), [[number] for number in range(40)], FORKED, make_watch(lines.append))
    batches = iter(loader)
    first = list(itertools.islice(batches, 5))
    pids = [worker.pid for worker in loader._iterator._workers]

    def resume_after_two_lines(line):
        lines.append(line)
        if len(lines) == 2:
            for pid in pids:
                os.kill(pid, signal.SIGCONT)

    loader.stall_watch = make_watch(resume_after_two_lines)
    for pid in pids:
        os.kill(pid, signal.SIGSTOP)
    wait_until(lambda: all(map(is_stopped, pids)), "the workers did not stop")
    rest = list(batches)
    assert [int(batch) for batch in first + rest] == [number**2 for number in range(40)]
    named = [f"Waiting for data worker {worker} (process {pid}, which is stopped;" for worker, pid in enumerate(pids)]
    assert len(lines) >= 2
    assert all(line.startswith(tuple(named)) and line.endswith(" s") for line in lines)


def test_a_slow_read_of_the_process_itself_is_reported(make_watch):
    lines = []

    class UntilReported:
        def __getitems__(self, _):
            while not lines:
                time.sleep(0.01)
            return torch.zeros(1)

    assert len(list(make_loader(UntilReported(), [[0]], Workers(), make_watch(lines.append)))) == 1
    assert lines[0].startswith("Waiting for data for ")


def test_a_wait_is_reported_again_each_time_it_has_lasted_twice_as_long(make_watch, wait_until, monkeypatch):
    seconds, lines = itertools.count(), []
    monkeypatch.setattr(stall, "time", SimpleNamespace(monotonic=lambda: next(seconds)))
    with make_watch(lines.append).waiting(lambda: "nothing"):
        wait_until(lambda: len(lines) >= 4, "no lines")
    assert lines[:4] == [f"Waiting for nothing for {lasted} s" for lasted in (1, 2, 4, 8)]


def test_nothing_is_reported_when_there_is_nothing_to_say(make_watch, wait_until):
    asked, lines = [], []
    with make_watch(lines.append).waiting(lambda: asked.append(1)):
        wait_until(lambda: len(asked) > 2, "never asked")
    assert lines == []
