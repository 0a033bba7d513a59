"""Atomic writes after a full disk, an error or a kill."""

import errno
import os
from pathlib import Path

import pytest
import torch

from viscy_train.atomic import atomic_write, atomic_write_directory, is_disk_full
from viscy_train.errors import UserError
from viscy_train.run.directory import RunDirectory
from viscy_train.training.checkpointing import AtomicCheckpointIO
from viscy_train.training.lightning_cli import TrainingCLI

FULL = OSError(errno.ENOSPC, "No space left on device")


def test_a_file_appears_when_it_is_complete(tmp_path):
    path = tmp_path / "new folder" / "page.html"
    with atomic_write(path) as unfinished:
        unfinished.write_text("half")
        assert not path.exists()
    assert [file.name for file in path.parent.iterdir()] == ["page.html"]
    assert path.read_text() == "half"


@pytest.mark.parametrize(
    ("error", "raised_type"),
    [(FULL, UserError), (RuntimeError("No space left on device (os error 28)"), UserError), (ValueError(), ValueError)],
)
def test_an_error_keeps_the_old_file(tmp_path, error, raised_type):
    path = tmp_path / "page.html"
    path.write_text("old")

    def write():
        with atomic_write(path) as unfinished:
            unfinished.write_text("half")
            raise error

    with pytest.raises(raised_type) as raised:
        write()
    assert [file.name for file in tmp_path.iterdir()] == ["page.html"]
    assert path.read_text() == "old"
    if raised_type is UserError:
        assert str(raised.value) == (
            f"cannot write {path}: No space left on device; free some space, or choose another location"
        )


def test_a_disk_that_is_read_only_is_the_reason_that_is_given(tmp_path, monkeypatch):
    def refuse(*_, **__):
        raise OSError(errno.EROFS, "Read-only file system")

    monkeypatch.setattr(Path, "unlink", refuse)
    monkeypatch.setattr(Path, "write_text", refuse)
    with (
        pytest.raises(UserError, match=r"cannot write \S+page.html: Read-only file system; free some space, or choose"),
        atomic_write(tmp_path / "page.html") as unfinished,
    ):
        unfinished.write_text("half")


@pytest.mark.parametrize("error", [None, FULL, ValueError()])
def test_a_directory_is_replaced_as_a_whole_or_stays(tmp_path, error):
    path = tmp_path / "embeddings.zarr"
    path.mkdir()
    (path / "old").touch()

    def write():
        with atomic_write_directory(path) as unfinished:
            (unfinished / "new").touch()
            if error is not None:
                raise error

    if error is None:
        write()
    else:
        with pytest.raises(UserError if error is FULL else ValueError):
            write()
    assert [entry.name for entry in tmp_path.iterdir()] == ["embeddings.zarr"]
    assert [entry.name for entry in path.iterdir()] == ["new" if error is None else "old"]


def test_a_folder_that_cannot_be_created_is_a_user_error(tmp_path):
    (tmp_path / "file").touch()
    with (
        pytest.raises(UserError, match=r"cannot write .*: (Not a directory|File exists)"),
        atomic_write(tmp_path / "file" / "page.html"),
    ):
        pass


def test_the_last_checkpoint_exists_until_the_next_one_is_complete(tmp_path, monkeypatch):
    """Lightning itself writes to the temporary folder and copies the checkpoint if that is on another disk."""
    path = tmp_path / "last.ckpt"
    checkpoints = AtomicCheckpointIO()
    checkpoints.save_checkpoint({"step": 1}, path)
    replace, replaced = os.replace, []

    def stop(source, target):
        replaced.append((os.path.dirname(source), os.path.dirname(target)))
        assert torch.load(source)["step"] == 2
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", stop)
        with pytest.raises(KeyboardInterrupt):
            checkpoints.save_checkpoint({"step": 2}, path)
    assert replaced == [(str(tmp_path), str(tmp_path))]
    assert torch.load(path)["step"] == 1
    assert os.replace is replace


@pytest.mark.slow
def test_a_run_writes_its_checkpoints_atomically(make_project, tmp_path):
    trainer, _, _ = TrainingCLI("fit", ["--config", str(make_project(tmp_path))], "").make_all()
    assert isinstance(trainer.strategy.checkpoint_io, AtomicCheckpointIO)


@pytest.mark.parametrize(
    ("error", "full"),
    [
        (FULL, True),
        (OSError(errno.EDQUOT, "Disk quota exceeded"), True),
        (RuntimeError("No space left on device (os error 28)"), True),
        (OSError(errno.ENOENT, "No such file or directory"), False),
        (RuntimeError("size mismatch"), False),
    ],
)
def test_a_full_disk_is_recognized_in_every_library(error, full):
    assert is_disk_full(error) is full


@pytest.fixture
def run_limited(make_project, run_viscy_train, tmp_path):
    """A function that runs a command in a project and cannot write files of more than 16 kB; returns its errors."""
    make_project(tmp_path)
    # Python would leave a truncated file of byte code and load it later.
    limit = "import resource; resource.setrlimit(resource.RLIMIT_FSIZE, (2**14, 2**14)); sys.dont_write_bytecode = True"

    def run(*arguments):
        stderr = run_viscy_train(arguments, tmp_path, exit_code=2, before=limit).stderr
        assert "Traceback" not in stderr
        return stderr

    return run


@pytest.mark.slow
def test_a_full_disk_is_a_one_line_error_and_leaves_no_partial_files(run_limited, tmp_path):
    error = run_limited("inspect", "--config", "config.yaml", "--out", "page.html")
    assert error.startswith("viscy-train: error: cannot write page.html: File too large; free some space")
    assert len(error.splitlines()) == 1
    error = run_limited("fit", "--config", "config.yaml")
    assert "last.ckpt: File too large; free some space" in error.splitlines()[-1]
    assert not RunDirectory(tmp_path / "run").last_checkpoint.exists()
    assert list(tmp_path.glob("**/*unfinished*")) == list(tmp_path.glob("**/*.html")) == []
    assert "File too large" in run_limited("demo", "--out", "demo")
    assert not (tmp_path / "demo" / "experiments.yaml").exists()
