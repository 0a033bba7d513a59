"""A study is continued in its folder if its settings are the same, whatever ended it."""

import json
from pathlib import Path

import pytest

from viscy_train.errors import UserError
from viscy_train.study.arms import ARMS
from viscy_train.study.cases import Case
from viscy_train.study.study_folder import StudyFolder
from viscy_train.study.trial import Result, make_trials

SETTINGS = {"steps": 5, "arms": {"plain": {"leaky": 0.0}, "time": {}}}
TRIALS = make_trials([Case(world="base", fold="day1", config=Path("config.yaml"))], ARMS[:2], [0, 1], 5)


def result_of(trial, **measures):
    world, fold, seed, arm = trial.key
    row = {"world": world, "fold": fold, "seed": seed, "arm": arm, "steps": trial.n_steps, "mixing": 0.1} | measures
    composition = [{"check": "rare", "target": 0.5, "observed": 0.1 + 0.2, "off_target": 0.0}]
    return Result(row=row, reasons={"hours_r2": f"only one hour, of {arm}"}, composition=composition)


@pytest.fixture
def folder(tmp_path):
    """A function that opens the folder of a study."""
    return lambda settings=SETTINGS: StudyFolder(tmp_path / "out", settings, {"command": "viscy-train study"})


def test_references_come_before_the_arms_of_each_seed():
    names = ["pixels (PCA)", "untrained encoder", "plain", "experiment"]
    assert [trial.key for trial in TRIALS] == [("base", "day1", seed, name) for seed in (0, 1) for name in names]


def test_finished_trials_are_there_when_the_folder_is_opened_again(folder):
    first = folder()
    for trial in TRIALS[::-1]:
        assert trial not in first
        first.add(result_of(trial, mixing=0.1 + 0.2, recall_at_1=float("nan")))
    again = folder()
    assert all(trial in again for trial in TRIALS)
    runs = again.runs(TRIALS)
    assert list(runs[["world", "fold", "seed", "arm"]].itertuples(index=False, name=None)) == [t.key for t in TRIALS]
    assert runs["mixing"].tolist() == [0.1 + 0.2] * len(TRIALS)
    assert runs["recall_at_1"].isna().all()
    assert again.runs(TRIALS).to_csv() == first.runs(TRIALS).to_csv()
    composition = again.composition(TRIALS)
    assert composition.columns.tolist() == ["world", "fold", "seed", "arm", "check", "target", "observed", "off_target"]
    assert composition["observed"].tolist() == [0.1 + 0.2] * len(TRIALS)
    assert again.reasons(TRIALS) == {"hours_r2": "only one hour, of pixels (PCA)"}


def test_an_incomplete_last_line_is_run_again(folder):
    first = folder()
    for trial in TRIALS[:2]:
        first.add(result_of(trial))
    path = first.path / "finished.jsonl"
    path.write_bytes(path.read_bytes()[:-20])
    again = folder()
    assert [trial in again for trial in TRIALS[:3]] == [True, False, False]
    again.add(result_of(TRIALS[1]))
    assert [trial in folder() for trial in TRIALS[:3]] == [True, True, False]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (SETTINGS | {"steps": 6}, "steps was 5, is now 6"),
        ({"steps": 5, "arms": {"plain": {"leaky": 0.2}, "time": {}}}, "arms.plain.leaky was 0.0, is now 0.2"),
        (SETTINGS | {"config": "x"}, 'config was not set, is now "x"'),
        ({"steps": 5}, "arms.plain.leaky was 0.0, is now not set"),
    ],
)
def test_a_study_with_other_settings_is_refused(folder, settings, message):
    folder()
    with pytest.raises(UserError, match=f"{message}; choose another --out, or delete it") as error:
        folder(settings)
    assert "\n" not in str(error.value)


def test_settings_are_recorded_with_what_is_said_about_them(folder):
    path = folder().path / "settings.json"
    assert json.loads(path.read_text()) == {"settings": SETTINGS, "about": {"command": "viscy-train study"}}


def test_a_directory_of_something_else_and_damaged_files_are_refused(folder, tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "notes.txt").touch()
    with pytest.raises(UserError, match="--out must be a new or empty directory, or that of a study"):
        folder()
    (tmp_path / "out" / "notes.txt").unlink()
    folder().add(result_of(TRIALS[0]))
    (tmp_path / "out" / "finished.jsonl").write_text("{}\n")
    with pytest.raises(UserError, match=r"finished.jsonl is damaged in line 1 .*; delete the line to run it again"):
        folder()
    (tmp_path / "out" / "settings.json").write_text("{")
    with pytest.raises(UserError, match=r"settings.json is damaged .*; choose another --out"):
        folder()


def test_a_folder_that_cannot_be_written_to_is_an_error_in_one_line(folder):
    opened = folder()
    (opened.path / "finished.jsonl").mkdir()
    with pytest.raises(UserError, match=r"cannot write .*finished.jsonl: Is a directory"):
        opened.add(result_of(TRIALS[0]))
