"""Runs that are killed or stopped and started again, beside one that was not."""

import signal

import numpy as np
import pandas as pd
import pytest

from conftest import write_project
from lives import end, kill, life, wait_for
from viscy_train.cli import EXIT_STOPPED
from viscy_train.folder import RunFolder

pytestmark = pytest.mark.slow
N_KILLS = 20
FIT = ["fit", "--config", "config.yaml", "--ckpt_path", "last"]
# Long enough for kills at random moments: about forty steps an epoch.
CHANGES = {
    "trainer.max_epochs": 4,
    "data.sampler.batch_size": 8,
    "checkpoint.every_n_steps": 2,
    "model.optimizer.schedule": "cosine",
}


def losses(folder):
    return pd.read_csv(RunFolder(folder / "run").metrics).dropna(subset="loss").set_index("step")["loss"]


def batches(folder):
    return RunFolder(folder / "run").read_batches()


def log_lines(folder):
    path = RunFolder(folder / "run").metrics
    return path.read_text().count("\n") if path.exists() else 0


@pytest.fixture(scope="module")
def whole(data_folder, table, tmp_path_factory):
    """Return the folder of a project whose run was not interrupted."""
    folder = tmp_path_factory.mktemp("whole")
    write_project(folder, data_folder, table, **CHANGES)
    with life(folder, FIT) as ranks:
        assert end(ranks) == [0], (folder / "output.txt").read_text()
    return folder


@pytest.mark.parametrize("num_workers", [0, 2])
def test_a_run_killed_at_random_moments_has_the_losses_of_one_that_was_not(
    data_folder, table, tmp_path, whole, num_workers
):
    write_project(tmp_path, data_folder, table, **CHANGES, **{"data.num_workers": num_workers})
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


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGUSR1])
def test_a_run_asked_to_stop_saves_its_last_step(data_folder, table, tmp_path, whole, number):
    # So seldom that the state at the stop can only be that of the stop.
    write_project(tmp_path, data_folder, table, **CHANGES | {"checkpoint.every_n_steps": 1000})
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


def test_a_run_goes_on_with_other_numbers_of_processes(data_folder, table, tmp_path, whole):
    """Two processes, killed; three, asked to stop; one to the end: every batch once, in the order of the sequence."""
    write_project(tmp_path, data_folder, table, **CHANGES | {"trainer.max_epochs": 2})
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
    first = drawn.drop_duplicates(["epoch", "batch", "slot"]) if "slot" in drawn else drawn
    numbers = first[["epoch", "batch"]].drop_duplicates()
    assert len(numbers) == len(numbers.drop_duplicates())
    keys = ["epoch", "batch", "row"]
    pd.testing.assert_frame_equal(
        drawn[keys].sort_values(keys, ignore_index=True), expected[keys].sort_values(keys, ignore_index=True)
    )
