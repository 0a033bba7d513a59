"""Tables: rows of text, headings first, for the terminal or Markdown."""

from __future__ import annotations

import importlib
import os
from collections.abc import Iterable, Sequence
from statistics import median

from .comparisons import Comparison
from .result import Result
from .setting import power_of_ten

Table = list[list[str]]

_WIDTH = 120


def performance(result: Result) -> Table:
    """Return the table of numbers that have targets."""
    table = [["what", "median (minimum to maximum)", "must", "aim", "met"]]
    for line in result.lines:
        numbers = [n for measured in result.rounds if (n := line.number(measured)) is not None]
        if numbers:
            bounds = [_bound(line, bound) for bound in (line.must, line.aim)]
            table.append([line.what, f"{spread(numbers)} {line.unit}".strip(), *bounds, line.verdict(numbers)])
    return table


def peers(result: Result) -> Table:
    """Return the table with the time per batch of each sampler."""
    table = [["sampler", "axes", *(f"{power_of_ten(n)} rows" for n in result.sizes)]]
    for name, contender in result.contenders.items():
        times = [result.us_per_batch(name, n) for n in result.sizes]
        if any(times):
            table.append([name, contender.axes, *(spread(t) if t else "not measured" for t in times)])
    return table


def slopes(result: Result) -> Table:
    """Return the table of slopes."""
    tables = [job.n_rows for job in result.slopes[0].jobs]
    table = [["what", "unit", *(f"{power_of_ten(n)} rows" for n in tables), "larger / smaller"]]
    for slope in result.slopes:
        numbers = [slope.numbers(job, result.rounds) for job in slope.jobs]
        if all(numbers):
            table.append([slope.what, slope.unit, *map(spread, numbers), spread(slope.growth(result.rounds))])
    return table


def show(table: Table, title: str) -> None:
    """Print a table, with rich if it is installed."""
    try:
        rich = importlib.import_module("rich.table")
        console = importlib.import_module("rich.console").Console(width=max(_WIDTH, _columns()))
    except ModuleNotFoundError:
        print(f"{title}\n{to_markdown(table)}")
        return
    rich_table = rich.Table(title=title)
    for name in table[0]:
        rich_table.add_column(name)
    for row in table[1:]:
        rich_table.add_row(*row)
    console.print(rich_table)


def to_markdown(table: Sequence[Sequence[str]]) -> str:
    """Return a table as Markdown."""
    rows = [table[0], ["---"] * len(table[0]), *table[1:]]
    return "".join(f"| {' | '.join(row)} |\n" for row in rows)


def spread(numbers: Iterable[float]) -> str:
    """Format numbers as their median, minimum and maximum."""
    numbers = list(numbers)
    return f"{_short(median(numbers))} ({_short(min(numbers))} to {_short(max(numbers))})"


def _short(number: float) -> str:
    return f"{number:.0f}" if number >= 100 else f"{number:.3g}"


def _bound(line: Comparison, bound: float | None) -> str:
    return "" if bound is None else f"{'>=' if line.at_least else '<='} {bound:g}"


def _columns() -> int:
    return int(os.environ.get("COLUMNS", "0"))
