import json
import logging
import os
import sys
import types

import pytest
import yaml

from viscy_train.cli.entry_point import main
from viscy_train.exit_codes import EXIT_INTERRUPTED, EXIT_USER_ERROR


def line_of(path, key):
    """Return the number of the first line of a file that contains a key."""
    return 1 + [key in line for line in path.read_text(encoding="utf-8").splitlines()].index(True)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["learn"], "unknown command 'learn'; choose from demo, hela, init, import, study, view, index"),
        (["idnex"], "unknown command 'idnex'; did you mean index?"),
        (["help"], "unknown command 'help'; did you mean --help?"),
        (["--config", "x.yaml", "fit"], "the command comes before its options, got '--config'; see viscy-train --help"),
        (["--verison"], "the command comes before its options, got '--verison'; did you mean --version?"),
        (["fit", "--print_shtab=bash"], "--print_shtab is given without a command: viscy-train --print_shtab bash"),
        (["view"], "RUN is missing; see viscy-train view --help"),
        (["init", "--out", "x"], "PLATE is missing; see viscy-train init --help"),
        (["import", "x", "y"], "unexpected argument 'y'; options begin with --"),
        (["study", "--sise", "ci"], "unknown option --sise; did you mean --size?"),
        (["study", "--size", "lptop"], "--size must be ci, laptop or gpu, got lptop; did you mean laptop?"),
        (["study", "--qqq"], "unknown option --qqq; see --help and --help-all"),
        (["fit"], "fit needs --config FILE"),
        (["index"], "index needs --config FILE"),
        (["fit", "--config", "nowhere.yaml"], "nowhere.yaml"),
        (["demo", "--oot", "x"], "oot"),
        (["demo", "--out"], "--out needs a value"),
    ],
)
def test_an_invalid_command_line_is_a_one_line_error(error_line, arguments, message):
    assert main(arguments) == EXIT_USER_ERROR
    assert message in error_line()


def test_the_package_of_another_project_with_the_same_name_is_refused(error_line, make_project, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "viscy_data", types.ModuleType("viscy_data"))
    assert main(["index", "--config", str(make_project(tmp_path))]) == EXIT_USER_ERROR
    assert "viscy-data is not the one that viscy-train needs" in error_line()


@pytest.mark.parametrize("name", ["limit_train_batches", "limit_val_batches", "overfit_batches", "val_check_interval"])
@pytest.mark.parametrize(("given", "read"), [("1", 1), ("1.0", 1.0), ("3", 3), ("0.5", 0.5)])
def test_a_number_of_batches_is_read_as_an_integer_and_a_share_as_a_decimal(project, capsys, name, given, read):
    with pytest.raises(SystemExit):
        main(["fit", "--config", str(project), f"--trainer.{name}", given, "--print_config"])
    value = yaml.safe_load(capsys.readouterr().out)["trainer"][name]
    assert (type(value), value) == (type(read), read)


def test_a_command_restores_the_log_level_of_iohub():
    iohub = logging.getLogger("iohub")
    level = iohub.level
    assert main(["--help"]) == 0
    assert iohub.level == level


@pytest.mark.parametrize("arguments", [["--help"], ["-h"]])
def test_the_help_lists_every_command(capsys, arguments):
    assert main(arguments) == 0
    text = capsys.readouterr().out
    for command in ("demo", "hela", "index", "inspect", "fit", "validate", "predict", "replay", "report"):
        assert f"\n  {command} " in text


@pytest.mark.parametrize(
    ("key", "name"),
    [
        ("data.sampler.bach_size", "bach_size"),
        ("data.crpo", "crpo"),
        ("trainer.acelerator", "acelerator"),
        ("model.encoder.wdith", "wdith"),
        ("trainr.max_epochs", "trainr:"),
        ("checkpoint.evry_n_steps", "evry_n_steps"),
    ],
)
def test_a_misspelled_key_is_reported_with_its_line(error_line, make_project, tmp_path, key, name):
    path = make_project(tmp_path, **{key: 3})
    assert main(["fit", "--config", str(path)]) == EXIT_USER_ERROR
    assert f"{path}, line {line_of(path, name)}: " in error_line()


@pytest.mark.parametrize(
    ("option", "message"),
    [
        ("--data.crpo", "unknown option --data.crpo; did you mean --data.crop?"),
        (
            "--data.sampler.batchsize=3",
            "unknown option --data.sampler.batchsize; did you mean --data.samp",
        ),
        ("--procesess", "unknown option --procesess; did you mean --processes?"),
    ],
)
def test_an_option_is_suggested_without_a_line_of_the_configuration(error_line, project, option, message):
    assert main(["inspect", "--config", str(project), option, "3"]) == EXIT_USER_ERROR
    assert error_line().startswith(f"viscy-train: error: {message}")


@pytest.mark.parametrize(
    ("changes", "key", "message"),
    [
        ({"data.crpo": 3}, "crpo", "unknown key 'data.crpo'; did you mean data.crop?"),
        (
            {"data.batch_size": 3},
            "batch_size: 3",
            "unknown key 'data.batch_size'; did you mean data.sam",
        ),
        ({"trainr.max_epochs": 3}, "trainr", "unknown key 'trainr'; did you mean trainer?"),
        (
            {"data.z": "midle"},
            "z:",
            "data.z must be middle, sharpest, random or maximum, got midle; did you mean mid",
        ),
    ],
)
def test_a_key_or_choice_is_suggested_with_the_line(error_line, make_project, tmp_path, changes, key, message):
    path = make_project(tmp_path, **changes)
    for command in ("inspect", "fit"):
        assert main([command, "--config", str(path)]) == EXIT_USER_ERROR
        line = line_of(path, f" {key}" if key == "z:" else key)
        assert f"{path}, line {line}: {message}" in error_line()


def test_a_value_of_an_option_is_not_looked_for_in_the_configuration(error_line, make_project, tmp_path):
    path = make_project(tmp_path, **{"data.z": "middle"})
    assert main(["inspect", "--config", str(path), "--data.z", "midle"]) == EXIT_USER_ERROR
    assert error_line().startswith("viscy-train: error: data.z must be middle, sharpest, random or maximum, got midle")


def test_a_choice_of_several_kinds_is_suggested(error_line, project):
    assert main(["fit", "--config", str(project), "--trainer.precision", "bf16-mixd"]) == EXIT_USER_ERROR
    assert error_line().endswith("or null, got bf16-mixd; did you mean bf16-mixed?")


def test_a_missing_option_is_not_looked_for_in_the_configuration(error_line, project):
    assert main(["replay", "--config", str(project)]) == EXIT_USER_ERROR
    assert error_line() == "viscy-train: error: --step is missing; see viscy-train replay --help"


@pytest.mark.parametrize("key", ["output", "data.experiments", "data.anchors"])
def test_a_missing_key_is_named_with_the_file(error_line, make_project, tmp_path, key):
    path = make_project(tmp_path, **{key: None})
    assert main(["inspect", "-c", str(path)]) == EXIT_USER_ERROR
    assert error_line() == f"viscy-train: error: {path}: the key '{key}' is missing"


def test_a_key_that_is_not_text_is_refused_with_its_line(error_line, make_project, tmp_path):
    path = make_project(tmp_path, **{"data.sampler": {3: 4}})
    assert main(["inspect", "--config", str(path)]) == EXIT_USER_ERROR
    assert f"{path}, line {line_of(path, '3: 4')}: a key must be text, got 3" in error_line()


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("data.sampler.batch_size", "many", "many"),
        ("data.sampler.batch_size", 100_000, "batch_size"),
        ("data.sampler.leaky", 1.5, "leaky must be in [0, 1), got 1.5"),
        ("data.sampler.experiment_weights", {"monday": 1, "tusday": 1}, "tusday"),
        ("data.crop", 4, "data.crop must be at least 8, got 4"),
        ("data.crop", 24, "data.crop was 16, is now 24; rebuild it with `viscy-train index --config FILE`"),
        ("data.positive.max_frames", 5, "data.positive.max_frames was 3, is now 5"),
        ("data.positive.max_frames", 0, "data.positive.max_frames must be at least min_frames, got 0"),
        (
            "data.split",
            {"by": "experiment", "experiments": ["sunday"]},
            "of the project (monday, tuesday), got 'sunday'",
        ),
        ("data.split", {"by": "experiment"}, "data.split.experiments must name an experiment"),
        ("data.augmentation.rotation", 400, "data.augmentation.rotation must be in [0, 180], got 400"),
        ("data.anchors", "nowhere.parquet", "nowhere.parquet; build it with `viscy-train index --config FILE`"),
        ("data.experiments", "nowhere.yaml", "nowhere.yaml"),
        ("model.encoder.features", 1, "model.encoder.features must be at least 2, got 1"),
        ("model.encoder.name", "resnet999", "model.encoder.name must be 'tiny' or the name of a timm model"),
        ("model.loss.temperature", 0, "model.loss.temperature must be at least 0.0001, got 0"),
        ("model.loss", {"name": "nt_xent"}, "model.loss.positives must be pair for nt_xent, got 'lineage'"),
        ("model.optimizer.learning_rate", float("inf"), "model.optimizer.learning_rate must be finite, got inf"),
        ("checkpoint.every_n_steps", 0, "checkpoint.every_n_steps must be at least 1, got 0"),
        ("trainer.use_distributed_sampler", True, "trainer.use_distributed_sampler must be false"),
        ("trainer.accelerator", "cuda", "trainer: "),
        ("seed_everything", 2**32, "4294967296"),
    ],
)
def test_an_invalid_configuration_is_a_one_line_error(error_line, make_project, tmp_path, key, value, message):
    path = make_project(tmp_path, **{key: value})
    assert main(["fit", "--config", str(path)]) == EXIT_USER_ERROR
    assert message in error_line()
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("key", "default"),
    [
        ("data.sampler.condition_by", ', "condition"'),
        ("data.sampler.time_by", ', "hours_post_infection"'),
        ("data.sampler.condition_balanced", ", true"),
        ("data.positive.match", ""),
        ("data.positive.differ", ""),
        ("data.normalization.by", ', "experiment"'),
        ("data.split.by", ', "position"'),
        ("data.crop", ", 64"),
        ("model.loss.temperature", ", 0.2"),
        ("checkpoint.keep_best", ", 1"),
    ],
)
@pytest.mark.parametrize("command", ["index", "inspect"])
def test_a_key_without_a_value_is_refused_with_its_default(error_line, make_project, tmp_path, command, key, default):
    path = make_project(tmp_path, **{key: "EMPTY"})
    path.write_text(path.read_text().replace("EMPTY", ""))
    assert main([command, "--config", str(path)]) == EXIT_USER_ERROR
    assert f"{key} must not be null; remove the key to get its default{default}" in error_line()


@pytest.mark.parametrize(
    ("key", "written", "name"),
    [
        ("output", "output: 2024_10_09", "2024_10_09"),
        ("data.split.experiments", "data: {split: {by: experiment, experiments: [monday, 0123]}}", "0123"),
        ("data.sampler.experiment_weights", "data: {sampler: {experiment_weights: {2024_10_09: 1}}}", "2024_10_09"),
        ("data.sampler.condition_ratio", "data: {sampler: {condition_ratio: {on: 1, off: 2}}}", "on"),
        ("data.anchors", "data: {anchors: 12:30}", "12:30"),
        ("data.sampler.experiment_by", "data: {sampler: {experiment_by: [experiment, on]}}", "on"),
        ("data.sampler.condition_by", "data: {sampler: {condition_by: no}}", "no"),
        ("data.sampler.time_by", "data: {sampler: {time_by: 0123}}", "0123"),
        ("data.positive.match", "data: {positive: {match: off}}", "off"),
        ("data.positive.differ", "data: {positive: {match: well, differ: [5]}}", "5"),
        ("data.positive.match", "data: {positive: {match: on}}", "on"),
        ("data.positive.differ", "data: {positive: {match: condition, differ: [well, 5]}}", "5"),
        ("data.sampler.experiment_by", "data: {sampler: {experiment_by: [no, day]}}", "no"),
        ("data.sampler.condition_by", "data: {sampler: {condition_by: off}}", "off"),
        ("data.sampler.time_by", "data: {sampler: {time_by: 012}}", "012"),
    ],
)
def test_a_name_that_yaml_takes_for_another_value_must_be_in_quotes(error_line, tmp_path, key, written, name):
    path = tmp_path / "config.yaml"
    path.write_text(f"# a comment\n{written}\n")
    assert main(["fit", "--config", str(path)]) == EXIT_USER_ERROR
    assert f"{path}, line 2: {key} must be text, got {name}; put it in quotes: '{name}'" in error_line()


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("data.crop_um", "8um", "data.crop_um must be a number or null, got 8um"),
        ("data.crop", 16.5, "data.crop must be an integer, got 16.5"),
        ("data.z", "top", "data.z must be middle, sharpest, random or maximum, got top"),
        ("data.positive.min_frames", 1.5, "data.positive.min_frames must be an integer or null, got 1.5"),
        ("data.positive.match", {"a": 1}, "data.positive.match must be a list of texts or text, got {'a': 1}"),
        ("data.positive.decay", "x", "data.positive.decay must be a number, got x"),
        (
            "data.sampler.experiment_weights",
            {"monday": "x"},
            "data.sampler.experiment_weights must be a mapping of names to numbers, text or null, got {'monday': 'x'}",
        ),
        ("data.sampler.split_batches", "maybe", "data.sampler.split_batches must be true or false, got maybe"),
        ("data.split.experiments", "monday", "data.split.experiments must be a list, got monday"),
        ("trainer.max_epochs", "x", "trainer.max_epochs must be an integer or null, got x"),
    ],
)
def test_a_value_of_another_type_is_refused_in_plain_words(error_line, make_project, tmp_path, key, value, message):
    path = make_project(tmp_path, **{key: value})
    assert main(["inspect", "--config", str(path)]) == EXIT_USER_ERROR
    assert error_line().endswith(f": {message}")


@pytest.mark.parametrize(
    ("changes", "key", "message"),
    [
        (
            {"data.sampler.experiment_weights": {"monday": 1}},
            "sampler:",
            "data.sampler: experiment_weights must name every label of the table, 'tuesday' left out",
        ),
        (
            {"data.positive": {"match": "condition"}},
            "match:",
            "the anchor table was built with other settings: data.positive.match was [], is now ['condition']; rebuild",
        ),
        (
            {"data.positive": {"max_hours": 2}},
            "max_hours:",
            "the anchor table was built with other settings: data.positive.max_hours was null, is now 2.0; rebuild",
        ),
        (
            {"evaluation.probe": "nope"},
            "probe:",
            "evaluation.probe must name columns of the anchor table (",
        ),
    ],
)
def test_inspect_gives_the_line_of_what_does_not_suit(error_line, make_project, tmp_path, changes, key, message):
    path = make_project(tmp_path, **changes)
    assert main(["inspect", "--config", str(path)]) == EXIT_USER_ERROR
    assert f"{path}, line {line_of(path, key)}: {message}" in error_line()


def test_an_empty_section_is_refused_with_its_line(error_line, tmp_path):
    path = tmp_path / "config.yaml"
    path.write_text("data:\n  normalization:\n")
    assert main(["index", "--config", str(path)]) == EXIT_USER_ERROR
    assert f"{path}, line 2: data.normalization must be a mapping of keys, got null" in error_line()


def test_a_key_that_is_not_text_is_refused_on_the_command_line(error_line, make_project, tmp_path):
    options = ["--data.sampler.condition_ratio", "{1_0: 1}"]
    assert main(["fit", "--config", str(make_project(tmp_path)), *options]) == EXIT_USER_ERROR
    assert "data.sampler.condition_ratio must have names in quotes as keys, got 10" in error_line()


LAUGHS = "a0: &a0 [x, x]\n" + "".join(f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]\n" for n in range(1, 9))


@pytest.mark.parametrize(
    "file", ["config.yaml", "experiments.yaml", "data.yaml", "sampler.yml", "callbacks.yaml", "run/config.yaml"]
)
@pytest.mark.parametrize(
    ("content", "message"), [(LAUGHS, "must have at most 100,000 values"), ("a: " + "[" * 99, "at most 50 levels")]
)
def test_a_file_that_means_too_much_is_refused(error_line, make_project, tmp_path, file, content, message):
    """Also one that another file or an option names."""
    changes = {"data.yaml": {"data": "data.yaml"}, "sampler.yml": {"data.sampler": "sampler.yml"}}
    path = make_project(tmp_path, **changes.get(file, {}))
    (tmp_path / file).parent.mkdir(exist_ok=True)
    (tmp_path / file).write_text(content)
    options = ["--trainer.callbacks", str(tmp_path / file)] if file == "callbacks.yaml" else []
    command = ["replay", "--step", "0"] if file == "run/config.yaml" else ["fit"]
    assert main([command[0], "--config", str(path), *command[1:], *options]) == EXIT_USER_ERROR
    line = error_line()
    assert f"{tmp_path / file}, line " in line
    assert message in line


@pytest.mark.parametrize(
    ("content", "message"), [(b"output: 16 # \xff\xfe", "must be a YAML file in UTF-8"), (b" \n", "is empty")]
)
def test_an_unreadable_file_is_named(error_line, tmp_path, content, message):
    (tmp_path / "c.yaml").write_bytes(content)
    assert main(["fit", "--config", str(tmp_path / "c.yaml")]) == EXIT_USER_ERROR
    line = error_line()
    assert message in line
    assert "c.yaml" in line


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("hello", "must be a mapping of keys to values"),
        ("- 1\n- 2\n", "must be a mapping of keys to values"),
        ("output: [16\n", "line 1: "),
        ("output: a\ndata:\n\tcrop: 16\n", "line 3: "),
        ("output: a\noutput: b\n", "line 2: key 'output' is already defined in line 1"),
        ("data:\n  crop: 16\n  crop: 32\n", "line 3: key 'crop' is already defined in line 2"),
        ("data:\n  positive: 4\n", "line 2: data.positive must be a mapping of keys, got 4"),
        ("model: {optimizer: adam}\n", "line 1: model.optimizer must be a mapping of keys, got 'adam'"),
        (
            "model: {encoder: tiny}\n",
            "line 1: model.encoder must be a mapping of keys, got 'tiny'; write encoder: {name: tiny}",
        ),
        (
            "model: {loss: supcon}\n",
            "line 1: model.loss must be a mapping of keys, got 'supcon'; write loss: {name: supcon}",
        ),
        ("data:\n", "line 1: data must be a mapping of keys, got null"),
    ],
)
def test_a_file_that_is_not_a_configuration_is_a_one_line_error(error_line, tmp_path, content, message):
    (tmp_path / "c.yaml").write_text(content)
    assert main(["fit", "--config", str(tmp_path / "c.yaml")]) == EXIT_USER_ERROR
    line = error_line()
    assert "c.yaml" in line
    assert message in line


def test_a_run_into_a_directory_that_is_not_empty_is_refused(error_line, project):
    run = project.parent / "run"
    run.mkdir()
    (run / "precious").touch()
    assert main(["fit", "--config", str(project)]) == EXIT_USER_ERROR
    assert "resume the run in it with --checkpoint last" in error_line()
    assert [path.name for path in run.iterdir()] == ["precious"]


def test_a_demo_into_a_folder_that_is_not_empty_is_refused(error_line, tmp_path):
    (tmp_path / "precious").touch()
    assert main(["demo", "--out", str(tmp_path)]) == EXIT_USER_ERROR
    assert "every run needs its own directory" in error_line()
    assert [path.name for path in tmp_path.iterdir()] == ["precious"]


@pytest.mark.parametrize(
    "output", ["config.yaml/sub", "/dev/null", "/proc/nope/x", "null\0byte", "n" * 300, "dangling"]
)
@pytest.mark.parametrize("command", ["fit", "demo"])
def test_an_output_folder_that_cannot_be_created_is_a_one_line_error(monkeypatch, error_line, project, command, output):
    monkeypatch.chdir(project.parent)
    os.symlink("/proc/nope", project.parent / "dangling")
    options = ["--config", str(project), "--output"] if command == "fit" else ["--out"]
    assert main([command, *options, output]) == EXIT_USER_ERROR
    error_line()


@pytest.mark.parametrize("content", [b"", b"PK not a checkpoint"])
def test_a_damaged_checkpoint_is_a_one_line_error(error_line, project, content):
    checkpoint = project.parent / "half.ckpt"
    checkpoint.write_bytes(content)
    assert main(["fit", "--config", str(project), "--ckpt_path", str(checkpoint)]) == EXIT_USER_ERROR
    assert "half.ckpt is not a checkpoint, or is damaged" in error_line()


@pytest.mark.parametrize("command", ["validate", "predict", "report"])
def test_evaluation_without_a_checkpoint_is_refused(error_line, project, command):
    assert main([command, "--config", str(project)]) == EXIT_USER_ERROR
    assert "train first" in error_line()


def test_a_missing_anchor_table_is_reported(error_line, project):
    (project.parent / "anchors.parquet").unlink()
    assert main(["fit", "--config", str(project)]) == EXIT_USER_ERROR
    assert "viscy-train: error: anchor table not found" in error_line()


def test_a_mistake_in_another_file_is_reported_with_that_file(error_line, project):
    path = project.parent / "experiments.yaml"
    content = yaml.safe_load(path.read_text())
    content["experiments"][1]["name"] = content["experiments"][0]["name"]
    path.write_text(json.dumps(content))
    assert main(["fit", "--config", str(project)]) == EXIT_USER_ERROR
    assert f"error: {path}: experiments must have different names" in error_line()


def test_all_problems_of_a_project_are_reported_together(capsys, project):
    path = project.parent / "experiments.yaml"
    content = yaml.safe_load(path.read_text())
    content["experiments"][0]["channels"] = ["Phase3D", "GFP"]
    content["experiments"][1]["conditions"] = {"A/1": "uninfected", "C/7": "infected"}
    path.write_text(json.dumps(content))
    assert main(["index", "--config", str(project)]) == EXIT_USER_ERROR
    text = capsys.readouterr().err
    assert "GFP" in text
    assert "C/7" in text


def test_ctrl_c_is_not_an_error(monkeypatch, error_line, project):
    def fail(options, description):
        raise KeyboardInterrupt

    monkeypatch.setattr("viscy_train.cli.commands.index", fail)
    assert main(["index", "--config", str(project)]) == EXIT_INTERRUPTED
    error_line()


def test_a_bug_keeps_its_traceback(monkeypatch, project):
    def fail(options, description):
        raise ZeroDivisionError

    monkeypatch.setattr("viscy_train.cli.commands.index", fail)
    with pytest.raises(ZeroDivisionError):
        main(["index", "--config", str(project)])


def test_the_configuration_can_be_printed(capsys, project):
    with pytest.raises(SystemExit) as exit_info:
        main(["fit", "--config", str(project), "--print_config"])
    assert exit_info.value.code in (0, None)
    assert "batch_size: 16" in capsys.readouterr().out
