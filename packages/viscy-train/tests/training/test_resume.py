"""Runs that are killed or stopped and then resumed, compared with a run that was not interrupted."""

import contextlib
import signal
import subprocess
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from viscy_train.exit_codes import EXIT_STOPPED
from viscy_train.run.directory import RunDirectory
from viscy_train.run.metrics_csv import LEARNING_RATE, LOSS, read_log

pytestmark = pytest.mark.slow
FIT = ["fit", "--config", "config.yaml", "--ckpt_path", "last"]
# Long enough for kills at random moments: about forty steps per epoch.
N_EPOCHS = 3
CHANGES = {
    "trainer.max_epochs": N_EPOCHS,
    "data.sampler.batch_size": 8,
    "checkpoint.every_n_steps": 2,
    "model.optimizer.schedule": "cosine",
    "model.optimizer.warmup_fraction": 0.0,
}
# So rarely that only the stop itself can have saved the state.
RARELY = {"checkpoint.every_n_steps": 1000}
# The report of a run is not tested here, and takes longer than its training.
NO_REPORT = """
import viscy_train.report.write
viscy_train.report.write.evaluate_and_write_page = lambda *_: None
"""
DIE_IN_VALIDATION = """
from viscy_train.training.callbacks import LossProgress
LossProgress.on_validation_end = lambda *_: os._exit(9)
"""


@pytest.fixture
def start_fit(start_viscy_train):
    """A context that trains the project in a directory, without a report."""

    def start(directory, *options, processes=1, before=""):
        return start_viscy_train([*FIT, *options], directory, processes=processes, before=NO_REPORT + before)

    return start


def read_losses(directory):
    return read_log(RunDirectory(directory / "run").metrics).dropna(subset=LOSS).set_index("step")[LOSS]


def read_batches(directory):
    return RunDirectory(directory / "run").read_batches()


def read_learning_rates(directory, n_epochs):
    """Return the learning rate of each step, and the share of the run's batches before it."""
    batches = read_batches(directory)
    first = batches.groupby("step")[["epoch", "batch"]].min()
    done = (first["epoch"] + first["batch"] / (batches["batch"].max() + 1)) / n_epochs
    log = read_log(RunDirectory(directory / "run").metrics).dropna(subset=LOSS).set_index("step")
    return pd.DataFrame({"done": done, "rate": log[LEARNING_RATE]}).dropna()


def count_log_lines(directory):
    path = RunDirectory(directory / "run").metrics
    return path.read_text().count("\n") if path.exists() else 0


def assert_same_run(directory, expected):
    pd.testing.assert_series_equal(read_losses(directory), read_losses(expected), check_exact=True)
    pd.testing.assert_frame_equal(read_batches(directory), read_batches(expected))


def descendants_of(pid):
    """Return the processes that a process has started, and those that they have started."""
    listed = subprocess.run(["ps", "-e", "-o", "pid=,ppid="], capture_output=True, text=True, check=True).stdout
    children = [int(child) for child, parent in map(str.split, listed.splitlines()) if int(parent) == pid]
    return children + [grandchild for child in children for grandchild in descendants_of(child)]


def is_running(pid):
    """Return whether a process runs; a zombie does not."""
    with contextlib.suppress(FileNotFoundError, ProcessLookupError):  # the latter if it ends while its file is read
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    return False


@pytest.fixture(scope="module")
def uninterrupted(make_project, run_viscy_train, tmp_path_factory):
    """Return the directory of a project whose run was not interrupted."""
    directory = tmp_path_factory.mktemp("uninterrupted")
    make_project(directory, **CHANGES)
    run_viscy_train(FIT, directory, before=NO_REPORT)
    return directory


@pytest.mark.parametrize(("num_workers", "n_kills"), [(0, 5), pytest.param(2, 2, marks=pytest.mark.weekly)])
def test_a_run_killed_at_random_moments_has_the_losses_of_an_uninterrupted_run(
    make_project, start_fit, tmp_path, uninterrupted, num_workers, n_kills
):
    make_project(tmp_path, **CHANGES, **{"data.num_workers": num_workers})
    generator = np.random.default_rng(num_workers)
    n_steps = len(read_losses(uninterrupted))
    for _ in range(n_kills):
        more = generator.integers(1, 2 * n_steps // n_kills)
        target = count_log_lines(tmp_path) + more
        with start_fit(tmp_path) as command:
            # A run that reaches its end before has no lines to add.
            command.wait_until(lambda target=target: count_log_lines(tmp_path) >= target or not command.is_running())
            command.kill()
    with start_fit(tmp_path) as command:
        command.wait(0)
    assert_same_run(tmp_path, uninterrupted)


@pytest.mark.weekly
def test_a_run_that_ends_after_the_last_batch_of_an_epoch_resumes_with_the_next_epoch(
    make_project, start_fit, tmp_path, uninterrupted
):
    """The checkpoint before a validation is at the start of the next epoch."""
    make_project(tmp_path, **CHANGES)
    with start_fit(tmp_path, before=DIE_IN_VALIDATION) as command:
        command.wait(9)
    state = torch.load(RunDirectory(tmp_path / "run").last_checkpoint, weights_only=True)["PairDataModule"]
    assert (state["epoch"], state["position"]) == (1, 0)
    with start_fit(tmp_path) as command:
        command.wait(0)
    assert_same_run(tmp_path, uninterrupted)


# Besides workers, which import torch unless they are forked, spawn starts a resource tracker, and a fork server is one
# more process.
@pytest.mark.parametrize(
    ("start_method", "n_workers", "n_processes"),
    [
        ("fork", 2, 2),
        *(pytest.param(*one, marks=pytest.mark.weekly) for one in (("spawn", 1, 2), ("forkserver", 1, 3))),
    ],
)
def test_a_killed_run_leaves_no_worker_behind(
    make_project, start_fit, wait_until, tmp_path, start_method, n_workers, n_processes
):
    make_project(
        tmp_path,
        **CHANGES | {"data.num_workers": n_workers, "data.workers": "processes", "data.start_method": start_method},
    )
    with start_fit(tmp_path) as command:
        pid = command.ranks[0].pid
        command.wait_until(lambda: count_log_lines(tmp_path) > 2 and len(descendants_of(pid)) >= n_processes)
        workers = descendants_of(pid)
        command.kill()
    wait_until(lambda: not any(is_running(worker) for worker in workers), "processes are left")


@pytest.mark.parametrize(
    "number",
    [signal.SIGTERM, *(pytest.param(one, marks=pytest.mark.weekly) for one in (signal.SIGINT, signal.SIGUSR1))],
)
def test_a_run_stopped_on_request_saves_its_last_step(make_project, start_fit, tmp_path, uninterrupted, number):
    make_project(tmp_path, **CHANGES | RARELY, **{"data.num_workers": 2})
    with start_fit(tmp_path) as command:
        command.wait_until(lambda: count_log_lines(tmp_path) > 7)
        command.send(number)
        command.wait(EXIT_STOPPED)
    step = len(read_losses(tmp_path))
    line = f"viscy-train: stopped on request after step {step}; rerun with --checkpoint last to resume"
    assert command.stderr.splitlines() == [line]
    assert RunDirectory(tmp_path / "run").last_checkpoint.exists()
    if number == signal.SIGTERM:
        with start_fit(tmp_path) as command:
            command.wait(0)
        pd.testing.assert_series_equal(read_losses(tmp_path), read_losses(uninterrupted), check_exact=True)


@pytest.mark.weekly
def test_a_run_that_accumulates_gradients_resumes_with_complete_steps(make_project, start_fit, tmp_path):
    """Four batches per step, of which an epoch has no whole number."""
    expected, stopped = tmp_path / "uninterrupted", tmp_path / "stopped"
    for directory in (expected, stopped):
        make_project(directory, **CHANGES | {"trainer.accumulate_grad_batches": 4, "trainer.max_epochs": 2})
    with start_fit(expected) as command:
        command.wait(0)
    assert (read_batches(expected)["batch"].max() + 1) % 4
    with start_fit(stopped) as command:
        command.wait_until(lambda: count_log_lines(stopped) > 7)
        command.send(signal.SIGTERM)
        command.wait(EXIT_STOPPED)
    with start_fit(stopped) as command:
        command.wait(0)
    assert_same_run(stopped, expected)


def test_a_run_resumes_on_other_numbers_of_processes(make_project, start_fit, tmp_path, uninterrupted):
    """Two processes, killed; three, stopped; one to the end: every batch once, in the order of the global sequence."""
    make_project(tmp_path, **CHANGES | {"trainer.max_epochs": 2})
    with start_fit(tmp_path, "--trainer.devices", "2", "--trainer.strategy", "ddp", processes=2) as command:
        command.wait_until(lambda: count_log_lines(tmp_path) > 5)
        command.kill()
    n_lines = count_log_lines(tmp_path)
    with start_fit(tmp_path, "--trainer.devices", "3", "--trainer.strategy", "ddp", processes=3) as command:
        command.wait_until(lambda: count_log_lines(tmp_path) > n_lines + 4)
        # One of them gets the signal; all of them stop.
        command.send(signal.SIGTERM, slice(1, 2))
        command.wait(EXIT_STOPPED, 0, 0)
    with start_fit(tmp_path) as command:
        command.wait(0)
    keys = ["epoch", "batch", "row"]
    batches, expected = read_batches(tmp_path), read_batches(uninterrupted).query("epoch < 2")
    pd.testing.assert_frame_equal(
        batches[keys].sort_values(keys, ignore_index=True), expected[keys].sort_values(keys, ignore_index=True)
    )
    # The learning rate depends on the batches, not on the steps of so many processes, to within a step.
    resumed, expected = read_learning_rates(tmp_path, n_epochs=2).iloc[1:], read_learning_rates(uninterrupted, N_EPOCHS)
    rates = np.interp(resumed["done"], expected["done"], expected["rate"])
    assert np.abs(resumed["rate"] - rates).max() < 0.04 * expected["rate"].max()
    assert resumed["rate"].iloc[-1] < 0.01 * expected["rate"].max()


@pytest.mark.weekly
def test_limited_epochs_resume_on_the_same_and_on_another_number_of_processes(make_project, start_fit, tmp_path):
    """After three of four steps on two processes, an epoch has two batches left, for any number of processes."""
    limits = {"trainer.limit_train_batches": 4, "trainer.max_epochs": 2, "model.optimizer.schedule": "constant"}
    on_two = ["--trainer.devices", "2", "--trainer.strategy", "ddp"]
    runs = {name: tmp_path / name for name in ("expected", "on_two", "on_one")}
    for name, directory in runs.items():
        make_project(directory, **CHANGES | limits)
        for options in [[]] if name == "expected" else [["--trainer.max_steps", "3"]]:
            with start_fit(directory, *on_two, *options, processes=2) as command:
                command.wait(0)
    for name, options in (("on_two", on_two), ("on_one", [])):
        with start_fit(runs[name], *options, processes=1 + len(options) // 4) as command:
            command.wait(0)
    assert_same_run(runs["on_two"], runs["expected"])
    batches = read_batches(runs["on_one"])[["step", "epoch", "batch"]].drop_duplicates()
    assert batches["batch"].tolist() == [*range(8), *range(4)]
    assert batches["step"].tolist() == [0, 0, 1, 1, 2, 2, 3, 4, 5, 6, 7, 8]
    assert "limit_train_batches 4 counts batches of each of 1 processes (was 2)" in command.stdout
