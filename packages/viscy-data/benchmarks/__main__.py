"""Command line of the benchmarks: ``python -m benchmarks``, from the folder above this one."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from time import monotonic

from . import report
from .comparisons import LARGE, comparisons, epoch
from .measure import Job, run
from .samplers import FLEXIBLE, RANDOM, RELEASED, contenders

_FULL = 10**8
_ROUNDS_OF_OTHERS = 3


def main(arguments: list[str] | None = None) -> None:
    """Measure, print the tables, and write them if a file is given."""
    options = _parser().parse_args(arguments)
    released = options.viscy_sampler and options.viscy_sampler.resolve()
    largest = _FULL if options.full else LARGE
    samplers = contenders(released)
    sizes = [10**power for power in range(5, 8)] + [_FULL] * options.full
    lines = comparisons(largest, released)
    compared = [job for line in lines for job in (line.job, line.reference) if job is not None]
    others = [epoch(n, name) for n in sizes for name in samplers if n <= samplers[name].max_rows]
    rounds, skipped = _measure(_plan(compared, others, options.rounds), released)
    if released is None:
        skipped[RELEASED] = "pass its file with --viscy-sampler FILE"
    target = "make bench-full" if options.full else "make bench"
    result = report.Run(target, lines, samplers, sizes, rounds, skipped)
    report.show(report.promised(result), "what is promised")
    report.show(report.peers(result), "microseconds per batch, median (least to greatest)")
    for name, reason in skipped.items():
        print(f"{name} was skipped: {reason}")
    if options.output:
        report.write(result, options.output, options.picture)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="benchmarks", description=__doc__)
    parser.add_argument("--full", action="store_true", help="go up to 1e8 rows; needs 16 GB of memory")
    parser.add_argument("--rounds", type=int, default=5, help="how often numbers are measured; peers 3 times")
    parser.add_argument("--viscy-sampler", type=Path, metavar="FILE", help="VisCy's released sampler.py, as a peer")
    parser.add_argument("--output", type=Path, metavar="FILE", help="Markdown file to write")
    picture = Path(__file__).with_name("time_per_batch.png")
    parser.add_argument("--picture", type=Path, metavar="FILE", default=picture, help="where its picture goes")
    return parser


def _plan(compared: list[Job], others: list[Job], n_rounds: int) -> list[list[Job]]:
    """Return the jobs of each round, each once, those compared next to each other; the others in a few rounds only."""
    whole, short = (list(dict.fromkeys(jobs)) for jobs in (compared + others, compared))
    return [whole if number < _ROUNDS_OF_OTHERS else short for number in range(n_rounds)]


def _measure(plan: list[list[Job]], released: Path | None) -> tuple[list[report.Round], dict[str, str]]:
    """Return what each round measured, and why samplers were skipped; a sampler that fails once is left out."""
    rounds: list[report.Round] = []
    skipped: dict[str, str] = {}
    for number, jobs in enumerate(plan, 1):
        measured: dict[Job, dict[str, float]] = {}
        rounds.append(measured)
        for at, job in enumerate(jobs, 1):
            if job.sampler in skipped:
                continue
            began = monotonic()
            try:
                measured[job] = run(job, released)
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
