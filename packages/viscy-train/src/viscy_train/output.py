"""Output: a file or directory that a command writes. One process uses it at a time, and it replaces nothing else.

The lock is one of the operating system (`flock`), which ends with the process that holds it, however it ends. Packages
such as filelock empty the lock file when they try to take it, so a second process could not say who holds it.
"""

from __future__ import annotations

import fcntl
import os
import socket
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING

from viscy_train.errors import UserError, kind_of_file, require_regular_file

if TYPE_CHECKING:
    from collections.abc import Callable, Generator
    from pathlib import Path

LOCK = ".viscy-train.lock"
"""Name of the file in a directory that is in use. A killed process leaves it behind, but not the lock on it."""
_LONGEST_HOLDER = 200
# Descriptors of locked files, which a forked child must not keep open: the lock would last until it ends.
_held: set[int] = set()


@dataclass(frozen=True)
class OutputKind:
    """What a command writes to a file, or to a directory that it replaces as a whole.

    Parameters
    ----------
    name : str
        What it is, with an article.
    is_own : callable
        Returns whether a file is an earlier output of this kind.
    is_directory : bool, default False
        Whether it is a directory instead of a file.
    """

    name: str
    is_own: Callable[[Path], bool]
    is_directory: bool = False


def require_replaceable(path: Path, kind: OutputKind) -> None:
    """Refuse to replace a file that is not an earlier output of the same kind. An empty file may be replaced.

    Parameters
    ----------
    path : pathlib.Path
        File to be written, which need not exist. Of a symbolic link, the target counts.
    kind : OutputKind
        What will be written to it.

    Raises
    ------
    UserError
        If there is something else at the path.
    """
    path = follow_links(path)
    if not os.path.lexists(path):
        return
    if kind.is_directory:
        found = kind_of_file(path, kind.name)
        if found != "a directory":
            raise UserError(f"{kind.name} must be a directory, got {found}: {path}; choose another path, or delete it")
    else:
        require_regular_file(path, kind.name)
    is_filled = any(path.iterdir()) if kind.is_directory else path.stat().st_size > 0
    if is_filled and not kind.is_own(path):
        raise UserError(
            f"an output must not replace another file, and {path} is not {kind.name}; choose another path, or delete it"
        )


def follow_links(path: Path) -> Path:
    """Return the target of a symbolic link, which a write replaces instead of the link, or the path itself.

    Raises
    ------
    UserError
        If links form a cycle, or the path is not one.
    """
    try:
        return path.resolve() if path.is_symlink() else path
    except (OSError, RuntimeError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise UserError(f"cannot access {str(path)!r}: {reason}; choose another path") from error


@contextmanager
def claimed(
    path: Path, kind: OutputKind, command: str, on_wait: Callable[[str], None] | None = None
) -> Generator[None]:
    """Keep an output file for this process, and refuse one that must not be replaced.

    Parameters
    ----------
    path : pathlib.Path
        File that the block writes.
    kind : OutputKind
        What it writes.
    command : str
        Name of the command, for the message that another process shows.
    on_wait : callable, optional
        If another process writes the file, wait for it instead of raising an error, and call this with a sentence
        that says so.

    Raises
    ------
    UserError
        If another process writes the file, or if it is not an earlier output of the same kind.
    """
    path = follow_links(path)
    require_replaceable(path, kind)
    with _locked(path.parent, f".{path.name}{LOCK}", path, command, on_wait):
        require_replaceable(path, kind)  # another process may have just written it
        yield


@contextmanager
def in_use(directory: Path, command: str) -> Generator[None]:
    """Keep an output directory for this process. It is created if necessary, and removed again if it stays empty.

    Parameters
    ----------
    directory : pathlib.Path
        Directory that the block writes to.
    command : str
        Name of the command, for the message that another process shows.

    Raises
    ------
    UserError
        If another process uses the directory; the message names its host and process.
    """
    with _locked(directory, LOCK, directory, command):
        yield


@contextmanager
def one_at_a_time(path: Path) -> Generator[None]:
    """Keep a file or directory of a cache for this process, after waiting for another process that keeps it.

    Parameters
    ----------
    path : pathlib.Path
        What the block writes, if it does not exist yet. The lock is next to it.
    """
    with _locked(path.parent, f".{path.name.lstrip('.')}{LOCK}", path, "start", lambda _: None):
        yield


@contextmanager
def _locked(
    directory: Path, name: str, output: Path, command: str, on_wait: Callable[[str], None] | None = None
) -> Generator[None]:
    """Hold a lock on a file in a directory.

    A directory that cannot be created or written to is not locked, and neither is one on a file system without locks:
    the command reports the former when it writes.
    """
    with ExitStack() as stack:
        try:
            stack.enter_context(_created(directory))
            stack.enter_context(_lock_file(directory / name, output, command, on_wait))
        except UserError:
            raise
        except (OSError, ValueError):
            pass
        yield


@contextmanager
def _created(directory: Path) -> Generator[None]:
    """Create a directory and its parents, and remove those that were created and are still empty."""
    missing = [parent for parent in (directory, *directory.parents) if not parent.exists()]
    directory.mkdir(parents=True, exist_ok=True)
    try:
        yield
    finally:
        with suppress(OSError):
            for parent in missing:
                parent.rmdir()


@contextmanager
def _lock_file(path: Path, output: Path, command: str, on_wait: Callable[[str], None] | None) -> Generator[None]:
    descriptor = _take(path, output, on_wait)
    _held.add(descriptor)
    owner = os.getpid()
    with suppress(OSError):
        os.ftruncate(descriptor, 0)
        os.write(descriptor, f"`viscy-train {command}`, process {owner} on {socket.gethostname()}".encode())
    try:
        yield
    finally:
        if os.getpid() == owner:  # not in a child
            with suppress(OSError):
                path.unlink(missing_ok=True)
            _held.discard(descriptor)
            os.close(descriptor)


def _take(path: Path, output: Path, on_wait: Callable[[str], None] | None) -> int:
    """Return a descriptor of a locked file."""
    while True:
        descriptor = _open(path)
        try:
            _lock(descriptor, output, on_wait)
            # The process that held the lock before may have deleted the file in between.
            if path.exists() and os.path.samestat(os.fstat(descriptor), os.stat(path)):
                return descriptor
        except BaseException:
            os.close(descriptor)
            raise
        os.close(descriptor)


def _lock(descriptor: int, output: Path, on_wait: Callable[[str], None] | None) -> None:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        holder = " ".join(os.pread(descriptor, _LONGEST_HOLDER, 0).decode("utf-8", "replace").split())
        used = f"{output} is in use by {holder or 'another process'}"
        if on_wait is None:
            raise UserError(f"{used}; wait until it has ended, or choose another output") from None
        on_wait(f"{used}; waiting until it has ended")
        fcntl.flock(descriptor, fcntl.LOCK_EX)


def _open(path: Path) -> int:
    try:
        return os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK, 0o666)
    except PermissionError:  # another user's process was killed
        return os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)


def _close_in_child() -> None:
    for descriptor in _held:
        with suppress(OSError):
            os.close(descriptor)
    _held.clear()


os.register_at_fork(after_in_child=_close_in_child)
