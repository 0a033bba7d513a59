"""Threads read batches ahead; batches, their order and their errors are those of reading them when they are needed."""

from __future__ import annotations

import itertools
import os
import signal
import sys
import threading
import time

import numpy as np
import pytest
import torch

from viscy_train.config.schema import SamplerConfig
from viscy_train.errors import UserError
from viscy_train.loading.batches import Batch
from viscy_train.loading.data_module import PairDataModule
from viscy_train.loading.datasets import CropDataset
from viscy_train.loading.loader import Workers, make_loader
from viscy_train.loading.read_ahead import ReadAhead
from viscy_train.loading.stall import StallWatch


class Numbers:
    """A data set whose batches take different times; some are invalid."""

    def __init__(self, invalid=()):
        self.invalid, self.read = invalid, []

    def __getitems__(self, number):
        self.read.append(number)
        time.sleep(0.004 if number % 3 == 0 else 0.0)
        if number in self.invalid:
            raise UserError(f"batch {number} is invalid")
        return torch.tensor(number)


def count_readers():
    """Return the number of threads that read."""
    return sum(thread.name.startswith("reader ") for thread in threading.enumerate())


@pytest.fixture(autouse=True)
def no_reader_is_left(wait_until):
    """No thread of an earlier test still reads, and none is left."""
    yield
    wait_until(lambda: count_readers() == 0, "threads are left")


def threads(n=3):
    return Workers(kind="threads", n=n)


def test_batches_are_in_order_in_every_epoch():
    loader = make_loader(Numbers(), range(50), threads())
    for _ in range(2):
        assert [int(batch) for batch in loader] == list(range(50))


@pytest.mark.parametrize("n", [1, 4])
def test_at_most_two_batches_a_thread_are_read_ahead(wait_until, n):
    dataset = Numbers()
    batches = iter(make_loader(dataset, range(100), threads(n)))
    assert count_readers() == 0, "an epoch starts when its first batch is requested"
    for used in (1, 2, 30):
        while int(next(batches)) < used - 1:
            pass
        wait_until(lambda used=used: len(dataset.read) == used + 2 * n, lambda: str(dataset.read))
        time.sleep(0.02)
        assert len(dataset.read) == used + 2 * n
    batches.close()


def test_an_error_is_raised_when_its_batch_is_due():
    batches = iter(make_loader(Numbers(invalid=(4,)), range(50), threads()))
    assert [int(batch) for batch in itertools.islice(batches, 4)] == [0, 1, 2, 3]
    with pytest.raises(UserError, match=r"^batch 4 is invalid$"):
        next(batches)
    assert list(batches) == []


def test_an_error_of_the_composition_is_raised_when_its_batch_is_due():
    def compose():
        yield from range(5)
        raise UserError("no more anchors")

    batches = ReadAhead(Numbers().__getitems__, compose(), 2)
    assert [int(batch) for batch in itertools.islice(batches, 5)] == [0, 1, 2, 3, 4]
    with pytest.raises(UserError, match="no more anchors"):
        next(batches)


def test_a_batch_is_composed_in_the_thread_that_uses_it():
    composed = []

    def compose():
        for number in range(10):
            composed.append(threading.current_thread())
            yield number

    assert len(list(ReadAhead(Numbers().__getitems__, compose(), 2))) == 10
    assert set(composed) == {threading.current_thread()}


def test_threads_end_with_an_epoch_that_ends_early(wait_until):
    dataset = Numbers()
    for batch in make_loader(dataset, range(1000), threads()):
        if int(batch) == 3:
            break
    wait_until(lambda: count_readers() == 0, "threads are left")
    assert len(dataset.read) <= 4 + 6


def test_threads_end_when_the_loader_is_closed(wait_until):
    loader = make_loader(Numbers(), range(1000), threads())
    batches = iter(loader)
    next(batches)
    loader.close()
    wait_until(lambda: count_readers() == 0, "threads are left")
    assert list(batches) == []


def test_loaders_can_be_used_within_each_other():
    inner, outer = make_loader(Numbers(), range(7), threads(2)), make_loader(Numbers(), range(9), threads(2))
    found = [(int(number), sum(int(one) for one in inner)) for number in outer]
    assert found == [(number, 21) for number in range(9)]


def test_a_loader_that_lightning_has_copied_still_has_its_threads():
    """Lightning gives the attributes that are named like parameters to a new loader of the same class."""
    loader = make_loader(Numbers(), range(9), threads(2), StallWatch(60))
    names = {"dataset", "batch_sampler", "collate_fn", "n_threads", "stall_watch"}
    copied = type(loader)(**{name: value for name, value in vars(loader).items() if name in names})
    assert (copied.n_threads, copied.stall_watch) == (2, loader.stall_watch)
    assert [int(batch) for batch in copied] == list(range(9))


@pytest.fixture
def _interrupts():
    """Let SIGINT raise KeyboardInterrupt, also if tests run in the background, where it is ignored."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("_interrupts")
def test_a_wait_can_be_interrupted():
    release = threading.Event()
    batches = iter(make_loader(type("Stuck", (), {"__getitems__": lambda *_: release.wait()})(), range(9), threads()))
    timer = threading.Timer(0.2, os.kill, (os.getpid(), signal.SIGINT))
    timer.start()
    with pytest.raises(KeyboardInterrupt):
        next(batches)
    release.set()


HANGING = """
import sys, threading
from viscy_train.loading import read_ahead

read_ahead._PATIENCE = 0.2
batches = read_ahead.ReadAhead(lambda number: number or threading.Event().wait(), range(-9, 9), 12)
print([next(batches) for _ in range(9)], flush=True)
if sys.argv[1] == "error":
    raise RuntimeError("the end")
"""


@pytest.mark.parametrize(("ending", "exit_code"), [("return", 0), ("error", 1)])
def test_a_process_ends_though_a_read_hangs(run_command, ending, exit_code):
    ended = run_command([sys.executable, "-c", HANGING, ending], exit_code=exit_code, timeout=600)
    assert ended.stdout == f"{list(range(-9, 0))}\n"
    assert ("the end" in ended.stderr) == (ending == "error")
    assert "Fatal" not in ended.stderr


@pytest.mark.parametrize(
    ("batch", "expected"),
    [
        (Batch(np.arange(3), 1, 7), "Waiting for batch 7 of epoch 2, which a thread reads, for "),
        ([3, 4], "Waiting for data, which threads read, for "),
    ],
)
def test_a_slow_batch_is_named(batch, expected):
    lines = []

    class UntilReported:
        def __getitems__(self, _):
            while not lines:
                time.sleep(0.01)
            return torch.zeros(1)

    watch = StallWatch(0.2, lines.append)
    assert len(list(make_loader(UntilReported(), [batch], threads(1), watch))) == 1
    watch.close()
    assert lines[0].startswith(expected)


def test_threads_read_the_same_crops(noise):
    table, _ = noise
    batches = np.random.default_rng(0).permutation(len(table.observations)).reshape(-1, 8).tolist()
    expected = [batch["crops"].finish() for batch in make_loader(CropDataset(table), batches)]
    found = [batch["crops"].finish() for batch in make_loader(CropDataset(table), batches, threads(4))]
    assert len(found) == len(batches)
    assert all(torch.equal(one, other) for one, other in zip(found, expected, strict=True))


def test_a_start_method_of_threads_is_refused(project):
    files = project.parent / "experiments.yaml", project.parent / "anchors.parquet"
    with pytest.raises(UserError, match=r"data\.start_method has an effect only with data\.workers: processes"):
        PairDataModule(*files, crop=16, sampler=SamplerConfig(batch_size=8), start_method="fork")
