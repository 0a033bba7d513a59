"""Two processes, of which one is stopped: the other says so, and the run goes well after it continues."""

import os
import signal
import threading
import time
from functools import partial
from types import SimpleNamespace

import pytest

from viscy_train.loading.stall import StallWatch
from viscy_train.run.directory import RunDirectory
from viscy_train.training import rank_watch
from viscy_train.training.rank_watch import RankWatch

FIT = ["fit", "--config", "config.yaml", "--trainer.devices", "2", "--trainer.strategy", "ddp"]
CHANGES = {"data.stall_warning_seconds": 2, "data.sampler.batch_size": 8, "trainer.max_epochs": 2}
NO_REPORT = """
import viscy_train.report.write
viscy_train.report.write.evaluate_and_write_page = lambda *_: None
"""


@pytest.mark.parametrize(("world_size", "others"), [(2, "1 other process"), (3, "2 other processes")])
def test_a_process_says_that_it_waits_for_others_to_start(monkeypatch, wait_until, world_size, others):
    lines = []
    monkeypatch.setattr(rank_watch, "StallWatch", partial(StallWatch, report=lines.append))
    watch, trainer = RankWatch(0.1, lambda: False), SimpleNamespace(world_size=world_size)
    watch.wait_for_start(trainer)
    wait_until(lambda: lines, "no line")
    watch.setup(trainer, None, "fit")
    assert lines[0].startswith(f"Waiting for {others} of this run to start for ")
    assert watch._watch._thread is None


def test_a_process_without_others_does_not_wait():
    watch = RankWatch(0.1, lambda: False)
    watch.wait_for_start(SimpleNamespace(world_size=1))
    assert not watch._watch.is_waiting


@pytest.mark.slow
@pytest.mark.parametrize("stopped", [pytest.param(0, marks=pytest.mark.weekly), 1])
def test_a_stopped_process_is_named_by_the_other(make_project, start_viscy_train, tmp_path, stopped):
    make_project(tmp_path, **CHANGES)
    run = RunDirectory(tmp_path / "run")
    with start_viscy_train(FIT, tmp_path, processes=2, before=NO_REPORT) as command:
        command.wait_until(lambda: run.metrics.exists() and run.metrics.read_text().count("\n") > 4)
        pid = command.ranks[stopped].pid
        os.kill(pid, signal.SIGSTOP)
        command.wait_until(lambda: f"Waiting for rank {stopped}" in command.stdout)
        os.kill(pid, signal.SIGCONT)
        command.wait(0)
    lines = [line for line in command.stdout.splitlines() if f"Waiting for rank {stopped}" in line]
    assert all("respond" in line and " at step " in line for line in lines)
    batches = run.read_batches()
    n_batches = batches["batch"].max() + 1
    assert len(batches[["epoch", "batch"]].drop_duplicates()) == 2 * n_batches
    assert (batches.groupby(["epoch", "batch"]).size() == 8).all()


def test_the_thread_of_the_heartbeats_has_ended_when_they_are_closed(monkeypatch):
    """The interpreter must not end while a thread uses the store."""
    exchanging = threading.Event()

    class SlowStore:
        def clone(self):
            return self

        def set(self, key, value):
            exchanging.set()
            time.sleep(0.2)

        def check(self, keys):
            return False

    monkeypatch.setattr(rank_watch.distributed_c10d, "_get_default_store", SlowStore)
    heartbeats = rank_watch.Heartbeats(0, 2, 60.0, lambda: False)
    assert exchanging.wait(600)
    heartbeats.close()
    assert "heartbeats" not in [thread.name for thread in threading.enumerate()]
