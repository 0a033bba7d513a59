"""Terminal: tables that fit into 80 columns, and words for a number of processes."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich import box
from rich.table import Table

if TYPE_CHECKING:
    from collections.abc import Sequence


def make_table(texts: Sequence[str], numbers: Sequence[str]) -> Table:
    """Return an empty table.

    Parameters
    ----------
    texts : sequence of str
        Headings of the first columns, to the left.
    numbers : sequence of str
        Headings of the others, to the right.

    Returns
    -------
    rich.table.Table
        To be filled; a value that is too long goes on in the next line and is never cut.
    """
    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False)
    for heading in texts:
        table.add_column(heading, overflow="fold")
    for heading in numbers:
        table.add_column(heading, justify="right", overflow="fold")
    return table


def on_each_of(processes: int) -> str:
    """Return on how many processes something happens, to follow a number; nothing where there is one."""
    return f" on each of {processes} processes" if processes > 1 else ""
