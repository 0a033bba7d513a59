import numpy as np
import pandas as pd
import pytest

from viscy_train.errors import UserError
from viscy_train.study.results import (
    RUN_COLUMNS,
    append_run,
    read_runs,
    read_summary,
    write_runs,
    write_summary,
)
from viscy_train.study.summary import Units, summarize


@pytest.fixture
def runs(make_runs):
    rng = np.random.default_rng(0)
    return make_runs(
        world='two, "quoted"',
        condition={"plain": rng.random(3), "time": [1 / 3, np.nan, 1e-17]},
        mixing={"plain": rng.random(3), "time": rng.random(3)},
    )


def test_runs_are_read_as_they_were_written(tmp_path, runs):
    write_runs(tmp_path / "runs.csv", runs)
    pd.testing.assert_frame_equal(read_runs(tmp_path / "runs.csv"), runs, check_exact=True)


def test_equal_runs_are_equal_bytes_however_they_were_written(tmp_path, runs):
    write_runs(tmp_path / "at once.csv", runs)
    for run in runs.to_dict("records"):
        append_run(tmp_path / "appended.csv", run)
    write_runs(tmp_path / "again.csv", read_runs(tmp_path / "appended.csv"))
    expected = (tmp_path / "at once.csv").read_bytes()
    assert (tmp_path / "appended.csv").read_bytes() == (tmp_path / "again.csv").read_bytes() == expected
    assert expected.splitlines()[4].startswith(b'"two, ""quoted""",held out,0,time,100,0.3333333333333333,')


def test_a_line_that_a_killed_command_did_not_finish_is_ignored_and_replaced(tmp_path, runs):
    path = tmp_path / "runs.csv"
    write_runs(path, runs)
    complete = path.read_bytes()
    path.write_bytes(complete[:-7])
    assert len(read_runs(path)) == len(runs) - 1
    append_run(path, runs.iloc[-1].to_dict())
    assert path.read_bytes() == complete


def test_a_file_without_a_complete_header_starts_again(tmp_path, runs):
    (tmp_path / "runs.csv").write_text("world,fo")
    append_run(tmp_path / "runs.csv", runs.iloc[0].to_dict())
    assert len(read_runs(tmp_path / "runs.csv")) == 1


def test_a_summary_is_read_as_it_was_written(tmp_path, runs):
    summary = summarize(runs, Units.of_study())
    write_summary(tmp_path / "summary.csv", summary)
    found = read_summary(tmp_path / "summary.csv")
    pd.testing.assert_frame_equal(found, summary, check_exact=True)
    assert ",cannot tell," in (tmp_path / "summary.csv").read_text()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda text: text.replace("world", "planet", 1), "its columns must be world, fold, seed"),
        (lambda text: "", "its columns must be"),
        (lambda text: text + "base,a\n", "line 8 must have 15 fields, got 2"),
        (
            lambda text: text.replace(",0,", ",zero,", 1),
            "seed in line 2 must be a whole number, got 'zero'",
        ),
        (lambda text: text.replace("held out,0,", "held out,,", 1), "seed in line 2 must be a whole number, got ''"),
        (
            lambda text: text.replace(",0,", ",0.5,", 1),
            "seed in line 2 must be a whole number, got '0.5'",
        ),
        (lambda text: text.replace("0.3333333333333333", "high"), "condition in line 5 must be a number, got 'high'"),
        (lambda text: text + text.splitlines()[2] + "\n", 'it has two, "quoted" held out 1 plain twice'),
    ],
)
def test_a_damaged_file_is_an_error_in_one_line(tmp_path, runs, change, message):
    path = tmp_path / "runs.csv"
    write_runs(path, runs)
    path.write_text(change(path.read_text()))
    with pytest.raises(UserError) as error:
        read_runs(path)
    assert message in str(error.value)
    assert "\n" not in str(error.value)
    assert str(error.value).endswith("delete it, or choose another folder")


def test_bytes_that_are_not_text_and_files_that_do_not_exist_are_errors(tmp_path):
    (tmp_path / "runs.csv").write_bytes(b"\xff\xfe\n")
    with pytest.raises(UserError, match="cannot read"):
        read_runs(tmp_path / "runs.csv")
    with pytest.raises(UserError, match="cannot read"):
        read_runs(tmp_path / "none.csv")
    with pytest.raises(UserError, match="must be a regular file, got a directory"):
        read_runs(tmp_path)


def test_a_run_must_have_all_measures(tmp_path, runs):
    with pytest.raises(KeyError):
        write_runs(tmp_path / "runs.csv", runs.drop(columns=RUN_COLUMNS[-1]))
    assert not (tmp_path / "runs.csv").exists()
