"""Python's file functions fail for one folder once they are triggered, and work as usual before and elsewhere."""

import errno
import os
import subprocess
import sys

import pytest

from viscy_sampling_testkit.faults._injection import Injection

OPERATIONS = """
import io, os, pathlib, shutil, sys
inside = pathlib.Path(sys.argv[1])
opened = (inside / "opened").open("w")
number = os.open(inside / "number", os.O_CREAT | os.O_RDWR)
trigger = pathlib.Path(sys.argv[2])
def go():
    trigger.write_text("0")
def write_opened():
    opened.write("x" * 100_000)
def write_numbered():
    os.write(number, b"x")
writes = {
    "open": lambda: open(inside / "a", "w"),
    "append": lambda: io.open(inside / "text", "a").write("x"),
    "path": lambda: (inside / "text").write_bytes(b"x"),
    "relative": lambda: open("relative", "wb"),
    "opened before": write_opened,
    "numbered": write_numbered,
    "os.open": lambda: os.open(inside / "b", os.O_CREAT | os.O_WRONLY),
    "fsync": lambda: os.fsync(number),
    "mkdir": lambda: (inside / "folder").mkdir(),
    "copy": lambda: shutil.copyfile(inside / "text", inside / "copy"),
}
reads = {
    "open": lambda: open(inside / "text"),
    "binary": lambda: open(inside / "text", "rb", buffering=0).read(),
    "path": lambda: (inside / "text").read_text(),
    "os.open": lambda: os.open(inside / "text", os.O_RDONLY),
    "os.read": lambda: os.read(number, 5),
    "opened before": reader.read if (reader := (inside / "text").open("rb")) else None,
}
os.chdir(inside)
go()
for name, action in (writes if sys.argv[3] == "write" else reads).items():
    try:
        action()
        print(name, "works")
    except OSError as error:
        print(name, error.errno)
(trigger.parent / "elsewhere").write_text("x")
assert (trigger.parent / "elsewhere").read_text() == "x"
os._exit(0 if sys.stdout.flush() is None else 1)
"""


@pytest.fixture
def make_injection(tmp_path):
    """Return a function that makes an injection for the folder `inside`, which contains a file."""
    inside = tmp_path / "inside"
    inside.mkdir()
    (inside / "text").write_text("some text\nand more\n")
    return lambda kind, error=errno.EIO: Injection(kind, str(inside), str(tmp_path / "trigger"), error)


def run(injection, scratch, code, *arguments):
    scratch.mkdir(exist_ok=True)
    env = os.environ | injection.environment(scratch)
    command = [sys.executable, "-c", code, *map(str, arguments)]
    return subprocess.run(command, env=env, capture_output=True, text=True, check=True).stdout.splitlines()


@pytest.mark.parametrize("kind", ["write", "read"])
def test_every_operation_fails_once_it_is_triggered(make_injection, tmp_path, kind):
    injection = make_injection(kind)
    lines = run(injection, tmp_path / "scratch", OPERATIONS, tmp_path / "inside", tmp_path / "trigger", kind)
    assert len(lines) >= 6
    assert {line.rsplit(" ", 1)[1] for line in lines} == {str(errno.EIO)}, lines
    assert injection.has_failed()


@pytest.mark.parametrize("mode", ["r", "rb", "r+", "rb+", "w", "wb", "a", "x"])
def test_files_are_as_usual_before(make_injection, tmp_path, mode):
    code = (
        "import sys; file = open(sys.argv[1], sys.argv[2]); "
        "print(type(file).__name__, file.mode, file.name == sys.argv[1], file.readable(), file.writable()); "
        "print(repr(file.read())) if file.readable() else file.write(b'x' if 'b' in sys.argv[2] else 'x')"
    )
    path = tmp_path / "inside" / ("new" if mode == "x" else "text")
    observed = run(make_injection("write"), tmp_path / "scratch", code, path, mode)
    path.unlink(missing_ok=True)
    if mode != "x":
        path.write_text("some text\nand more\n")
    expected = subprocess.run([sys.executable, "-c", code, path, mode], capture_output=True, text=True, check=True)
    assert observed == expected.stdout.splitlines()


def test_a_number_of_operations_still_succeeds(make_injection, tmp_path):
    injection = make_injection("read")
    injection.start(2)
    code = "import sys\nfor _ in range(3):\n    print(len(open(sys.argv[1], 'rb', buffering=0).read(1)), flush=True)"
    with pytest.raises(subprocess.CalledProcessError) as failure:
        run(injection, tmp_path / "scratch", code, tmp_path / "inside" / "text")
    assert failure.value.stdout == "1\n"
    assert "Input/output error" in failure.value.stderr


def test_another_sitecustomize_is_loaded_too(make_injection, tmp_path, monkeypatch):
    (tmp_path / "site").mkdir()
    (tmp_path / "site" / "sitecustomize.py").write_text("print('loaded')")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path / "site"))
    code = "import sitecustomize, sys; print(sitecustomize.__file__ == sys.argv[1])"
    injection = make_injection("read")
    lines = run(injection, tmp_path / "scratch", code, tmp_path / "site" / "sitecustomize.py")
    assert lines == ["loaded", "True"]
