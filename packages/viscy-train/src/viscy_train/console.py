"""Console: the one place where viscy-train prints, with progress bars and tables that fit into 80 columns."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, Any

from rich import box
from rich.console import Console
from rich.table import Table

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence


MAX_ROWS = 40
"""Number of rows that a table of strata shows, of which a screen has tens of thousands."""


def make_console(**options: Any) -> Console:
    """Return a console that prints text literally.

    Parameters
    ----------
    **options
        Passed to `rich.console.Console`, for example ``file`` and ``width`` in a test.

    Returns
    -------
    rich.console.Console
        Without markup, emoji codes and syntax highlighting, because a path or a name may contain ``[b]`` or ``:x:``.
        Long lines are not wrapped, so that a path can be copied.
    """
    return Console(markup=False, emoji=False, highlight=False, soft_wrap=True, **options)


@cache
def get_console() -> Console:
    """Return the console of this process, which writes to the current `sys.stdout`."""
    return make_console()


def say(text: str) -> None:
    """Print a line of text on the console of this process."""
    get_console().print(text)


def track[T](
    items: Iterable[T], description: str, console: Console | None = None, total: int | None = None
) -> Iterable[T]:
    """Yield items and show a progress bar, on a terminal only.

    Parameters
    ----------
    items : iterable
        Items to yield.
    description : str
        Text to the left of the bar.
    console : rich.console.Console, optional
        The console of this process by default.
    total : int, optional
        Number of items, by default their length.

    Returns
    -------
    iterable
        The same items. The bar disappears after the last one.
    """
    console = console or get_console()
    if not console.is_terminal:
        return items
    from rich import progress  # takes longer to import than all that is printed

    options: dict[str, Any] = {"console": console, "transient": True}
    return progress.track(items, f"  {description}", total=total, **options)


def make_table(names: Sequence[str], numbers: Sequence[str], sentence: str | None = None) -> Table:
    """Return an empty table to fill and print.

    Parameters
    ----------
    names : sequence of str
        Headings of the first columns, which hold names that are not wrapped.
    numbers : sequence of str
        Headings of the last columns, which are aligned to the right.
    sentence : str, optional
        Heading of a column between them whose text may be wrapped.

    Returns
    -------
    rich.table.Table
        A table whose headings are wrapped before a name is truncated.
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
    """Return `` on each of N processes`` to append to a number, or nothing for a single process."""
    return f" on each of {processes} processes" if processes > 1 else ""
