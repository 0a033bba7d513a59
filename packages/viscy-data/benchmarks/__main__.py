"""The command line of the benchmarks: ``python -m benchmarks``, run from the parent directory of this package."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterable
from pathlib import Path
from tempfile import TemporaryDirectory
from time import monotonic

from . import markdown, released, tables
from .comparisons import SMALL, TINY, Round, comparisons, epoch
from .jobs import Files, Job
from .measure import run
from .new_options import compare_options
from .result import Result
from .samplers import FLEXIBLE, RANDOM, RELEASED, contenders
from .slopes import slopes

_LEAST_ROWS = 10**6
# The number of rounds in which every job is measured.
_LEAST_ROUNDS = 3


def main(arguments: list[str] | None = None) -> None:
    """Measure, print the tables, and write them to the output file if there is one."""
    options = _parser().parse_args(arguments)
    if options.rows < _LEAST_ROWS:
        raise SystemExit(f"--rows must be at least {_LEAST_ROWS}, got {options.rows}")
    with TemporaryDirectory() as directory:
        result = _run(options, Files(Path(directory), options.viscy_sampler and options.viscy_sampler.resolve()))
    tables.show(tables.performance(result), "performance targets")
    tables.show(tables.peers(result), "microseconds per batch, median (least to greatest)")
    tables.show(tables.slopes(result), "slopes")
    for remark in result.remarks:
        print(remark)
    if options.output:
        markdown.write(result, options.output, options.figure)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="benchmarks", description=__doc__)
    parser.add_argument("--full", action="store_true", help="measure tables of up to 1e8 rows; needs 8 GB of memory")
    parser.add_argument("--rows", type=int, default=10**7, help="number of rows in the large table")
    parser.add_argument(
        "--rounds",
        type=int,
        default=5,
        help=f"rounds for the numbers that have targets; {_LEAST_ROUNDS} for all others",
    )
    parser.add_argument(
        "--viscy-sampler", type=Path, metavar="FILE", help="sampler.py of a released VisCy version, to compare with"
    )
    parser.add_argument("--output", type=Path, metavar="FILE", help="Markdown file to write")
    figure = Path(__file__).with_name("time_per_batch.png")
    parser.add_argument("--figure", type=Path, metavar="FILE", default=figure, help="image file to write next to it")
    return parser


def _run(options: argparse.Namespace, files: Files) -> Result:
    """Plan the jobs, measure them, and return the result."""
    sizes = [SMALL]
    while sizes[-1] < options.rows * (10 if options.full else 1):
        sizes.append(10 * sizes[-1])
    samplers = contenders(files.released)
    lines = comparisons(options.rows, sizes[-1], with_released=RELEASED in samplers) + compare_options(_LEAST_ROWS)
    slopes_ = slopes(sizes[-1])
    targeted = [job for line in lines for job in (line.job, line.reference) if job is not None]
    others = [job for slope in slopes_ for job in slope.jobs]
    others += [epoch(n, name) for name, sampler in samplers.items() for n in sizes if n <= sampler.max_rows]
    often = [job for job in targeted if job.n_rows <= options.rows and job.sampler != RELEASED]
    plan = _plan(often, targeted + others, options.rounds)
    for n_rows in (TINY, *sizes):
        run(Job("building", n_rows), files)
    rounds, skipped = _measure(plan, files)
    notes = []
    if files.released is None:
        skipped[RELEASED] = "pass its file with --viscy-sampler FILE"
    else:
        notes.append(f"VisCy's released sampler is that of {released.version_of(files.released)}.")
    target = "make bench-full" if options.full else "make bench"
    return Result(target, lines, slopes_, samplers, sizes, rounds, skipped, notes)


def _plan(often: Iterable[Job], everything: Iterable[Job], n_rounds: int) -> list[list[Job]]:
    """Return the jobs of each round without duplicates: all in the first rounds, then only those measured often.

    Jobs that are compared follow each other.
    """
    all_jobs, few_jobs = (list(dict.fromkeys(jobs)) for jobs in (everything, often))
    return [all_jobs if number < _LEAST_ROUNDS else few_jobs for number in range(n_rounds)]


def _measure(plan: list[list[Job]], files: Files) -> tuple[list[Round], dict[str, str]]:
    """Return the measurements of each round and why samplers were skipped: one that fails is not measured again."""
    rounds: list[Round] = []
    skipped: dict[str, str] = {}
    for number, jobs in enumerate(plan, 1):
        measured: dict[Job, dict[str, float]] = {}
        rounds.append(measured)
        for at, job in enumerate(jobs, 1):
            if job.sampler in skipped:
                continue
            began = monotonic()
            try:
                measured[job] = run(job, files)
            except Exception as error:
                if job.sampler in (FLEXIBLE, RANDOM):
                    raise
                # other samplers may fail for reasons of their own
                skipped[job.sampler] = f"{type(error).__name__}: {error}"
            description = f"{job.kind}, {job.option or job.sampler}, {job.n_rows} rows"
            took = f"{monotonic() - began:.1f} s"
            print(f"round {number}/{len(plan)}, {at}/{len(jobs)}: {description}, {took}", file=sys.stderr)
    return rounds, skipped


if __name__ == "__main__":
    main()
