"""Step file: a CSV that grows by a line a step, and is cut where a run goes on; its first column is ``step``."""

from __future__ import annotations

from typing import TYPE_CHECKING

from viscy_train.atomic import atomic_write

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

# Longer than most lines, to find the last one without reading a file of gigabytes.
_TAIL = 2**18


def whole_lines(path: Path) -> Iterator[str]:
    """Yield the lines after the header that were written to their end.

    Parameters
    ----------
    path : pathlib.Path
        The file; one that is missing has no lines.

    Yields
    ------
    str
        A line that begins with a step. What a process that was killed left of its last line is left out.
    """
    if not path.is_file():
        return
    with path.open("rb") as file:
        for number, line in enumerate(file):
            if number and _step_of(line) is not None:
                yield line.decode("utf-8")


def header_of(path: Path) -> str | None:
    """Return the first line, or None where there is none that is whole."""
    if not path.is_file():
        return None
    with path.open("rb") as file:
        line = file.readline()
    return line.decode("utf-8") if line.endswith(b"\n") else None


def last_step(path: Path) -> int | None:
    """Return the step of the last whole line, or None where there is none."""
    if not path.is_file():
        return None
    size, tail = path.stat().st_size, _TAIL
    with path.open("rb") as file:
        while True:
            file.seek(max(size - tail, 0))
            # Of what may begin in the middle of a line the first is left out.
            lines = file.read().splitlines(keepends=True)[tail < size :]
            steps = [step for line in lines[::-1] if (step := _step_of(line)) is not None]
            if steps or tail >= size:
                return steps[0] if steps else None
            tail *= 2


def cut(path: Path, step: int) -> None:
    """Forget all lines from a step on, and a last line that is not whole.

    Parameters
    ----------
    path : pathlib.Path
        The file; nothing is done where it is missing. At every moment it is there as it was or as it is to be.
    step : int
        First step to be forgotten.
    """
    header = header_of(path)
    if header is None:
        path.unlink(missing_ok=True)
        return
    rewrite(path, header, (line for line in whole_lines(path) if int(line.split(",", 1)[0]) < step))


def rewrite(path: Path, header: str, lines: Iterator[str]) -> None:
    """Replace a file by a header and lines, all ending in a newline, in one go."""
    with atomic_write(path) as unfinished, unfinished.open("w", newline="", encoding="utf-8") as file:
        file.write(header)
        file.writelines(lines)


def _step_of(line: bytes) -> int | None:
    """Return the step that a line begins with, or None where it is not whole."""
    step, comma, _ = line.partition(b",")
    return int(step) if comma and line.endswith(b"\n") and step.isdigit() else None
