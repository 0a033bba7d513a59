"""Two processes, of which one is stopped: the other says so, and the run goes well after it continues."""

import os
import signal

import pytest

from viscy_train.run.directory import RunDirectory

pytestmark = pytest.mark.slow
FIT = ["fit", "--config", "config.yaml", "--trainer.devices", "2", "--trainer.strategy", "ddp"]
CHANGES = {"data.stall_warning_seconds": 2, "data.sampler.batch_size": 8, "trainer.max_epochs": 2}
NO_REPORT = """
import viscy_train.report.write
viscy_train.report.write.evaluate_and_write_page = lambda *_: None
"""


@pytest.mark.parametrize("stopped", [0, 1])
def test_a_stopped_process_is_named_by_the_other(make_project, start_viscy_train, tmp_path, stopped):
    make_project(tmp_path, **CHANGES)
    run = RunDirectory(tmp_path / "run")
    with start_viscy_train(FIT, tmp_path, processes=2, before=NO_REPORT) as command:
        command.wait_until(lambda: run.metrics.exists() and run.metrics.read_text().count("\n") > 4)
        pid = command.ranks[stopped].pid
        os.kill(pid, signal.SIGSTOP)
        command.wait_until(lambda: f"Waiting for rank {stopped} (process {pid} on " in command.stdout)
        os.kill(pid, signal.SIGCONT)
        command.wait(0)
    assert ", which does not respond, at step " in command.stdout
    batches = run.read_batches()
    n_batches = batches["batch"].max() + 1
    assert len(batches[["epoch", "batch"]].drop_duplicates()) == 2 * n_batches
    assert (batches.groupby(["epoch", "batch"]).size() == 8).all()
