"""Trials run on any number of processes with the same results, and a study that was ended is finished later."""

import importlib
import multiprocessing
import sys
from functools import partial

import pytest

from viscy_train.errors import UserError
from viscy_train.study import schedule
from viscy_train.study.arms import ARMS
from viscy_train.study.cases import Case
from viscy_train.study.schedule import run_study
from viscy_train.study.study_folder import StudyFolder
from viscy_train.study.trial import make_trials

# What spawned processes call must be in a module that they can import, wherever pytest was started.
MAKERS = """
import os
import signal
import time

from viscy_train.errors import UserError
from viscy_train.study.world_project import write_world
from viscy_train.study.worlds import World

WORLD = World(n_tracks=30, rare_share=0.3)


def write(folder, seed):
    write_world(WORLD, seed, folder)


def make_and_kill_once(folder, seed):
    marker = folder.parent / "killed"
    if not marker.exists():
        marker.touch()
        os.kill(os.getpid(), signal.SIGKILL)
    write_world(WORLD, seed, folder)


def fail_or_wait(folder, seed):
    if seed == 0:
        raise UserError("the world cannot be written")
    time.sleep(600)
"""


@pytest.fixture(scope="module", autouse=True)
def makers(tmp_path_factory):
    """A module of functions that write a world, kill their process once, or fail."""
    folder = tmp_path_factory.mktemp("makers")
    (folder / "study_makers.py").write_text(MAKERS)
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(folder)
        yield importlib.import_module("study_makers")
    del sys.modules["study_makers"]


def trials_in(folder, make, seeds=(0, 1)):
    """Return the trials of a case for each seed with two arms."""
    trials = []
    for seed in seeds:
        world = folder / str(seed)
        made = {"config": world / "config.yaml", "crops": world / "crops.npy", "make": partial(make, world, seed)}
        trials += make_trials([Case(world="base", fold="held out", **made)], ARMS[:2], [seed], 3)
    return trials


@pytest.fixture(scope="module")
def finished(tmp_path_factory, makers):
    """The runs of a study that ran in this process."""
    path = tmp_path_factory.mktemp("study")
    folder, trials = StudyFolder(path / "out", {}), trials_in(path, makers.write)
    run_study(trials, folder)
    return folder.runs(trials)


def test_a_study_says_how_many_runs_are_finished_and_runs_what_is_missing(
    tmp_path, capsys, monkeypatch, makers, finished
):
    trials = trials_in(tmp_path, makers.write, seeds=(0,))
    folder = StudyFolder(tmp_path / "out", {})
    run_study(trials[:2], folder)
    assert capsys.readouterr().out.splitlines()[-1] == "2 of 2 runs finished"
    runs = []
    run = schedule._run
    monkeypatch.setattr(schedule, "_run", lambda trial, accelerator: (runs.append(trial), run(trial, accelerator))[1])
    again = StudyFolder(tmp_path / "out", {})
    run_study(trials, again)
    assert runs == trials[2:]
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "2 of 4 runs were finished before; 2 are missing"
    assert lines[-1] == "4 of 4 runs finished"
    assert again.runs(trials).to_csv() == finished[:4].to_csv()
    run_study(trials, again)
    assert runs == trials[2:]


def test_a_study_that_is_interrupted_keeps_what_is_finished(tmp_path, monkeypatch, makers, finished):
    trials = trials_in(tmp_path, makers.write, seeds=(0,))
    run = schedule._run

    def interrupt(trial, accelerator):
        if trial is trials[2]:
            raise KeyboardInterrupt
        return run(trial, accelerator)

    monkeypatch.setattr(schedule, "_run", interrupt)
    with pytest.raises(KeyboardInterrupt):
        run_study(trials, StudyFolder(tmp_path / "out", {}))
    monkeypatch.undo()
    folder = StudyFolder(tmp_path / "out", {})
    assert [trial in folder for trial in trials] == [True, True, False, False]
    run_study(trials, folder)
    assert folder.runs(trials).to_csv() == finished[:4].to_csv()


@pytest.mark.parametrize(("seconds", "text"), [(12, "12 s"), (89.6, "90 s"), (90, "2 min"), (3600, "60 min")])
def test_a_duration_is_in_words(seconds, text):
    assert schedule._duration(seconds) == text


@pytest.mark.weekly
@pytest.mark.slow
def test_a_killed_process_is_an_error_in_one_line_and_a_rerun_gives_the_same_runs(tmp_path, makers, finished):
    trials = trials_in(tmp_path, makers.make_and_kill_once)
    with pytest.raises(
        UserError, match=r"a process of `viscy-train study` ended unexpectedly, .* fewer --processes"
    ) as error:
        run_study(trials, StudyFolder(tmp_path / "out", {}), processes=2)
    assert "\n" not in str(error.value)
    folder = StudyFolder(tmp_path / "out", {})
    run_study(trials, folder, processes=2)
    assert folder.runs(trials).to_csv() == finished.to_csv()


@pytest.mark.slow
def test_an_error_in_a_process_ends_the_others(tmp_path, makers):
    before = set(multiprocessing.active_children())
    with pytest.raises(UserError, match="the world cannot be written"):
        run_study(trials_in(tmp_path, makers.fail_or_wait), StudyFolder(tmp_path / "out", {}), processes=2)
    assert set(multiprocessing.active_children()) <= before
