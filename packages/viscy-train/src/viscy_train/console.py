"""Terminal: tables that fit into 80 columns, and words for a number of processes."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich import box
from rich.table import Table

if TYPE_CHECKING:
    from collections.abc import Sequence


def make_table(names: Sequence[str], numbers: Sequence[str], sentence: str | None = None) -> Table:
    """Return an empty table.

    Parameters
    ----------
    names : sequence of str
        Headings of the first columns: names, each on one line.
    numbers : sequence of str
        Headings of the last columns, to the right.
    sentence : str, optional
        Heading of a column between them, whose text may go on in the next line.

    Returns
    -------
    rich.table.Table
        To be filled. Where room is short headings become several lines before a name is cut.
    """
    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False)
    for heading in names:
        table.add_column(heading, no_wrap=True)
    if sentence is not None:
        table.add_column(sentence)
    for heading in numbers:
        table.add_column(heading, justify="right", overflow="fold")
    return table


def on_each_of(processes: int) -> str:
    """Return on how many processes something happens, to follow a number; nothing where there is one."""
    return f" on each of {processes} processes" if processes > 1 else ""
