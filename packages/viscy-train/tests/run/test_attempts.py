from types import SimpleNamespace

import numpy as np
import pytest

from viscy_train.errors import UserError
from viscy_train.run.attempts import AttemptRecorder, read_attempts
from viscy_train.run.batch_record import batch_fields, record_of_rank
from viscy_train.run.directory import RunDirectory
from viscy_train.run.step_csv import format_line


@pytest.fixture
def run(tmp_path):
    (tmp_path / "run").mkdir()
    return RunDirectory(tmp_path / "run")


def start_attempt(run, step, processes):
    """Start an attempt at a step, and end it."""
    trainer = SimpleNamespace(global_step=step, current_epoch=0, world_size=processes, is_global_zero=True, loggers=[])
    recorder = AttemptRecorder(run)
    recorder.setup(trainer, None, "fit")
    recorder.on_train_start(trainer, None)
    recorder.teardown(trainer, None, "fit")


def test_each_attempt_is_recorded_with_the_steps_of_the_last_one(run):
    start_attempt(run, 0, processes=1)
    record_of_rank(run.batches, 0).rewrite(
        format_line(batch_fields(step, 0, step, 0, [step]).values()) for step in range(7)
    )
    start_attempt(run, 4, processes=2)
    attempts = read_attempts(run)
    assert run.attempts.name == "attempts.csv"
    assert attempts["step"].tolist() == [0, 4]
    assert attempts["processes"].tolist() == [1, 2]
    assert np.isnan(attempts["reached"][0])
    assert attempts["reached"][1] == 7
    assert (attempts["seconds"] >= 0).all()


def test_a_run_without_attempts_has_an_empty_table(run):
    attempts = read_attempts(run)
    assert attempts.empty
    assert attempts.columns.tolist() == ["step", "epoch", "processes", "started", "reached", "seconds"]


def test_attempts_of_an_earlier_version_are_read_and_continued_under_the_present_name(run):
    earlier = run.path / "lives.csv"
    earlier.write_text("step,epoch,processes,started,reached,seconds\n0,0,2,2030-01-01T00:00:00+00:00,,9.5\n")
    assert read_attempts(run)["seconds"].tolist() == [9.5]
    assert earlier.exists(), "reading changes nothing on disk"
    start_attempt(run, 4, processes=1)
    assert read_attempts(run)["step"].tolist() == [0, 4]
    assert [path.name for path in run.path.iterdir()] == ["attempts.csv"]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("step,epoch\n0,0\n", "it must have the columns step, epoch, processes"),
        ("step,epoch,processes,started,reached,seconds\n0,0,,now,,1\n", "it must have the columns .* without missing"),
        ("step,epoch,processes,started,reached,seconds\n0,0,0,now,,1\n", "column 'processes' must be at least 1"),
        ("step,epoch,processes,started,reached,seconds\n0,0,two,now,,1\n", "column 'processes' must be numbers"),
    ],
)
def test_damaged_attempts_are_a_user_error(tmp_path, content, message):
    (tmp_path / "attempts.csv").write_text(content)
    with pytest.raises(UserError, match=rf"attempts\.csv is damaged: {message}"):
        read_attempts(RunDirectory(tmp_path))
