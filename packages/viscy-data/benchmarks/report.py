"""The report of a run: tables in the terminal and in Markdown, and the picture."""

from __future__ import annotations

import importlib
import os
import platform
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from statistics import median

from .comparisons import Comparison, Round, epoch
from .samplers import Contender

_INTRODUCTION = """\
# Benchmarks of FlexibleBatchSampler

Written by `{target}`; do not edit by hand. Batch 256, 10 experiments, 2 conditions, 97 times, all four axes on
(`leaky=0.1`, `experiment_weights="uniform"`, `temporal_enrichment=True`). Every measurement ran in a fresh process with
one thread, what is compared one after the other; all of it {rounds} times, what is only beside it at most three times.
Times are CPU time of the process (user and system). A number is the median of the ratios, each of two measurements of
the same round, with the least and the greatest.

{machine}

## What is promised

"must" is the bound, "aim" the better one; "kept" says which of them the median keeps.

"""
_PEERS = """
## Beside other samplers

Microseconds per batch, the start of the epoch included: median (least to greatest). An epoch of a peer that takes over
a second is left then, and its other batches taken to cost what those so far did. Batches are lists, or made into lists.
A peer that lacks an axis is measured without it.

"""
_PICTURE = """
![time per batch over rows]({picture})

A line is a sampler, a point the median of the rounds. Where a line rises, a batch of a larger table costs more.
"""
_WIDTH = 120


@dataclass(frozen=True)
class Run:
    """What was asked for and what came out."""

    target: str
    lines: Sequence[Comparison]
    contenders: dict[str, Contender]
    sizes: Sequence[int]
    rounds: Sequence[Round]
    skipped: dict[str, str]


def promised(run: Run) -> list[list[str]]:
    """Return the table of promised numbers, its heading first."""
    table = [["what", "median (least to greatest)", "must", "aim", "kept"]]
    for line in run.lines:
        numbers = [n for measured in run.rounds if (n := line.number(measured)) is not None]
        if numbers:
            bounds = [_bound(line, bound) for bound in (line.must, line.aim)]
            table.append([line.what, f"{_spread(numbers)} {line.unit}".strip(), *bounds, line.verdict(numbers)])
    return table


def peers(run: Run) -> list[list[str]]:
    """Return the table of time per batch of each sampler, its heading first."""
    table = [["sampler", "axes", *(f"{n:.0e} rows".replace("e+0", "e") for n in run.sizes)]]
    for name, contender in run.contenders.items():
        times = [_times(run, name, n) for n in run.sizes]
        table.append([name, contender.axes, *(_spread(t) if t else "not measured" for t in times)])
    return table


def show(table: Sequence[Sequence[str]], title: str) -> None:
    """Print a table, by rich where it is installed."""
    try:
        rich = importlib.import_module("rich.table")
        console = importlib.import_module("rich.console").Console(width=max(_WIDTH, _columns()))
    except ModuleNotFoundError:
        print(f"{title}\n{markdown(table)}")
        return
    shown = rich.Table(title=title)
    for name in table[0]:
        shown.add_column(name)
    for row in table[1:]:
        shown.add_row(*row)
    console.print(shown)


def markdown(table: Sequence[Sequence[str]]) -> str:
    """Return a table in Markdown."""
    rows = [table[0], ["---"] * len(table[0]), *table[1:]]
    return "".join(f"| {' | '.join(row)} |\n" for row in rows)


def write(run: Run, file: Path, picture: Path) -> None:
    """Write the report as Markdown, and the picture that it shows.

    Parameters
    ----------
    run : Run
        What to report.
    file, picture : pathlib.Path
        Where to.
    """
    text = _INTRODUCTION.format(target=run.target, rounds=len(run.rounds), machine=_machine())
    text += markdown(promised(run)) + _PEERS + markdown(peers(run))
    if run.skipped:
        text += "\n" + "".join(f"- {name} was skipped: {reason}\n" for name, reason in run.skipped.items())
    if _draw(run, picture):
        text += _PICTURE.format(picture=os.path.relpath(picture.resolve(), file.resolve().parent))
    file.write_text(text, encoding="utf-8")


def _draw(run: Run, picture: Path) -> bool:
    """Draw time per batch over rows; say whether there was something to draw with."""
    try:
        matplotlib = importlib.import_module("matplotlib")
        matplotlib.use("Agg")
        pyplot = importlib.import_module("matplotlib.pyplot")
    except ModuleNotFoundError:
        return False
    figure, axes = pyplot.subplots(figsize=(8, 5), layout="constrained")
    for i, name in enumerate(run.contenders):
        points = [(n, median(t)) for n in run.sizes if (t := _times(run, name, n))]
        if points:
            rows, times = zip(*points, strict=True)
            axes.loglog(rows, times, marker="os^vD<>Ph"[i % 9], linewidth=3 if i == 0 else 1.2, label=name)
    axes.set(xlabel="rows of the table", ylabel="microseconds of CPU time per batch of 256")
    axes.grid(which="major", alpha=0.3)
    figure.legend(loc="outside right upper", frameon=False)
    figure.savefig(picture, metadata={"Software": None, "Date": None} if picture.suffix == ".svg" else None)
    pyplot.close(figure)
    return True


def _times(run: Run, name: str, n_rows: int) -> list[float]:
    job = epoch(n_rows, name)
    return [1e6 * measured[job]["s_per_batch"] for measured in run.rounds if job in measured]


def _spread(numbers: Iterable[float]) -> str:
    numbers = list(numbers)
    return f"{_short(median(numbers))} ({_short(min(numbers))} to {_short(max(numbers))})"


def _short(number: float) -> str:
    return f"{number:.0f}" if number >= 100 else f"{number:.3g}"


def _bound(line: Comparison, bound: float | None) -> str:
    return "" if bound is None else f"{'>=' if line.at_least else '<='} {bound:g}"


def _machine() -> str:
    packages = ", ".join(f"{name} {version(name).split('+')[0]}" for name in ("numpy", "pandas", "torch"))
    python = f"Python {platform.python_version()}"
    return f"Machine: {os.cpu_count()} cores, {_cpu()}, {platform.system()}; {python}, {packages}."


def _cpu() -> str:
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        for line in cpuinfo.read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def _columns() -> int:
    return int(os.environ.get("COLUMNS", "0"))
