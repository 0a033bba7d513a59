"""User errors: mistakes that the user can correct, raised one at a time or collected into one error."""

from __future__ import annotations

import os
import stat
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Generator
    from pathlib import Path

_MAX_POSITIONS = 3
_KINDS = {
    stat.S_IFREG: "a file",
    stat.S_IFDIR: "a directory",
    stat.S_IFIFO: "a named pipe",
    stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
}


class UserError(ValueError):
    """A mistake in a file, a name or an option that the user can correct.

    The command line prints the message as one line and exits with code 2. Any other exception is a bug in the program
    and keeps its traceback.

    Parameters
    ----------
    message : str
        What is wrong and how to correct it. If a data loader re-raises the error of a worker process, its message
        contains the worker's traceback; only the original message is kept.

    Attributes
    ----------
    keys : tuple of str
        Where in a file of nested keys the mistake is, as far as that is known; see `at_key`.
    reason : str, optional
        What is wrong, in a few words that name neither the place nor the remedy, as far as that is known.
    """

    keys: tuple[str, ...] = ()
    reason: str | None = None

    def __init__(self, message: str) -> None:
        lines = message.splitlines()
        if len(lines) > 1 and lines[0].startswith(f"Caught {type(self).__name__} in DataLoader worker process"):
            message = lines[-1].partition(f"{type(self).__name__}: ")[2]
        super().__init__(message)


class NoTracksError(UserError):
    """A position has no tracks: no file, or one without rows."""


class ProjectError(UserError):
    """All the problems that were found in a project.

    Parameters
    ----------
    problems : list of str
        One line per problem.
    """

    def __init__(self, problems: list[str]) -> None:
        self.problems = problems
        lines = problems if len(problems) == 1 else [f"found {len(problems)} problems:", *problems]
        super().__init__("\n  ".join(lines))


def because(reason: str, message: str) -> UserError:
    """Return a `UserError` with its reason."""
    error = UserError(message)
    error.reason = reason
    return error


def one_line(error: BaseException) -> str:
    """Return the message of a library's error on one line, or its type if it has none."""
    return " ".join(str(error).split()) or type(error).__name__


@contextmanager
def at_key(*keys: str) -> Generator[None]:
    """Note in a `UserError` of the block below which keys the mistake is, from the outermost to the innermost."""
    try:
        yield
    except UserError as error:
        error.keys = (*keys, *error.keys)
        raise


class Problems:
    """Collect user errors instead of stopping at the first one.

    A problem that several positions share is reported on one line.
    """

    def __init__(self) -> None:
        self._positions_by_problem: dict[tuple[str, str], tuple[str, list[str]]] = {}

    def __bool__(self) -> bool:
        """Return whether there are problems."""
        return bool(self._positions_by_problem)

    @contextmanager
    def collected(self, subject: str, position: str = "") -> Generator[None]:
        """Collect a `UserError` that the block raises, and continue after the block.

        Parameters
        ----------
        subject : str
            What the block checks, such as an experiment.
        position : str
            Position of the plate, if the block checks one. Messages that differ only in the position share a line.
        """
        try:
            yield
        except UserError as error:
            self.add_error(subject, error, position)

    def add_error(self, subject: str, error: UserError, position: str = "") -> None:
        """Add the problems of an error, see `collected`."""
        for problem in error.problems if isinstance(error, ProjectError) else [str(error)]:
            self.add(subject, problem, position)

    def add(self, subject: str, message: str, position: str = "") -> None:
        """Add a problem."""
        without_position = message.replace(position, "\0") if position else message
        self._positions_by_problem.setdefault((subject, without_position), (message, []))[1].append(position)

    def lines(self) -> list[str]:
        """Return one line per problem, in the order in which they were found."""
        return [
            _format_line(subject, message, other_positions)
            for (subject, _), (message, (_, *other_positions)) in self._positions_by_problem.items()
        ]

    def raise_any(self) -> None:
        """Raise the collected problems.

        Raises
        ------
        ProjectError
            If there are any.
        """
        if self._positions_by_problem:
            raise ProjectError(self.lines())


def require_regular_file(path: Path | str, what: str) -> None:
    """Refuse a path that opening would block on, or that is not a file; accept one that does not exist.

    Parameters
    ----------
    path : path
        File that is about to be read. A symbolic link stands for its target.
    what : str
        What the file is, for the error message.

    Raises
    ------
    UserError
        If the path is a directory, named pipe, socket or device, or cannot be accessed.
    """
    kind = kind_of_file(path, what)
    if kind not in (None, "a file"):
        raise UserError(f"{what} must be a regular file, got {kind}: {path}")


def kind_of_file(path: Path | str, what: str) -> str | None:
    """Return what a path is, such as ``a file`` or ``a directory``, without opening it; None if it does not exist.

    Parameters
    ----------
    path : path
        The path. A symbolic link stands for its target.
    what : str
        What the file is, for the error message.

    Raises
    ------
    UserError
        If the path cannot be accessed.
    """
    try:
        mode = (os.stat(path) if isinstance(path, str) else path.stat()).st_mode
    except (FileNotFoundError, NotADirectoryError):
        return None
    except UserError:
        raise
    except (OSError, ValueError) as error:
        raise UserError(f"cannot access {what} {str(path)!r}: {error}") from error
    return _KINDS.get(stat.S_IFMT(mode), "a special file")


def _format_line(subject: str, message: str, other_positions: list[str]) -> str:
    line = f"{subject}: {message}"
    if not other_positions:
        return line
    names = ", ".join(other_positions[:_MAX_POSITIONS]) + (", ..." if len(other_positions) > _MAX_POSITIONS else "")
    return f"{line}; the same in {len(other_positions)} more: {names}"
