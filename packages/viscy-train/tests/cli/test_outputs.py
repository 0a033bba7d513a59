"""No command replaces a file that is not its own earlier output, or writes where another process does."""

import os
import shutil

import pytest

from viscy_train.cli.entry_point import main
from viscy_train.exit_codes import EXIT_USER_ERROR
from viscy_train.output import LOCK, OutputKind, claimed, in_use
from viscy_train.run.directory import RunDirectory

pytestmark = [
    pytest.mark.slow,
    # anndata 0.13 sets a pandas option that pandas 3 deprecates.
    pytest.mark.filterwarnings("ignore:The 'future.infer_string' option is deprecated"),
]
# Each command, the option that names its output, and the extension of the file.
OUTPUTS = [
    (["index"], "--data.anchors", ".parquet"),
    (["predict"], "--out", ".h5ad"),
    pytest.param(["inspect"], "--out", ".html", marks=pytest.mark.weekly),
    pytest.param(["replay", "--step", "1"], "--out", ".png", marks=pytest.mark.weekly),
]


@pytest.fixture(scope="module")
def trained(make_project, tmp_path_factory):
    """The configuration of a short run. Tests must not change its directory."""
    short = {"trainer.max_epochs": 1, "trainer.limit_train_batches": 4}
    config = make_project(tmp_path_factory.mktemp("trained"), **short)
    assert main(["fit", "--config", str(config)]) == 0
    return config


def inputs_of(trained):
    """Return files of a project and of a run."""
    run = RunDirectory(trained.parent / "run")
    return [trained, trained.parent / "anchors.parquet", run.metrics, run.last_checkpoint, run.report]


@pytest.mark.parametrize(("command", "option", "extension"), OUTPUTS)
def test_a_command_replaces_its_own_output_only(trained, tmp_path, error_line, command, option, extension):
    def run(path):
        return main([command[0], "--config", str(trained), *command[1:], option, str(path)])

    own = tmp_path / f"own{extension}"
    for _ in range(2):
        assert run(own) == 0
    for file in inputs_of(trained):
        if file.suffix == extension == ".parquet":
            continue
        copy = (tmp_path / file.name).with_suffix(extension)
        shutil.copyfile(file, copy)
        assert run(copy) == EXIT_USER_ERROR
        assert f"an output must not replace another file, and {copy} is not " in error_line()
        assert copy.read_bytes() == file.read_bytes()
    names = "link", "pipe", "directory", "device"
    link, pipe, directory, device = (tmp_path / f"{name}{extension}" for name in names)
    link.symlink_to(trained)
    assert run(link) == EXIT_USER_ERROR
    assert f"{trained} is not " in error_line()
    os.mkfifo(pipe)
    directory.mkdir()
    device.symlink_to("/dev/null")
    for path, what in ((pipe, "a named pipe"), (directory, "a directory"), (device, "a device")):
        assert run(path) == EXIT_USER_ERROR
        assert f"must be a regular file, got {what}" in error_line()
    with claimed(own, OutputKind("", lambda _: True), "test"):
        assert run(own) == EXIT_USER_ERROR
        assert f"{own} is in use by `viscy-train test`, process {os.getpid()} on " in error_line()


@pytest.mark.parametrize("command", [["fit"], ["fit", "--ckpt_path", "last"]])
def test_a_run_in_progress_keeps_its_directory(make_project, trained, tmp_path, error_line, command):
    config = make_project(tmp_path)
    with in_use(tmp_path / "run", "fit"):
        assert main([command[0], "--config", str(config), *command[1:]]) == EXIT_USER_ERROR
        assert f"run is in use by `viscy-train fit`, process {os.getpid()} on " in error_line()
        assert os.listdir(tmp_path / "run") == [LOCK]


def test_a_killed_run_does_not_keep_its_directory(make_project, start_viscy_train, tmp_path, error_line):
    """Also not with data workers and a second rank."""
    config = make_project(
        tmp_path,
        **{"trainer.max_epochs": 1000, "data.num_workers": 1, "data.workers": "processes", "trainer.strategy": "ddp"},
    )
    fit = ["fit", "--config", str(config)]
    run = RunDirectory(tmp_path / "run")
    with start_viscy_train([*fit, "--trainer.devices", "2"], tmp_path, processes=2) as running:
        running.wait_until(run.last_checkpoint.exists)
        assert main([*fit, "--ckpt_path", "last"]) == EXIT_USER_ERROR
        assert f"run is in use by `viscy-train fit`, process {running.ranks[0].pid} on " in error_line()
        running.kill()
    assert (run.path / LOCK).exists()
    with in_use(run.path, "fit"):
        pass


def test_the_report_of_a_run_is_written_by_one_process(trained, error_line):
    report = RunDirectory(trained.parent / "run").report
    with claimed(report, OutputKind("", lambda _: True), "fit"):
        assert main(["report", "--config", str(trained)]) == EXIT_USER_ERROR
        assert "report.html is in use by `viscy-train fit`" in error_line()


def test_a_report_that_something_else_wrote_is_kept(trained, error_line, tmp_path):
    shutil.copytree(trained.parent / "run", tmp_path / "run")
    report = RunDirectory(tmp_path / "run").report
    report.write_text("my notes")
    assert main(["report", "--config", str(trained), "--output", str(tmp_path / "run")]) == EXIT_USER_ERROR
    assert "report.html is not a report of viscy-train" in error_line()
    assert report.read_text() == "my notes"


def test_a_run_does_not_replace_the_configuration_of_a_project(make_project, tmp_path, error_line):
    config = make_project(tmp_path)
    before = config.read_bytes()
    options = ["--output", str(tmp_path), "--ckpt_path", "last"]
    assert main(["fit", "--config", str(config), *options]) == EXIT_USER_ERROR
    assert "is not empty, but every run needs its own directory" in error_line()
    assert config.read_bytes() == before
    assert sorted(os.listdir(tmp_path)) == ["anchors.parquet", "config.yaml", "experiments.yaml"]


def test_a_run_of_an_earlier_version_can_be_resumed(trained, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("viscy_train.report.write.evaluate_and_write_page", lambda *_: None)  # takes longest
    shutil.copytree(trained.parent / "run", tmp_path / "run")
    run = RunDirectory(tmp_path / "run")
    run.config.write_text(run.config.read_text().partition("\n")[2])
    options = ["--output", str(run.path), "--ckpt_path", "last", "--trainer.max_epochs", "2"]
    assert main(["fit", "--config", str(trained), *options]) == 0
    assert "Resuming from" in capsys.readouterr().out


@pytest.mark.parametrize("command", ["demo", "hela"])
def test_a_sample_project_that_another_process_writes_is_left_alone(tmp_path, error_line, command):
    with in_use(tmp_path, command):
        assert main([command, "--out", str(tmp_path)]) == EXIT_USER_ERROR
        assert f"is in use by `viscy-train {command}`" in error_line()
        assert os.listdir(tmp_path) == [LOCK]
