"""Runs that are killed or stopped and started again, beside one that was not."""

import contextlib
import multiprocessing
import os
import signal
import socket
import subprocess
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from viscy_train.exit_codes import EXIT_STOPPED
from viscy_train.run.directory import RunDirectory

pytestmark = pytest.mark.slow
N_KILLS = 20
FIT = ["fit", "--config", "config.yaml", "--ckpt_path", "last"]
# Long enough for kills at random moments: about forty steps an epoch.
CHANGES = {
    "trainer.max_epochs": 4,
    "data.sampler.batch_size": 8,
    "checkpoint.every_n_steps": 2,
    "model.optimizer.schedule": "cosine",
    "model.optimizer.warmup_fraction": 0.0,
}

_DEADLINE = 120.0
# Lightning takes seconds to load: once, in a server that the processes are forked from.
_SERVER = multiprocessing.get_context("forkserver")
_SERVER.set_forkserver_preload(["viscy_train.cli.commands", "viscy_train.training.fit", "viscy_train.report.run_page"])
_CODE = """
import os, sys
os.environ.update({environment!r})
os.chdir({folder!r})
sys.stdout = sys.stderr = open({output!r}, "a", buffering=1)
os.dup2(sys.stderr.fileno(), 2)
from viscy_train.cli.entry_point import main
{before}
sys.exit(main({arguments!r}))
"""
DIE_IN_VALIDATION = """
from viscy_train.training.callbacks import LossProgress
LossProgress.on_validation_end = lambda *_: os._exit(9)
"""


@contextlib.contextmanager
def life(folder, arguments, processes=1, before=""):
    """Start the processes of a run in a folder; none is left at the end.

    What they print goes to ``output.txt`` in the folder. `before` is code that they run first.
    """
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    ranks = []
    for rank in range(processes):
        environment = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "NODE_RANK": "0", "OMP_NUM_THREADS": "1"}
        if processes > 1:
            environment |= {"LOCAL_RANK": str(rank), "WORLD_SIZE": str(processes)}
        code = _CODE.format(
            environment=environment,
            folder=str(folder),
            output=str(folder / "output.txt"),
            before=before,
            arguments=arguments,
        )
        ranks.append(_SERVER.Process(target=exec, args=(code,)))
    try:
        for process in ranks:
            process.start()
        yield ranks
    finally:
        for process in ranks:
            if process.is_alive():
                process.kill()
            process.join()


def end(ranks):
    """Wait for the processes to end by themselves; return their exit codes."""
    deadline = time.monotonic() + _DEADLINE
    for process in ranks:
        process.join(max(0.0, deadline - time.monotonic()))
        assert process.exitcode is not None, "a process did not end in time"
    return [process.exitcode for process in ranks]


def wait_for(holds, ranks):
    """Wait until something holds, or the processes have ended."""
    deadline = time.monotonic() + _DEADLINE
    while not holds() and any(process.is_alive() for process in ranks):
        assert time.monotonic() < deadline, "it did not come about in time"
        time.sleep(0.005)


def descendants_of(pid):
    """Return the processes that a process has started, and those that they have."""
    listed = subprocess.run(["ps", "-e", "-o", "pid=,ppid="], capture_output=True, text=True, check=True).stdout
    found = [int(child) for child, parent in map(str.split, listed.splitlines()) if int(parent) == pid]
    return found + [grandchild for child in found for grandchild in descendants_of(child)]


def is_running(pid):
    """Return whether a process runs; one that has ended and was not waited for does not."""
    with contextlib.suppress(FileNotFoundError):
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    return False


def kill(ranks, number=signal.SIGKILL):
    """Send all of them a signal."""
    for process in ranks:
        with contextlib.suppress(ProcessLookupError):
            os.kill(process.pid, number)


def losses(folder):
    return pd.read_csv(RunDirectory(folder / "run").metrics).dropna(subset="loss").set_index("step")["loss"]


def batches(folder):
    return RunDirectory(folder / "run").read_batches()


def rates(folder, n_epochs):
    """Return the learning rate of each step, and the share of the run's batches that were behind it."""
    drawn = batches(folder).groupby("step")[["epoch", "batch"]].min()
    n_batches = batches(folder)["batch"].max() + 1
    behind = (drawn["epoch"] + drawn["batch"] / n_batches) / n_epochs
    log = pd.read_csv(RunDirectory(folder / "run").metrics).dropna(subset="loss").set_index("step")
    return pd.DataFrame({"behind": behind, "rate": log["learning rate"]}).dropna()


def log_lines(folder):
    path = RunDirectory(folder / "run").metrics
    return path.read_text().count("\n") if path.exists() else 0


@pytest.fixture(scope="module")
def whole(make_project, tmp_path_factory):
    """Return the folder of a project whose run was not interrupted."""
    folder = tmp_path_factory.mktemp("whole")
    make_project(folder, **CHANGES)
    with life(folder, FIT) as ranks:
        assert end(ranks) == [0], (folder / "output.txt").read_text()
    return folder


@pytest.mark.parametrize("num_workers", [0, 2])
def test_a_run_killed_at_random_moments_has_the_losses_of_one_that_was_not(make_project, tmp_path, whole, num_workers):
    make_project(tmp_path, **CHANGES, **{"data.num_workers": num_workers})
    generator = np.random.default_rng(num_workers)
    n_killed = 0
    n_kills = N_KILLS if num_workers == 0 else 4
    n_steps = len(losses(whole))
    while True:
        with life(tmp_path, FIT) as ranks:
            if n_killed == n_kills:
                assert end(ranks) == [0], (tmp_path / "output.txt").read_text()
                break
            before = log_lines(tmp_path)
            some = generator.integers(1, 2 * n_steps // n_kills)
            wait_for(lambda before=before, some=some: log_lines(tmp_path) >= before + some, ranks)
            kill(ranks)
            end(ranks)
            n_killed += 1
    pd.testing.assert_series_equal(losses(tmp_path), losses(whole), check_exact=True)
    pd.testing.assert_frame_equal(batches(tmp_path), batches(whole))


def test_a_run_that_ends_after_the_last_batch_of_an_epoch_goes_on_with_the_next(make_project, tmp_path, whole):
    """In a validation, whose checkpoint has all batches of the epoch behind it but not the epoch."""
    make_project(tmp_path, **CHANGES)
    with life(tmp_path, FIT, before=DIE_IN_VALIDATION) as ranks:
        assert end(ranks) == [9]
    state = torch.load(RunDirectory(tmp_path / "run").last_checkpoint, weights_only=True)["PairDataModule"]
    assert (state["epoch"], state["position"]) == (0, batches(whole)["batch"].max() + 1)
    with life(tmp_path, FIT) as ranks:
        assert end(ranks) == [0], (tmp_path / "output.txt").read_text()
    pd.testing.assert_series_equal(losses(tmp_path), losses(whole), check_exact=True)
    pd.testing.assert_frame_equal(batches(tmp_path), batches(whole))


@pytest.mark.parametrize("start_method", ["fork", "spawn", "forkserver"])
def test_a_killed_run_leaves_no_worker_behind(make_project, tmp_path, start_method):
    make_project(tmp_path, **CHANGES | {"data.num_workers": 2, "data.start_method": start_method})
    with life(tmp_path, FIT) as ranks:
        wait_for(lambda: log_lines(tmp_path) > 2, ranks)
        workers = descendants_of(ranks[0].pid)
        kill(ranks)
        end(ranks)
    assert len(workers) >= 2
    deadline = time.monotonic() + 30
    while left := [pid for pid in workers if is_running(pid)]:
        assert time.monotonic() < deadline, left
        time.sleep(0.1)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGUSR1])
def test_a_run_asked_to_stop_saves_its_last_step(make_project, tmp_path, whole, number):
    # So seldom that the state at the stop can only be that of the stop.
    make_project(tmp_path, **CHANGES | {"checkpoint.every_n_steps": 1000})
    with life(tmp_path, FIT) as ranks:
        wait_for(lambda: log_lines(tmp_path) > 7, ranks)
        kill(ranks, number)
        assert end(ranks) == [EXIT_STOPPED]
    reached = len(losses(tmp_path))
    text = (tmp_path / "output.txt").read_text()
    assert f"stopped as asked after step {reached}; the same command with --ckpt_path last goes on" in text
    assert "Traceback" not in text
    with life(tmp_path, FIT) as ranks:
        assert end(ranks) == [0], text
    pd.testing.assert_series_equal(losses(tmp_path), losses(whole), check_exact=True)


def test_a_run_that_accumulates_gradients_goes_on_with_whole_steps(make_project, tmp_path):
    """Four batches a step, of which an epoch has no whole number: one run stopped, beside one that was not."""
    changes = CHANGES | {"trainer.accumulate_grad_batches": 4, "trainer.max_epochs": 2}
    whole, stopped = tmp_path / "whole", tmp_path / "stopped"
    for folder in (whole, stopped):
        make_project(folder, **changes)
    with life(whole, FIT) as ranks:
        assert end(ranks) == [0], (whole / "output.txt").read_text()
    assert (batches(whole)["batch"].max() + 1) % 4
    with life(stopped, FIT) as ranks:
        wait_for(lambda: log_lines(stopped) > 7, ranks)
        kill(ranks, signal.SIGTERM)
        assert end(ranks) == [EXIT_STOPPED], (stopped / "output.txt").read_text()
    with life(stopped, FIT) as ranks:
        assert end(ranks) == [0], (stopped / "output.txt").read_text()
    pd.testing.assert_series_equal(losses(stopped), losses(whole), check_exact=True)
    pd.testing.assert_frame_equal(batches(stopped), batches(whole))


def test_a_run_goes_on_with_other_numbers_of_processes(make_project, tmp_path, whole):
    """Two processes, killed; three, asked to stop; one to the end: every batch once, in the order of the sequence."""
    make_project(tmp_path, **CHANGES | {"trainer.max_epochs": 2})
    lives = [(2, signal.SIGKILL), (3, signal.SIGTERM), (1, None)]
    for processes, number in lives:
        options = ["--trainer.devices", str(processes), *(["--trainer.strategy", "ddp"] if processes > 1 else [])]
        with life(tmp_path, [*FIT, *options], processes) as ranks:
            if number is not None:
                before = log_lines(tmp_path)
                wait_for(lambda before=before: log_lines(tmp_path) > before + 4, ranks)
                # One of them is asked; all of them stop. Killed ones are gone before the others notice.
                kill(ranks if number == signal.SIGKILL else ranks[1:2], number)
            codes = end(ranks)
            if number != signal.SIGKILL:
                assert codes == ([0] if number is None else [EXIT_STOPPED] + 2 * [0]), (
                    tmp_path / "output.txt"
                ).read_text()
    drawn = batches(tmp_path)
    expected = batches(whole).query("epoch < 2")
    keys = ["epoch", "batch", "row"]
    pd.testing.assert_frame_equal(
        drawn[keys].sort_values(keys, ignore_index=True), expected[keys].sort_values(keys, ignore_index=True)
    )
    # The learning rate follows the batches, not the steps of so many processes, to within a step.
    here, there = rates(tmp_path, n_epochs=2).iloc[1:], rates(whole, n_epochs=4)
    asked = np.interp(here["behind"], there["behind"], there["rate"])
    assert np.abs(here["rate"] - asked).max() < 0.04 * there["rate"].max()
    assert here["rate"].iloc[-1] < 0.01 * there["rate"].max()
