"""Console: the one place where viscy-train prints, with progress and tables that fit into 80 columns."""

from __future__ import annotations

from contextlib import contextmanager
from contextvars import ContextVar
from functools import cache
from time import monotonic
from typing import TYPE_CHECKING, Any

from rich import box
from rich.console import Console
from rich.table import Table

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterable, Iterator, Sequence

_is_quiet = ContextVar("is_quiet", default=False)
_WARNING, _NOTE = _ALWAYS_PRINTED = ("Warning: ", "Note: ")
_LOG_INTERVAL = 30.0
# A log of a loop of hours has a line for this part of the time so far.
_LOG_SHARE = 0.05
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


@contextmanager
def quiet_console() -> Generator[None]:
    """Print nothing in the block but results, warnings and notes."""
    token = _is_quiet.set(True)
    try:
        yield
    finally:
        _is_quiet.reset(token)


def is_quiet() -> bool:
    """Return whether only results, warnings and notes are printed."""
    return _is_quiet.get()


def say(content: Any) -> None:
    """Print a line of text, or a table, on the console of this process, unless it is quiet."""
    if not is_quiet():
        say_result(content)


def say_result(content: Any) -> None:
    """Print what a command was run for, also on a quiet console."""
    get_console().print(content)


def warn(text: str) -> None:
    """Print a warning: something that is probably not meant."""
    say_result(f"{_WARNING}{text}")


def note(text: str) -> None:
    """Print a note: something that changes what a result means."""
    say_result(f"{_NOTE}{text}")


def say_sentences(sentences: Iterable[str]) -> None:
    """Print sentences; on a quiet console only those that begin as `warn` and `note` begin."""
    for sentence in sentences:
        (say_result if sentence.startswith(_ALWAYS_PRINTED) else say)(sentence)


class ProgressLog:
    """Lines that say how far a loop is, for output that is not a terminal: few, and none for a short loop.

    Parameters
    ----------
    description : str
        What the loop does, at the start of each line.
    total : int, optional
        Number of items, if it is known.
    done : int, default 0
        How many were done before.
    console : rich.console.Console, optional
        The console of this process by default.
    clock : callable, optional
        Returns the time in seconds.
    """

    def __init__(
        self,
        description: str,
        total: int | None,
        *,
        done: int = 0,
        console: Console | None = None,
        clock: Callable[[], float] = monotonic,
    ) -> None:
        self._description, self._total, self._first = description, total, done
        self._console, self._clock = console or get_console(), clock
        self._start = self._last = clock()

    def update(self, done: int, detail: Callable[[], str] | None = None) -> None:
        """Print a line if it is due: the share, the rate, the time left, and a detail.

        Parameters
        ----------
        done : int
            Number of items that are done.
        detail : callable, optional
            Returns more to print.
        """
        now = self._clock()
        seconds = now - self._start
        if is_quiet() or done == self._total or now - self._last < max(_LOG_INTERVAL, seconds * _LOG_SHARE):
            return
        self._last = now
        rate = (done - self._first) / seconds
        parts = [f"{done:,}", _pace(rate)]
        if self._total is not None:
            left = [f"about {_duration((self._total - done) / rate)} left"] if rate else []
            parts = [f"{done:,} of {self._total:,} ({done / self._total:.0%})", _pace(rate), *left]
        more = [detail()] if detail is not None else []
        self._console.print(f"{self._description}: {', '.join([*parts, *more])}")


def track[T](
    items: Iterable[T],
    description: str,
    console: Console | None = None,
    total: int | None = None,
    detail: Callable[[], str] | None = None,
) -> Iterable[T]:
    """Yield items and show how many are done: as a bar on a terminal, and elsewhere as lines of a log.

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
    detail : callable, optional
        Returns more for a line of a log.

    Returns
    -------
    iterable
        The same items. The bar disappears after the last one.
    """
    console = console or get_console()
    if not console.is_interactive or is_quiet():
        return _with_log(items, description, console, total, detail)
    from rich import progress  # takes longer to import than all that is printed

    options: dict[str, Any] = {"console": console, "transient": True}
    return progress.track(items, f"  {description}", total=total, **options)


def _with_log[T](
    items: Iterable[T], description: str, console: Console, total: int | None, detail: Callable[[], str] | None
) -> Iterator[T]:
    total = len(items) if total is None and hasattr(items, "__len__") else total  # ty: ignore[invalid-argument-type]
    log = ProgressLog(f"  {description}", total, console=console)
    for done, item in enumerate(items, start=1):
        yield item
        log.update(done, detail)


def _pace(rate: float) -> str:
    return f"{rate:,.3g} a second" if rate >= 1 or not rate else f"{_duration(1 / rate)} each"


def _duration(seconds: float) -> str:
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


def make_table(names: Sequence[str], numbers: Sequence[str], sentence: str | None = None) -> Table:
    """Return an empty table to fill and print.

    Parameters
    ----------
    names : sequence of str
        Headings of the first columns, which hold names.
    numbers : sequence of str
        Headings of the last columns, which are aligned to the right.
    sentence : str, optional
        Heading of a column between them whose text may be wrapped.

    Returns
    -------
    rich.table.Table
        A table that wraps sentences and names where it does not fit, so that no number is broken or left out.
    """
    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False)
    for heading in names:
        table.add_column(heading, overflow="fold")
    if sentence is not None:
        table.add_column(sentence)
    for heading in numbers:
        table.add_column(heading, justify="right", no_wrap=True)
    return table


def on_each_of(processes: int) -> str:
    """Return `` on each of N processes`` to append to a number, or nothing for a single process."""
    return f" on each of {processes} processes" if processes > 1 else ""
