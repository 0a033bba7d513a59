"""Command line of the benchmarks: ``python -m benchmarks``, from the folder above this one."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterable
from pathlib import Path
from tempfile import TemporaryDirectory
from time import monotonic

from . import released, report, tables
from .comparisons import SMALL, Round, comparisons, epoch
from .jobs import Files, Job
from .measure import run
from .result import Result
from .samplers import FLEXIBLE, RANDOM, RELEASED, contenders
from .slopes import slopes

_LEAST_ROWS = 10**6
# How often at least all is measured.
_LEAST_ROUNDS = 3


def main(arguments: list[str] | None = None) -> None:
    """Measure, print the tables, and write them if a file is given."""
    options = _parser().parse_args(arguments)
    if options.rows < _LEAST_ROWS:
        raise SystemExit(f"--rows must be at least {_LEAST_ROWS}, got {options.rows}")
    with TemporaryDirectory() as folder:
        result = _measured(options, Files(Path(folder), options.viscy_sampler and options.viscy_sampler.resolve()))
    tables.show(tables.promised(result), "what is promised")
    tables.show(tables.peers(result), "microseconds per batch, median (least to greatest)")
    tables.show(tables.slopes(result), "slopes")
    for remark in (*result.notes, *(f"{name} was skipped: {reason}" for name, reason in result.skipped.items())):
        print(remark)
    if options.output:
        report.write(result, options.output, options.picture)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="benchmarks", description=__doc__)
    parser.add_argument("--full", action="store_true", help="go up to 1e8 rows; needs 8 GB of memory")
    parser.add_argument("--rows", type=int, default=10**7, help="rows of the large table; fewer for a quick trial")
    parser.add_argument(
        "--rounds", type=int, default=5, help=f"how often promised numbers are measured; others {_LEAST_ROUNDS} times"
    )
    parser.add_argument("--viscy-sampler", type=Path, metavar="FILE", help="VisCy's released sampler.py, as a peer")
    parser.add_argument("--output", type=Path, metavar="FILE", help="Markdown file to write")
    picture = Path(__file__).with_name("time_per_batch.png")
    parser.add_argument("--picture", type=Path, metavar="FILE", default=picture, help="where its picture goes")
    return parser


def _measured(options: argparse.Namespace, files: Files) -> Result:
    """Carry out a run."""
    sizes = [SMALL]
    while sizes[-1] < options.rows * (10 if options.full else 1):
        sizes.append(10 * sizes[-1])
    samplers = contenders(files.released)
    lines, slopes_ = comparisons(options.rows, sizes[-1], with_released=RELEASED in samplers), slopes(sizes[-1])
    promised = [job for line in lines for job in (line.job, line.reference) if job is not None]
    others = [job for slope in slopes_ for job in slope.jobs]
    others += [epoch(n, name) for name, sampler in samplers.items() for n in sizes if n <= sampler.max_rows]
    often = [job for job in promised if job.n_rows <= options.rows and job.sampler != RELEASED]
    plan = _plan(often, promised + others, options.rounds)
    for n_rows in sizes:
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
    """Return the jobs of each round, each once, those compared next to each other; all of them in a few rounds only."""
    whole, short = (list(dict.fromkeys(jobs)) for jobs in (everything, often))
    return [whole if number < _LEAST_ROUNDS else short for number in range(n_rounds)]


def _measure(plan: list[list[Job]], files: Files) -> tuple[list[Round], dict[str, str]]:
    """Return what each round measured, and why samplers were skipped; a sampler that fails once is left out."""
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
                # a peer may fail in ways of its own
                skipped[job.sampler] = f"{type(error).__name__}: {error}"
            what = f"{job.kind}, {job.sampler}, {job.n_rows} rows"
            took = f"{monotonic() - began:.1f} s"
            print(f"round {number}/{len(plan)}, {at}/{len(jobs)}: {what}, {took}", file=sys.stderr)
    return rounds, skipped


if __name__ == "__main__":
    main()
