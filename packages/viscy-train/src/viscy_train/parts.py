"""Parts: the shares of the work of a command, each for one task of an array of jobs."""

from __future__ import annotations

from viscy_train.config.checks import require

type Part = tuple[int, int]
"""Number of a part, from 1, and number of parts."""


def parse_part(text: str) -> Part:
    """Return number and count of a part, such as ``2/8``.

    Raises
    ------
    UserError
        If it is not one.
    """
    number, _, n_parts = text.partition("/")
    values = [int(one) if one.isascii() and one.isdigit() else 0 for one in (number, n_parts)]
    require(1 <= values[0] <= values[1], "--part must be I/N with I from 1 to N, such as 2/8", text)
    return values[0], values[1]


def is_in_part(number: int, part: Part) -> bool:
    """Return whether a part has an item, given the number of the item, from 0: each has every n-th one."""
    return number % part[1] == part[0] - 1
