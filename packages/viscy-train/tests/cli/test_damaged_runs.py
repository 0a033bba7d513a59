"""Commands that read the directory of a run in which a file is damaged."""

import shutil

import pytest

from viscy_train.cli.entry_point import main
from viscy_train.exit_codes import EXIT_USER_ERROR
from viscy_train.run.directory import RunDirectory

pytestmark = [
    pytest.mark.slow,
    # anndata 0.13 sets a pandas option that pandas 3 deprecates.
    pytest.mark.filterwarnings("ignore:The 'future.infer_string' option is deprecated"),
]
DAMAGE = {
    "empty": lambda content: b"",
    "half": lambda content: content[: len(content) // 2],
    "binary": lambda content: bytes(range(256)) * 40,
    "another type": lambda content: b"[1, 2]\n",
}
# The files of a run, and the commands that read them.
FILES = {
    "config.yaml": (lambda run: run.config, [["report"], ["replay", "--step", "1"]]),
    "metrics.csv": (lambda run: run.metrics, [["report"]]),
    "attempts.csv": (lambda run: run.attempts, [["report"]]),
    "rank0.csv": (lambda run: run.batches / "rank0.csv", [["report"], ["replay", "--step", "1"]]),
    "anchors.json": (lambda run: run.table_fingerprint, [["replay", "--step", "1"]]),
}
# A killed process may leave less than a complete file, so these do not count as damage.
ACCEPTED = [(file, damage) for file in ("metrics.csv", "attempts.csv") for damage in ("empty", "half")]
ACCEPTED.append(("rank0.csv", "half"))
REFUSED = [(file, damage) for file in FILES for damage in DAMAGE if (file, damage) not in ACCEPTED]


@pytest.fixture(scope="module")
def trained(make_project, tmp_path_factory):
    """The configuration of a short run. Tests must not change its directory."""
    config = make_project(tmp_path_factory.mktemp("trained"), **{"trainer.max_epochs": 1})
    assert main(["fit", "--config", str(config)]) == 0
    return config


def copy_run(trained, folder):
    run = RunDirectory(folder / "run")
    shutil.copytree(trained.parent / "run", run.path)
    return run


@pytest.mark.parametrize(("file", "damage"), REFUSED)
def test_a_damaged_file_of_a_run_is_a_one_line_error(trained, tmp_path, capsys, file, damage):
    run = copy_run(trained, tmp_path)
    find, commands = FILES[file]
    path = find(run)
    path.write_bytes(DAMAGE[damage](path.read_bytes()))
    before = path.read_bytes()
    for command in commands:
        code = main([command[0], "--config", str(trained), *command[1:], "--output", str(run.path)])
        error = capsys.readouterr().err
        assert code == EXIT_USER_ERROR
        assert len(error.splitlines()) == 1
        assert str(run.path) in error
        assert path.read_bytes() == before


def test_a_run_with_a_damaged_file_is_not_resumed(trained, tmp_path, error_line):
    run = copy_run(trained, tmp_path)
    run.metrics.write_bytes(DAMAGE["binary"](b""))
    options = ["--output", str(run.path), "--ckpt_path", "last", "--trainer.max_epochs", "2"]
    assert main(["fit", "--config", str(trained), *options]) == EXIT_USER_ERROR
    assert "metrics.csv is damaged: its first line must name different columns" in error_line()


def test_a_run_with_incomplete_files_has_a_report(trained, tmp_path):
    run = copy_run(trained, tmp_path)
    run.attempts.unlink()
    for path in (run.metrics, run.batches / "rank0.csv"):
        path.write_bytes(DAMAGE["half"](path.read_bytes()))
    assert main(["report", "--config", str(trained), "--output", str(run.path)]) == 0


def test_rows_beyond_the_table_are_reported(trained, tmp_path, capsys):
    run = copy_run(trained, tmp_path)
    record = run.batches / "rank0.csv"
    lines = record.read_text().splitlines()
    record.write_text("\n".join([lines[0], *(f"{line.rpartition(' ')[0]} 999999" for line in lines[1:])]) + "\n")
    for command in (["report"], ["replay", "--step", "1"]):
        assert main([command[0], "--config", str(trained), *command[1:], "--output", str(run.path)]) == EXIT_USER_ERROR
        assert "must contain rows that are used for training, got 999999" in capsys.readouterr().err
