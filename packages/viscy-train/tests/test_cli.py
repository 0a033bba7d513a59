import shutil

import pytest
import yaml

from viscy_train.cli import EXIT_FAILED, EXIT_INTERRUPTED, EXIT_USER_ERROR, main
from viscy_train.launch import TrainingFailedError


def one_line(capsys):
    """Return what is on standard error, which must be one line."""
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1, lines
    assert lines[0].startswith("viscy-train: ")
    return lines[0]


def replace_in(path, old, new):
    text = path.read_text(encoding="utf-8")
    assert old in text
    path.write_text(text.replace(old, new), encoding="utf-8")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "command"),
        (["train"], "train"),
        (["fit"], "--config FILE"),
        (["fit", "--config", "nowhere.yaml"], "nowhere.yaml"),
        (["fit", "--confg", "x.yaml"], "--confg"),
        (["demo", "--oot", "x"], "--oot"),
        (["demo", "--out"], "--out"),
    ],
)
def test_a_wrong_command_line_is_told_in_one_line(capsys, arguments, message):
    assert main(arguments) == EXIT_USER_ERROR
    assert message in one_line(capsys)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("batch_size: 16", "bach_size: 16", "bach_size"),
        ("sampler:", "samplr:", "samplr"),
        ("plate:", "plat:", "plat"),
        ("batch_size: 16", "batch_size: many", "many"),
        ("batch_size: 16", "batch_size: [16", "config"),
        ("batch_size: 16", "batch_size: 100000", "batch_size"),
        ("leaky: 0.125", "leaky: 1.5", "leaky must be in [0, 1), got 1.5"),
        ("leaky: 0.125", "experiment_weights: {monday: 1, tusday: 1}", "tusday"),
        ("epochs: 2", "epochs: 0", "training.epochs must be at least 1, got 0"),
        ("crop: 16", "crop: 500", "crop must fit into the images of 192 x 192 pixels, got 500"),
        ("- Virus", "- GFP", "no channel 'GFP'; it has Phase3D, Virus"),
        ("B/1: infected", "C/1: infected", "no well 'C/1'; it has A/1, B/1"),
        ("monday.zarr", "munday.zarr", "munday.zarr"),
        ("tracks/monday", "tracks/munday", "munday"),
        ("features: 8", "features: 1", "encoder.features must be at least 2, got 1"),
        ("features: 8", "features: null", "encoder.features must be a number, got null"),
        ("epochs: 2", "epochs: null", "training.epochs must be a number, got null"),
        ("max_frames: 3", "max_frames: null", "positive.max_frames must be a number, got null"),
        ("crop: 16", "crop: null", "crop must be a number, got null"),
        ("seed: 5", "seed: null", "seed must be a number, got null"),
        ("seed: 5", "seed: 4294967296", "seed must be in [0, 2**32), got 4294967296"),
        ("batch_size: 16", "batch_size: null", "batch_size"),
        ("leaky: 0.125", "leaky: null", "leaky"),
        ("hours_at_start: 3.0", "hours_at_start: .inf", "must be finite, got inf"),
        ("hours_per_frame: 0.5", "hours_per_frame: .nan", "must be finite, got nan"),
        ("learning_rate: 0.002", "learning_rate: .inf", "training.learning_rate must be finite, got inf"),
        ("temperature: 0.2", "temperature: .nan", "training.temperature must be finite, got nan"),
        ("processes: 2", "processes: 1000", "training.processes must be at most 64, got 1000"),
        ("name: monday", "name: ''", "name of an experiment must be a text that is not empty, got ''"),
        ("A/1: uninfected", "A/1: ''", "condition of well 'A/1' of experiment 'monday' must be a text"),
        ("name: monday", "name: null", "name"),
        ("A/1: uninfected", "A/1: null", "conditions"),
    ],
)
def test_a_wrong_configuration_is_told_in_one_line(capsys, config_file, old, new, message):
    replace_in(config_file, old, new)
    assert main(["fit", "--config", str(config_file)]) == EXIT_USER_ERROR
    assert message in one_line(capsys)


@pytest.mark.parametrize("content", [None, [], [1]])
@pytest.mark.parametrize(
    "section", ["sampler", "training", "encoder", "positive", "experiments", "channels", "output", "crop"]
)
def test_a_section_of_another_kind_is_told_in_one_line(capsys, config_file, section, content):
    text = yaml.safe_load(config_file.read_text(encoding="utf-8"))
    text[section] = content
    config_file.write_text(yaml.safe_dump(text), encoding="utf-8")
    assert main(["fit", "--config", str(config_file)]) == EXIT_USER_ERROR
    assert section in one_line(capsys)


@pytest.mark.parametrize(
    ("content", "message"), [(b"crop: 16 # \xff\xfe", "must be a YAML file in UTF-8"), (b" \n", "is empty")]
)
def test_a_file_without_readable_text_is_named(capsys, tmp_path, content, message):
    (tmp_path / "c.yaml").write_bytes(content)
    assert main(["fit", "--config", str(tmp_path / "c.yaml")]) == EXIT_USER_ERROR
    line = one_line(capsys)
    assert message in line
    assert "c.yaml" in line


@pytest.mark.parametrize("content", ["", "hello", "- 1\n- 2\n"])
def test_a_file_that_is_no_configuration_is_told_in_one_line(capsys, tmp_path, content):
    (tmp_path / "c.yaml").write_text(content)
    assert main(["fit", "--config", str(tmp_path / "c.yaml")]) == EXIT_USER_ERROR
    one_line(capsys)


@pytest.mark.parametrize(
    ("column", "value", "message"),
    [("x", 192.0, "x in [0, 191], got 192.0"), ("y", -3.0, "y in [0, 191], got -3.0"), ("t", 24, "t in [0, 23]")],
)
def test_tracks_outside_the_image_are_told_in_one_line(capsys, data_folder, tmp_path, column, value, message):
    from viscy_train.config import dump_config
    from viscy_train.tracks import read_tracks, write_tracks

    shutil.copytree(data_folder / "tracks", tmp_path / "tracks")
    path = tmp_path / "tracks" / "monday" / "A" / "1" / "0.csv"
    tracks = read_tracks(path)
    tracks.loc[tracks.index[-1], column] = value
    write_tracks(path, tracks)
    assert main(["fit", "--config", str(edited_config(data_folder, tmp_path, dump_config))]) == EXIT_USER_ERROR
    assert message in one_line(capsys)


def edited_config(data_folder, tmp_path, dump_config):
    """Write a demo-like configuration that takes its tracks from the test's own folder."""
    from viscy_train.config import Config, ExperimentConfig

    experiment = ExperimentConfig(
        name="monday",
        plate=data_folder / "plates" / "monday.zarr",
        tracks=tmp_path / "tracks" / "monday",
        hours_at_start=3.0,
        hours_per_frame=0.5,
        conditions={"A/1": "uninfected"},
    )
    config = Config(experiments=[experiment], channels=["Virus"], output=tmp_path / "run")
    path = tmp_path / "config.yaml"
    path.write_text(dump_config(config), encoding="utf-8")
    return path


def test_a_run_into_a_folder_with_something_in_it_is_refused(capsys, config_file, tmp_path):
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "precious").touch()
    assert main(["fit", "--config", str(config_file)]) == EXIT_USER_ERROR
    assert "runs are not mixed" in one_line(capsys)
    assert [path.name for path in (tmp_path / "run").iterdir()] == ["precious"]


def test_a_second_demo_into_the_same_folder_is_refused(capsys, tmp_path):
    (tmp_path / "precious").touch()
    assert main(["demo", "--out", str(tmp_path)]) == EXIT_USER_ERROR
    assert "runs are not mixed" in one_line(capsys)
    assert [path.name for path in tmp_path.iterdir()] == ["precious"]


@pytest.mark.parametrize(
    "output", ["config.yaml/sub", "/dev/null", "/proc/nope/x", "null\0byte", "n" * 300, "dangling"]
)
@pytest.mark.parametrize("command", ["fit", "demo"])
def test_an_output_folder_that_cannot_be_made_is_told_in_one_line(
    monkeypatch, capsys, config_file, tmp_path, command, output
):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "dangling").symlink_to("/proc/nope")
    options = ["--config", str(config_file), "--output"] if command == "fit" else ["--out"]
    assert main([command, *options, output]) == EXIT_USER_ERROR
    one_line(capsys)


def test_an_output_on_the_command_line_starts_at_the_working_directory(monkeypatch, config_file, tmp_path, capsys):
    seen = []
    monkeypatch.setattr("viscy_train.run.fit", lambda config: seen.append(config.output) or RunFolderLike())
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    assert main(["fit", "--config", str(config_file), "--output", "again"]) == 0
    assert seen == [tmp_path / "elsewhere" / "again"]
    assert capsys.readouterr().out == "Done. Open the report\n"


class RunFolderLike:
    report = "the report"


@pytest.mark.parametrize(
    ("error", "code"), [(TrainingFailedError("process 1"), EXIT_FAILED), (KeyboardInterrupt(), EXIT_INTERRUPTED)]
)
def test_a_run_that_ends_early_has_an_exit_code_of_its_own(monkeypatch, capsys, config_file, error, code):
    def fail(config):
        raise error

    monkeypatch.setattr("viscy_train.run.fit", fail)
    assert main(["fit", "--config", str(config_file)]) == code
    one_line(capsys)


def test_a_bug_keeps_its_traceback(monkeypatch, config_file):
    def fail(config):
        raise ZeroDivisionError

    monkeypatch.setattr("viscy_train.run.fit", fail)
    with pytest.raises(ZeroDivisionError):
        main(["fit", "--config", str(config_file)])


def test_the_configuration_can_be_printed(capsys, config_file):
    with pytest.raises(SystemExit) as exit_info:
        main(["fit", "--config", str(config_file), "--print_config"])
    assert exit_info.value.code in (0, None)
    assert "batch_size: 16" in capsys.readouterr().out
