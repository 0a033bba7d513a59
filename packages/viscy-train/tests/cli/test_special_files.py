"""An input that is a named pipe is refused in one line: a command that opened it would wait for ever."""

import os

import pytest
import yaml

from viscy_train.cli.entry_point import main
from viscy_train.exit_codes import EXIT_USER_ERROR


def replace_by_pipe(path):
    path.unlink(missing_ok=True)
    os.mkfifo(path)


def use_tracks(project, name):
    """Let the first experiment have tracks of this name in the directory of the project."""
    path = project.with_name("experiments.yaml")
    content = yaml.safe_load(path.read_text())
    content["experiments"][0]["tracks"] = name
    path.write_text(yaml.safe_dump(content))
    return project.with_name(name)


def make_pipe_of_tracks(project):
    (use_tracks(project, "tracks") / "A" / "1").mkdir(parents=True)
    os.mkfifo(project.with_name("tracks") / "A/1/0.csv")


def make_checkpoint(config):
    os.mkfifo(config.with_name("pipe.ckpt"))


def replace_experiments(config):
    replace_by_pipe(config.with_name("experiments.yaml"))


def replace_table(config):
    replace_by_pipe(config.with_name("anchors.parquet"))


# For each: the command, how a file of the project becomes a pipe, options, and what the message names.
PIPES = {
    "config": ("fit", replace_by_pipe, [], "config.yaml"),
    "experiments": ("fit", replace_experiments, [], "experiments.yaml"),
    "experiments of index": ("index", replace_experiments, [], "experiments.yaml"),
    "anchor table": ("fit", replace_table, [], "anchors.parquet"),
    "anchor table of inspect": ("inspect", replace_table, [], "anchors.parquet"),
    "anchor table as output": ("index", replace_table, [], "anchors.parquet"),
    "tracks as CSV": ("index", make_pipe_of_tracks, [], "A/1/0.csv"),
    "tracks as Parquet": ("index", lambda config: os.mkfifo(use_tracks(config, "a.parquet")), [], "a.parquet"),
    "directory of tracks": ("index", lambda config: os.mkfifo(use_tracks(config, "tracks")), [], "tracks"),
    "checkpoint": ("fit", make_checkpoint, ["--ckpt_path", "pipe.ckpt"], "pipe.ckpt"),
    "checkpoint to load": ("predict", make_checkpoint, ["--ckpt_path", "pipe.ckpt"], "pipe.ckpt"),
}


@pytest.mark.slow
@pytest.mark.parametrize("pipe", PIPES)
def test_a_named_pipe_is_refused_and_not_opened(project, monkeypatch, capsys, pipe):
    command, make_pipe, options, name = PIPES[pipe]
    make_pipe(project)
    monkeypatch.chdir(project.parent)
    assert main([command, "--config", "config.yaml", *options]) == EXIT_USER_ERROR
    assert name in capsys.readouterr().err
