"""User errors: what the person at the keyboard can put right, one of them or all that were found at once."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Generator

_POSITIONS_NAMED = 3


class UserError(ValueError):
    """A mistake in what was asked for: a file, a name, an option.

    The command line prints the message as one line and exits with code 2. Anything else that is raised is a bug of the
    program and keeps its traceback.

    Parameters
    ----------
    message : str
        What is wrong and what to do. Of one that a data loader passes on from a worker, with the worker's traceback in
        its message, what the worker said is kept.
    """

    def __init__(self, message: str) -> None:
        lines = message.splitlines()
        if len(lines) > 1 and lines[0].startswith(f"Caught {type(self).__name__} in DataLoader worker process"):
            message = lines[-1].partition(f"{type(self).__name__}: ")[2]
        super().__init__(message)


class ProjectError(UserError):
    """All that does not fit in a project.

    Parameters
    ----------
    problems : list of str
        A line for each.
    """

    def __init__(self, problems: list[str]) -> None:
        self.problems = problems
        lines = problems if len(problems) == 1 else [f"{len(problems)} things do not fit:", *problems]
        super().__init__("\n  ".join(lines))


class Problems:
    """Collect errors of users instead of stopping at the first; those of several positions become one line."""

    def __init__(self) -> None:
        self._found: dict[tuple[str, str], tuple[str, list[str]]] = {}

    @contextmanager
    def collected(self, subject: str, position: str = "") -> Generator[None]:
        """Collect what is raised as `UserError`, and go on after the block.

        Parameters
        ----------
        subject : str
            What it is about, such as the experiment.
        position : str
            Where, if at one position: messages that differ in the position alone are told together.
        """
        try:
            yield
        except ProjectError as error:
            for problem in error.problems:
                self.add(subject, problem, position)
        except UserError as error:
            self.add(subject, str(error), position)

    def add(self, subject: str, message: str, position: str = "") -> None:
        """Add one."""
        alike = message.replace(position, "\0") if position else message
        self._found.setdefault((subject, alike), (message, []))[1].append(position)

    def lines(self) -> list[str]:
        """Return a line for each, in the order in which they came."""
        return [_line(subject, message, more) for (subject, _), (message, (_, *more)) in self._found.items()]

    def raise_any(self) -> None:
        """Raise them.

        Raises
        ------
        ProjectError
            If there are any.
        """
        if self._found:
            raise ProjectError(self.lines())


def _line(subject: str, message: str, more: list[str]) -> str:
    line = f"{subject}: {message}"
    if not more:
        return line
    named = ", ".join(more[:_POSITIONS_NAMED]) + (", ..." if len(more) > _POSITIONS_NAMED else "")
    return f"{line}; likewise {len(more)} more: {named}"
