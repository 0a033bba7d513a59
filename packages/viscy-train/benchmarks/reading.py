"""Reading: pairs per second of each way to read the crops of a batch. ``python -m benchmarks.reading``."""

from __future__ import annotations

import argparse
import multiprocessing
import os
import platform
import sys
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from importlib.metadata import version
from itertools import product
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from time import perf_counter, process_time

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table

from viscy_data import FlexibleBatchSampler
from viscy_train.loading.rng import Purpose, words

from .plate import CROP, N_FRAMES, N_TRACKS, SIDE, table_of, write_plate
from .ways import OURS, WAYS

_CHUNKS = (512, SIDE)
_BATCH_SIZES = (64, 256)
_LEAST_ROUNDS = 3
# A way is given as many batches as it reads in this time, at least one and at most so many.
_SECONDS = 2.0
_MOST_BATCHES = 20
_SEED = 0
_INTRODUCTION = """\
# Benchmarks of reading

Written by `make bench-reading`; do not edit by hand. Pairs of an anchor and a positive that one process reads in a
second, in batches that FlexibleBatchSampler composes with times enriched; a positive is another frame of the same
track. Two channels, crops of {crop} x {crop} pixels, from a generated plate (OME-NGFF 0.5, uint16, Zstandard):
{frames} frames of {side} x {side} pixels in each of 4 positions, {tracks} cells in each frame. The cache is warm: all
files are in memory, so what is measured is finding, decoding and cutting, not a disk. Each way ran {rounds} times,
always in a fresh process, the ways one after the other in each round: median (least to greatest). "Times" is how many
times faster CropReader was in the same round. CropReader scales the pixels, too, which the others do not.

Pairs per second are by the clock on the wall, so they vary with what else the machine does; the CPU time of a pair, of
all threads of the process, varies less, but does not see how well a way uses several cores.

{machine}
"""
_REMARKS = """
- *Crop by crop* waits for each crop before it asks for the next. A chunk is decoded anew for every crop that touches
  it, which weighs most where a chunk is a whole frame.
- *Whole frames* reads each frame that a batch needs once. The plate has {all_frames} frames, so a batch of 256 pairs
  takes several crops from each; a project has thousands of frames, and then most crops need a frame of their own.
- *No cache kept* decodes a chunk once for all crops of a batch that need it, and forgets it.
"""


@dataclass(frozen=True)
class Speed:
    """What was measured: pairs per second on the wall, and milliseconds of CPU time a pair."""

    pairs_per_second: float
    cpu_ms: float


@dataclass(frozen=True)
class Job:
    """What is measured: a way, the side of a chunk in pixels, and pairs of a batch."""

    way: str
    chunk: int
    batch_size: int


def main(arguments: list[str] | None = None) -> None:
    """Measure, print the tables, and write them if a file is given."""
    parser = argparse.ArgumentParser(prog="reading", description=__doc__)
    parser.add_argument("--rounds", type=int, default=_LEAST_ROUNDS, help="how often each way is measured")
    parser.add_argument("--output", type=Path, metavar="FILE", help="Markdown file to write")
    options = parser.parse_args(arguments)
    if options.rounds < _LEAST_ROUNDS:
        raise SystemExit(f"--rounds must be at least {_LEAST_ROUNDS}, got {options.rounds}")
    jobs = [Job(way, chunk, size) for chunk, size, way in product(_CHUNKS, _BATCH_SIZES, WAYS)]
    load = [os.getloadavg()[0]]
    with TemporaryDirectory() as folder:
        for chunk in _CHUNKS:
            write_plate(_plate_in(folder, chunk), chunk)
        _check_that_ways_agree(folder)
        rounds = [{job: _in_fresh_process(job, folder) for job in jobs} for _ in range(options.rounds)]
    load.append(os.getloadavg()[0])
    text = _introduction(options.rounds, load)
    for chunk, size in product(_CHUNKS, _BATCH_SIZES):
        title = f"Chunks of {chunk} x {chunk} pixels, batches of {size} pairs"
        rows = [_row(Job(way, chunk, size), rounds) for way in WAYS]
        _show(title, rows)
        text += f"\n## {title}\n\n" + _markdown(rows)
    text += _REMARKS.format(all_frames=4 * N_FRAMES)
    if options.output:
        options.output.write_text(text, encoding="utf-8")


def _plate_in(folder: str, chunk: int) -> Path:
    return Path(folder) / f"{chunk}.zarr"


def _check_that_ways_agree(folder: str) -> None:
    rows = np.arange(0, 4 * N_TRACKS * N_FRAMES, 997)
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as process:
        crops = [process.submit(_read, way, folder, rows).result() for way in WAYS]
    for way, other in zip(WAYS, crops, strict=True):
        if not np.array_equal(other, crops[0]):
            raise SystemExit(f"{way} reads other pixels than {OURS}")


def _read(way: str, folder: str, rows: NDArray[np.int64]) -> NDArray[np.float32]:
    return WAYS[way](table_of(_plate_in(folder, _CHUNKS[0])))(rows)


def _in_fresh_process(job: Job, folder: str) -> Speed:
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as process:
        speed = process.submit(_measure, job, folder).result()
    print(f"{job}: {speed}", file=sys.stderr)
    return speed


def _measure(job: Job, folder: str) -> Speed:
    """Return the speed of a way; positions are opened, and libraries warmed up, before the clock starts."""
    table = table_of(_plate_in(folder, job.chunk))
    columns = table.observations[["experiment", "condition", "hours_post_infection"]]
    sampler = FlexibleBatchSampler(columns, job.batch_size, temporal_enrichment=True, seed=_SEED, as_arrays=True)
    read = WAYS[job.way](table)
    read(np.arange(0, len(columns), len(columns) // 8))
    n_batches, start, cpu_start = 0, perf_counter(), process_time()
    while n_batches == 0 or (n_batches < _MOST_BATCHES and perf_counter() - start < _SECONDS):
        anchors = np.asarray(sampler.batch(n_batches, 0))
        read(np.concatenate([anchors, _positives(anchors, n_batches)]))
        n_batches += 1
    seconds, cpu_seconds = perf_counter() - start, process_time() - cpu_start
    n_pairs = n_batches * job.batch_size
    return Speed(n_pairs / seconds, 1e3 * cpu_seconds / n_pairs)


def _positives(anchors: NDArray[np.int64], number: int) -> NDArray[np.int64]:
    """Return other frames of the same tracks, of which each is `N_FRAMES` rows that follow each other."""
    (word,) = words(_SEED, 0, number, Purpose.POSITIVE, len(anchors), 1).T
    track, frame = np.divmod(anchors, N_FRAMES)
    return track * N_FRAMES + (frame + 1 + (word * (N_FRAMES - 1)).astype(np.int64)) % N_FRAMES


def _row(job: Job, rounds: list[dict[Job, Speed]]) -> list[str]:
    ours = Job(OURS, job.chunk, job.batch_size)
    speeds = [measured[job] for measured in rounds]
    times = [measured[ours].pairs_per_second / measured[job].pairs_per_second for measured in rounds]
    of_cpu = [measured[job].cpu_ms / measured[ours].cpu_ms for measured in rounds]
    wall, cpu = [speed.pairs_per_second for speed in speeds], [speed.cpu_ms for speed in speeds]
    ratios = [_spread(times), _spread(of_cpu)] if job != ours else ["", ""]
    return [job.way, _spread(wall), ratios[0], _spread(cpu), ratios[1]]


def _spread(numbers: list[float]) -> str:
    short = [f"{n:.0f}" if n >= 100 else f"{n:.3g}" for n in (median(numbers), min(numbers), max(numbers))]
    return f"{short[0]} ({short[1]} to {short[2]})"


_HEADING = ["way", "pairs per second", "times", "CPU ms a pair", "times"]


def _show(title: str, rows: list[list[str]]) -> None:
    table = Table(*_HEADING, title=title)
    for row in rows:
        table.add_row(*row)
    Console(width=120).print(table)


def _markdown(rows: list[list[str]]) -> str:
    return "".join(f"| {' | '.join(row)} |\n" for row in [_HEADING, ["---"] * len(_HEADING), *rows])


def _introduction(n_rounds: int, load: list[float]) -> str:
    packages = ", ".join(f"{name} {version(name)}" for name in ("tensorstore", "zarr", "zarrs", "iohub", "numpy"))
    machine = f"Machine: {os.cpu_count()} cores, {platform.system()}; Python {platform.python_version()}, {packages}."
    machine += "\nIts load was {:.1f} at the start and {:.1f} at the end.".format(*load)
    return _INTRODUCTION.format(
        crop=CROP, frames=N_FRAMES, side=SIDE, tracks=N_TRACKS, rounds=n_rounds, machine=machine
    )


if __name__ == "__main__":
    main()
