"""Problems: everything that does not fit in a project, told at once."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

from viscy_train.errors import ProjectError, UserError

if TYPE_CHECKING:
    from collections.abc import Generator

_POSITIONS_NAMED = 3


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
