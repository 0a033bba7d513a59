"""The commands that compare compositions. The study of the size `ci` runs once; its results must show what is known."""

import csv
import json
import subprocess
import sys
from time import monotonic, sleep

import pandas as pd
import pytest

from viscy_train.cli.entry_point import main
from viscy_train.study import schedule
from viscy_train.study.conclude import COMPOSITION, PAGE, PICTURE, RUNS, SUMMARY
from viscy_train.study.sizes import SIZES
from viscy_train.study.worlds import WORLDS

FILES = (RUNS, SUMMARY, COMPOSITION, PICTURE, PAGE)


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    out = tmp_path_factory.mktemp("study") / "ci"
    assert main(["study", "--size", "ci", "--out", str(out), "--processes", "2"]) == 0
    return out


def runs_of(study, world):
    runs = pd.read_csv(study / RUNS)
    return runs[runs["world"] == world].set_index(["arm", "seed"])


def verdicts_of(study, world, arm, measure):
    summary = pd.read_csv(study / SUMMARY, keep_default_na=False)
    chosen = summary[(summary["world"] == world) & (summary["arm"] == arm) & (summary["measure"] == measure)]
    return chosen["verdict"].tolist()


@pytest.mark.slow
def test_a_study_writes_runs_a_summary_a_picture_and_a_page(study):
    assert all((study / name).stat().st_size > 0 for name in FILES)
    runs = pd.read_csv(study / RUNS)
    assert len(runs) == len(WORLDS) * SIZES["ci"].n_seeds * 9
    assert runs["steps"].isin([0, SIZES["ci"].n_steps]).all()
    page = (study / PAGE).read_text(encoding="utf-8")
    assert "Does a composition pay?" in page
    assert "viscy-train study --size ci" in page
    assert all(world in page for world in WORLDS)


@pytest.mark.slow
def test_before_training_the_base_world_is_neither_saturated_nor_hopeless(study):
    base = runs_of(study, "base")
    assert base.loc["untrained encoder", "condition"].max() <= 0.85
    assert 0.5 <= base.loc["plain", "condition"].mean() <= 0.8
    assert (base.loc["plain", "mixing"] < 0.3).all()


@pytest.mark.slow
def test_batches_of_one_experiment_mix_the_experiments_in_every_seed(study):
    base = runs_of(study, "base")
    assert ((base.loc["experiment", "mixing"] - base.loc["plain", "mixing"]) >= 0.4).all()


@pytest.mark.slow
@pytest.mark.parametrize("arm", ["condition", "experiment + condition"])
def test_balancing_conditions_never_helps_where_none_is_rare(study, arm):
    if arm == "condition":
        assert verdicts_of(study, "balanced", arm, "condition") != ["helps"]
    assert verdicts_of(study, "one condition each", arm, "condition") != ["helps"]


@pytest.mark.slow
def test_experiments_of_one_condition_are_a_warning(study):
    page = (study / PAGE).read_text(encoding="utf-8")
    assert "have one condition only" in page.split("one condition each</h2>")[1]


@pytest.mark.slow
def test_batches_around_an_hour_encode_less_of_the_hours(study):
    aging = runs_of(study, "strong aging")
    assert aging.loc["time", "hours_r2"].mean() < aging.loc["plain", "hours_r2"].mean()


@pytest.mark.slow
def test_two_seeds_cannot_decide(study):
    summary = pd.read_csv(study / SUMMARY, keep_default_na=False)
    assert set(summary["verdict"]) <= {"", "cannot tell", "no difference"}
    assert "at least 8 seeds are needed" in (study / PAGE).read_text(encoding="utf-8")


@pytest.mark.weekly
@pytest.mark.slow
def test_a_study_that_ended_early_is_continued_with_the_same_results(study, capsys):
    before = {name: (study / name).read_bytes() for name in (RUNS, SUMMARY, COMPOSITION, PICTURE)}
    finished = study / "finished.jsonl"
    lines = finished.read_text().splitlines(keepends=True)
    # Two results less, and a third of which the writing was cut off.
    finished.write_text("".join(lines[:-3]) + lines[-3][:100])
    assert main(["study", "--size", "ci", "--out", str(study), "--processes", "1"]) == 0
    assert "3 are missing" in capsys.readouterr().out
    assert {name: (study / name).read_bytes() for name in before} == before


@pytest.mark.slow
def test_a_study_of_another_size_needs_another_directory(study, error_line):
    assert main(["study", "--size", "laptop", "--out", str(study)]) == 2
    assert 'size was "ci", is now "laptop"' in error_line()


@pytest.mark.slow
def test_two_seeds_of_a_small_project_cannot_tell_and_say_why(project, tmp_path, capsys):
    out = tmp_path / "compare"
    options = ["--seeds", "2", "--steps", "3", "--out", str(out), "--processes", "1"]
    assert main(["compare", "--config", str(project), *options]) == 0
    text = " ".join(capsys.readouterr().out.split())
    assert f"Done. Open {out / PAGE}" in text
    with (out / SUMMARY).open() as file:
        verdicts = {row["verdict"] for row in csv.DictReader(file)}
    assert verdicts <= {"", "cannot tell", "no difference"}
    assert "are needed for p" in (out / PAGE).read_text(encoding="utf-8")
    # The reason, the number of experiments and the mixing in pixels are on the terminal, too.
    assert "cannot be decided from 2 held-out experiments" in text
    assert "Before any training, the experiments mix at" in text.split(" runs: ")[0]
    assert "2 experiments held out in turn, 2 seeds, 7 compositions with 3 steps each" in text
    settings = json.loads((out / "settings.json").read_text())
    assert settings["about"]["command"].startswith("viscy-train compare --config")


@pytest.mark.weekly
@pytest.mark.slow
def test_a_study_that_is_killed_and_started_again_has_the_same_files_bit_for_bit(study, tmp_path):
    """In a directory of its own, and with one process in place of two."""
    out = tmp_path / "ci"
    options = ["study", "--size", "ci", "--out", str(out)]
    process = subprocess.Popen([sys.executable, "-m", "viscy_train", *options, "--processes", "1"])
    finished, deadline = out / "finished.jsonl", monotonic() + 300
    while not (finished.exists() and finished.read_bytes().count(b"\n") >= 5):
        assert process.poll() is None
        assert monotonic() < deadline
        sleep(0.2)
    process.kill()
    process.wait()
    assert not (out / SUMMARY).exists()
    assert main([*options, "--processes", "1"]) == 0
    for name in (RUNS, SUMMARY, COMPOSITION, PICTURE):
        assert (out / name).read_bytes() == (study / name).read_bytes()


@pytest.mark.slow
def test_further_arms_come_from_a_file(project, tmp_path, error_line):
    arms = tmp_path / "arms.yaml"
    arms.write_text("leaky: {data: {sampler: {leeky: 0.1}}}\n")
    options = ["--arms", str(arms), "--out", str(tmp_path / "compare")]
    assert main(["compare", "--config", str(project), *options]) == 2
    assert "did you mean data.sampler.leaky?" in error_line()
    arms.write_text("leaky: {data: {sampler: {leaky: 1.5}}}\n")
    assert main(["compare", "--config", str(project), *options]) == 2
    assert "arm 'leaky': data.sampler: leaky must be in [0, 1), got 1.5" in error_line()
    # Nothing was trained, and the file can be corrected.
    assert not (tmp_path / "compare" / "settings.json").exists()


def test_an_interrupted_comparison_says_how_to_continue(project, tmp_path, capsys, monkeypatch):
    def interrupt(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr(schedule, "run_study", interrupt)
    options = ["--seeds", "1", "--steps", "1", "--out", str(tmp_path / "compare")]
    assert main(["compare", "--config", str(project), *options]) == 130
    assert "0 of 18 runs finished and kept; repeat the command to continue" in capsys.readouterr().out


def test_inspect_reads_crops_only_if_it_is_asked_to(project, tmp_path, capsys):
    options = ["inspect", "--config", str(project), "--out", str(tmp_path / "inspect.html")]
    assert main(options) == 0
    assert "--crops 600 reads so many crops" in " ".join(capsys.readouterr().out.split())
    assert main([*options, "--crops", "40"]) == 0
    text = " ".join(capsys.readouterr().out.split())
    assert "in the pixels of 40 crops" in text
    assert "in the pixels of 40 crops" in (tmp_path / "inspect.html").read_text(encoding="utf-8")


def test_inspect_says_nothing_of_pixels_where_batches_mix_experiments(project, tmp_path, capsys):
    options = ["--out", str(tmp_path / "inspect.html"), "--data.sampler.experiment_aware", "false"]
    assert main(["inspect", "--config", str(project), *options]) == 0
    assert "--crops" not in capsys.readouterr().out
