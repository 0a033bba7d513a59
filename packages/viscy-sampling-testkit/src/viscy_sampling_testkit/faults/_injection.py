"""Injection: makes Python's own file functions fail for the files of one folder, from the moment when a file appears.

This file is loaded by its path into the processes of a training run, before anything else, so it imports the standard
library only. Whatever reads or writes files without Python's functions, such as a library in C++, is not affected.
"""

from __future__ import annotations

import builtins
import io
import json
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

VARIABLE = "VISCY_FAULTS_INJECTION"
_SITE = """
import importlib.machinery, importlib.util, os, sys
sys.path[:] = [path for path in sys.path if path != {folder!r}]
spec = importlib.util.spec_from_file_location("viscy_faults_injection", {file!r})
injection = importlib.util.module_from_spec(spec)
spec.loader.exec_module(injection)
injection.install(os.environ)
# The file of this name that Python would have loaded otherwise.
found = importlib.machinery.PathFinder.find_spec("sitecustomize", sys.path)
if found is not None:
    sys.modules["sitecustomize"] = importlib.util.module_from_spec(found)
    found.loader.exec_module(sys.modules["sitecustomize"])
"""


class Injection:
    """Failing reads or writes of the files in a folder.

    Parameters
    ----------
    kind : {"read", "write"}
        What fails.
    folder : str
        The folder.
    trigger : str
        Once this file exists, the operations fail. It contains how many of them still succeed in each process.
    error : int
        The error number.
    """

    def __init__(self, kind: str, folder: str, trigger: str, error: int) -> None:
        self.kind, self.trigger, self.error = kind, trigger, error
        self.folder = os.path.realpath(folder)
        self.n_operations = 0

    def environment(self, scratch: Path) -> dict[str, str]:
        """Return the variables for the processes of a run; `scratch` receives a file that Python loads at its start."""
        (scratch / "sitecustomize.py").write_text(_SITE.format(folder=str(scratch), file=__file__))
        paths = [str(scratch), *filter(None, [os.environ.get("PYTHONPATH")])]
        options = [self.kind, self.folder, self.trigger, self.error]
        return {"PYTHONPATH": os.pathsep.join(paths), VARIABLE: json.dumps(options)}

    def start(self, n_operations: int) -> None:
        """Let the operations fail once another number of them has succeeded in a process."""
        unfinished = Path(f"{self.trigger}.unfinished")
        unfinished.write_text(str(n_operations))
        unfinished.replace(self.trigger)

    def has_failed(self) -> bool:
        """Return whether an operation has failed in any process."""
        return os.path.exists(f"{self.trigger}.failed")

    def check(self, kind: str, path: Any) -> None:
        """Raise the error if an operation of this kind on a path must fail now."""
        if kind == self.kind and self.concerns(path) and self._is_triggered():
            self._note()
            name = [] if isinstance(path, int) else [os.fspath(path)]
            raise OSError(self.error, os.strerror(self.error), *name)

    def concerns(self, path: Any) -> bool:
        """Return whether a path, or an open file given by its number, is in the folder."""
        try:
            name = os.readlink(f"/proc/self/fd/{path}") if isinstance(path, int) else os.fsdecode(path)
        except (OSError, TypeError, ValueError):
            return False
        name = name if os.path.isabs(name) else os.path.join(os.getcwd(), name)
        return os.path.realpath(name).startswith(f"{self.folder}{os.sep}")

    def _is_triggered(self) -> bool:
        try:
            number = _open_number(self.trigger, os.O_RDONLY)
        except FileNotFoundError:
            return False
        allowed = int(_read(number, 100))
        os.close(number)
        self.n_operations += 1
        return self.n_operations > allowed

    def _note(self) -> None:
        os.close(_open_number(f"{self.trigger}.failed", os.O_WRONLY | os.O_CREAT))


# The functions as they are before any is replaced.
_open, _open_number, _read = io.open, os.open, os.read


def install(environment: Mapping[str, str]) -> None:
    """Replace Python's file functions if an environment says so."""
    if VARIABLE not in environment:
        return
    injection = Injection(*json.loads(environment[VARIABLE]))
    make_file = _file_class(injection)
    builtins.open = io.open = _opener(injection, make_file)  # ty: ignore[invalid-assignment]
    os.open = _number_opener(injection)  # ty: ignore[invalid-assignment]
    for kind, names in {"read": _READS, "write": _WRITES}.items():
        for name in filter(lambda name: hasattr(os, name), names):
            setattr(os, name, _checked(injection, kind, name))


_READS = ("read", "pread", "readv", "preadv")
_WRITES = ("write", "pwrite", "writev", "pwritev", "fsync", "fdatasync", "ftruncate", "truncate", "mkdir", "symlink")


def _checked(injection: Injection, kind: str, name: str) -> Callable[..., Any]:
    """Return a function of `os` that fails like a full or damaged disk; its first argument, or second, is the file."""
    function = getattr(os, name)
    index = 1 if name == "symlink" else 0

    def call(*args: Any, **options: Any) -> Any:
        if len(args) > index:
            injection.check(kind, args[index])
        return function(*args, **options)

    return call


def _number_opener(injection: Injection) -> Callable[..., int]:
    def call(path: Any, flags: int, *args: Any, **options: Any) -> int:
        is_written = flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT)
        injection.check("write" if is_written else "read", path)
        return _open_number(path, flags, *args, **options)

    return call


def _file_class(injection: Injection) -> type[io.FileIO]:
    """Return a class of unbuffered files that are checked."""

    class CheckedFile(io.FileIO):
        def write(self, *args: Any) -> Any:
            injection.check("write", self.name)
            return super().write(*args)

        def truncate(self, *args: Any) -> Any:
            injection.check("write", self.name)
            return super().truncate(*args)

        def read(self, *args: Any) -> Any:
            injection.check("read", self.name)
            return super().read(*args)

        def readall(self) -> Any:
            injection.check("read", self.name)
            return super().readall()

        def readinto(self, *args: Any) -> Any:
            injection.check("read", self.name)
            return super().readinto(*args)

    return CheckedFile


def _opener(injection: Injection, make_file: type[io.FileIO]) -> Callable[..., Any]:
    """Return a replacement of `open`: files in the folder are checked when they are opened, read and written."""

    def call(
        file: Any,
        mode: str = "r",
        buffering: int = -1,
        encoding: str | None = None,
        errors: str | None = None,
        newline: str | None = None,
        closefd: bool = True,
        opener: Any = None,
    ) -> Any:
        if not injection.concerns(file):
            return _open(file, mode, buffering, encoding, errors, newline, closefd, opener)
        if not isinstance(file, int):
            injection.check("write" if set(mode) & set("wax+") else "read", file)
        raw = make_file(file, mode.replace("b", "").replace("t", ""), closefd, opener)
        return _wrap(raw, mode, buffering, encoding, errors, newline)

    return call


def _wrap(
    raw: io.FileIO, mode: str, buffering: int, encoding: str | None, errors: str | None, newline: str | None
) -> Any:
    """Return a buffered or a text file, as `open` does."""
    if buffering == 0:
        return raw
    size = buffering if buffering > 1 else io.DEFAULT_BUFFER_SIZE
    make_buffer = io.BufferedRandom if "+" in mode else io.BufferedReader if "r" in mode else io.BufferedWriter
    buffered = make_buffer(raw, size)
    if "b" in mode:
        return buffered
    text = io.TextIOWrapper(buffered, encoding, errors, newline, line_buffering=buffering == 1)
    text.mode = mode  # ty: ignore[invalid-assignment]
    return text
