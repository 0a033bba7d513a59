"""Outputs are used by one process at a time, and replace nothing else."""

import os
import signal
import socket
import subprocess
import sys
import threading

import pytest

from viscy_train.atomic import atomic_write
from viscy_train.errors import UserError
from viscy_train.output import LOCK, OutputKind, claimed, follow_links, in_use, require_replaceable

NOTE = OutputKind("a note", lambda path: path.read_text().startswith("note"))
HOLDER = """
import os, sys, time
from pathlib import Path
from viscy_train.output import in_use
with in_use(Path(sys.argv[1]), "fit"):
    child = -1
    if len(sys.argv) > 2:
        runs, started = os.pipe()
        child = os.fork()
        # A child that has not run yet still holds the lock.
        os.write(started, b".") if child == 0 else os.read(runs, 1)
    if child != 0:
        print(os.getpid(), child, flush=True)
    time.sleep(10_000)
"""


@pytest.fixture
def hold(tmp_path):
    """Start a process that uses a directory, with a forked child if asked; return the process and both ids."""
    started = []

    def start(directory, *fork):
        process = subprocess.Popen(
            [sys.executable, "-c", HOLDER, str(directory), *fork], stdout=subprocess.PIPE, text=True
        )
        started.append(process)
        assert process.stdout is not None
        parent, child = map(int, process.stdout.readline().split())
        started.append(child)
        return process, parent

    yield start
    for one in started:
        if isinstance(one, int):
            if one > 0:
                os.kill(one, signal.SIGKILL)
        else:
            one.kill()
            one.wait()
            one.stdout.close()


def test_a_directory_in_use_is_refused_with_the_process_that_uses_it(hold, tmp_path):
    _, process = hold(tmp_path / "run")
    with pytest.raises(UserError) as error, in_use(tmp_path / "run", "fit"):
        pass
    assert str(error.value) == (
        f"{tmp_path / 'run'} is in use by `viscy-train fit`, process {process} on {socket.gethostname()}; wait until "
        "it has ended, or choose another output"
    )


@pytest.mark.parametrize("fork", [[], ["fork"]])
def test_a_killed_process_does_not_keep_its_directory(hold, tmp_path, fork):
    """Not even if a data worker that it has forked is still running."""
    process, _ = hold(tmp_path / "run", *fork)
    process.kill()
    process.wait()
    assert (tmp_path / "run" / LOCK).exists()
    with in_use(tmp_path / "run", "fit"):
        pass
    assert not (tmp_path / "run").exists() or not list((tmp_path / "run").iterdir())


def test_a_directory_can_be_used_again_after_an_error(tmp_path):
    with pytest.raises(KeyError), in_use(tmp_path, "fit"):
        raise KeyError
    with in_use(tmp_path, "fit"), pytest.raises(UserError, match="is in use by"), in_use(tmp_path, "fit"):
        pass
    assert list(tmp_path.iterdir()) == []


def test_a_directory_that_stays_empty_is_removed(tmp_path):
    with in_use(tmp_path / "a" / "b", "fit"):
        assert (tmp_path / "a" / "b").is_dir()
    assert list(tmp_path.iterdir()) == []
    with in_use(tmp_path / "a" / "b", "fit"):
        (tmp_path / "a" / "file").touch()
    assert [path.name for path in (tmp_path / "a").iterdir()] == ["file"]


def test_another_path_to_a_directory_in_use_is_refused(tmp_path):
    (tmp_path / "link").symlink_to(tmp_path / "run", target_is_directory=True)
    (tmp_path / "run").mkdir()
    with in_use(tmp_path / "run", "fit"), pytest.raises(UserError, match="is in use"), in_use(tmp_path / "link", "fit"):
        pass


@pytest.mark.parametrize("path", ["file/run", "file", "\0"])
def test_a_directory_that_cannot_be_created_is_left_to_whoever_writes_to_it(tmp_path, path):
    (tmp_path / "file").touch()
    with in_use(tmp_path / path, "fit"):
        pass


def test_a_lock_file_that_cannot_be_written_to_is_taken(hold, tmp_path):
    """One that a killed process of another user has left."""
    (tmp_path / LOCK).touch(mode=0o444)
    with in_use(tmp_path, "fit"), pytest.raises(UserError, match="is in use"), in_use(tmp_path, "fit"):
        pass


def test_two_processes_cannot_write_a_file_at_the_same_time(tmp_path):
    path = tmp_path / "new" / "note.txt"
    with claimed(path, NOTE, "index"):
        with pytest.raises(UserError, match="is in use by `viscy-train index`"), claimed(path, NOTE, "index"):
            pass
        with claimed(path.with_name("other.txt"), NOTE, "index"):
            pass
    assert not path.parent.exists()


def test_a_process_can_wait_until_a_file_is_free(tmp_path):
    path, said, waiting = tmp_path / "note.txt", [], threading.Event()

    def wait():
        with claimed(path, NOTE, "fit", on_wait=lambda text: (said.append(text), waiting.set())):
            said.append(path.read_text())

    thread = threading.Thread(target=wait)
    with claimed(path, NOTE, "report"):
        thread.start()
        assert waiting.wait(600)
        path.write_text("note")
    thread.join(600)
    assert said[1:] == ["note"]
    assert said[0].startswith(f"{path} is in use by `viscy-train report`, process ")


def test_only_an_earlier_output_of_the_same_kind_is_replaced(tmp_path):
    path = tmp_path / "note.txt"
    require_replaceable(path, NOTE)
    for text in ("", "note 1"):
        path.write_text(text)
        require_replaceable(path, NOTE)
    path.write_text("something else")
    message = rf"an output must not replace another file, and {path} is not a note; choose another path"
    with pytest.raises(UserError, match=message):
        require_replaceable(path, NOTE)
    with pytest.raises(UserError, match=message), claimed(path, NOTE, "index"):
        pass
    assert [file.name for file in tmp_path.iterdir()] == ["note.txt"]


def test_what_is_not_a_file_is_not_replaced(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "directory").mkdir()
    for path, what in ((tmp_path / "pipe", "a named pipe"), (tmp_path / "directory", "a directory")):
        with pytest.raises(UserError, match=f"a note must be a regular file, got {what}"):
            require_replaceable(path, NOTE)
    with pytest.raises(UserError, match="a note must be a regular file, got a device"):
        require_replaceable(follow_links(tmp_path / "/dev/null"), NOTE)


def test_of_a_symbolic_link_the_target_counts_and_is_replaced(tmp_path):
    target, link = tmp_path / "elsewhere" / "note.txt", tmp_path / "link"
    link.symlink_to(target)
    target.parent.mkdir()
    for text in ("note 1", "note 2"):  # the link is broken at first
        with claimed(link, NOTE, "index"), atomic_write(link) as unfinished:
            unfinished.write_text(text)
        assert link.is_symlink()
        assert target.read_text() == text
    target.write_text("an input")
    with pytest.raises(UserError, match="is not a note"):
        require_replaceable(link, NOTE)


def test_a_cycle_of_links_is_a_user_error(tmp_path):
    (tmp_path / "a").symlink_to(tmp_path / "b")
    (tmp_path / "b").symlink_to(tmp_path / "a")
    with pytest.raises(UserError, match=r"cannot access .*; choose another path"):
        require_replaceable(tmp_path / "a", NOTE)
