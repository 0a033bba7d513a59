"""Reading benchmark: pairs per second of several methods to read crops. Run ``python -m benchmarks.reading``."""

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
from tempfile import TemporaryDirectory
from time import perf_counter, process_time

import numpy as np
from numpy.typing import NDArray
from rich.table import Table

from viscy_data import FlexibleBatchSampler
from viscy_train.console import make_console
from viscy_train.loading.rng import Purpose, random_uniform

from .methods import METHODS, OURS
from .page import format_median_and_range, format_table, write_part
from .plate import CROP, N_FRAMES, N_TRACKS, SIDE, make_table, write_plate

_CHUNKS = (512, SIDE)
_BATCH_SIZES = (64, 256)
_MIN_ROUNDS = 3
# A method reads batches for this time; at least one, and at most _MAX_BATCHES.
_SECONDS = 2.0
_MAX_BATCHES = 20
_SEED = 0
_INTRODUCTION = """\
# Benchmarks of reading

Written by `make bench-reading`; do not edit by hand. The tables show how many pairs of an anchor and a positive one
process reads per second. FlexibleBatchSampler composes the batches with temporal enrichment; a positive is another
frame of the same track. Crops have two channels and {crop} x {crop} pixels, from a generated plate (OME-NGFF 0.5,
uint16, Zstandard) with {frames} frames of {side} x {side} pixels in each of 4 positions and {tracks} cells in each
frame. The page cache is warm, so the benchmark measures lookup, decoding and cropping, not the disk. Each method ran
{rounds} times, always in a new process, and the methods took turns: median (minimum to maximum). "Speedup" is how many
times faster CropReader was in the same round, "ratio" how many times more CPU time the method took. Only CropReader
also normalizes the pixels.

Pairs per second depend on the wall clock, and so on other load of the machine. The CPU time per pair, over all threads
of the process, varies less, but does not show how well a method uses several cores.

{machine}
"""
_REMARKS = """
- *Crop by crop* waits for each crop before it requests the next. A chunk is decoded again for every crop that overlaps
  it, which costs most if a chunk is a complete frame.
- *Complete frames* reads each frame that a batch needs once. The plate has {all_frames} frames, so a batch of 256 pairs
  takes several crops from each. A real project has thousands of frames, and most crops need a different one.
- *Without a cache between batches* decodes a chunk once for all crops of a batch that need it, then discards it.
"""


@dataclass(frozen=True)
class Speed:
    """A measurement: pairs per second of wall time, and milliseconds of CPU time per pair."""

    pairs_per_second: float
    cpu_ms: float


@dataclass(frozen=True)
class Job:
    """What to measure: a method, the side of a chunk in pixels, and the number of pairs in a batch."""

    method: str
    chunk: int
    batch_size: int


def main(arguments: list[str] | None = None) -> None:
    """Measure, print the tables, and write them to the given file, if any."""
    parser = argparse.ArgumentParser(prog="reading", description=__doc__)
    parser.add_argument("--rounds", type=int, default=_MIN_ROUNDS, help="number of measurements of each method")
    parser.add_argument("--output", type=Path, metavar="FILE", help="Markdown file to write")
    options = parser.parse_args(arguments)
    if options.rounds < _MIN_ROUNDS:
        raise SystemExit(f"--rounds must be at least {_MIN_ROUNDS}, got {options.rounds}")
    jobs = [Job(method, chunk, size) for chunk, size, method in product(_CHUNKS, _BATCH_SIZES, METHODS)]
    load = [os.getloadavg()[0]]
    with TemporaryDirectory() as folder:
        for chunk in _CHUNKS:
            write_plate(_plate_path(folder, chunk), chunk)
        _check_methods_agree(folder)
        rounds = [{job: _measure_in_new_process(job, folder) for job in jobs} for _ in range(options.rounds)]
    load.append(os.getloadavg()[0])
    text = _introduction(options.rounds, load)
    for chunk, size in product(_CHUNKS, _BATCH_SIZES):
        title = f"Chunks of {chunk} x {chunk} pixels, batches of {size} pairs"
        rows = [_row(Job(method, chunk, size), rounds) for method in METHODS]
        _print(title, rows)
        text += f"\n## {title}\n\n" + format_table([_HEADING, *rows])
    text += _REMARKS.format(all_frames=4 * N_FRAMES)
    if options.output:
        write_part(options.output, text)


def _plate_path(folder: str, chunk: int) -> Path:
    return Path(folder) / f"{chunk}.zarr"


def _check_methods_agree(folder: str) -> None:
    rows = np.arange(0, 4 * N_TRACKS * N_FRAMES, 997)
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as process:
        crops = [process.submit(_read, method, folder, rows).result() for method in METHODS]
    for method, pixels in zip(METHODS, crops, strict=True):
        if not np.array_equal(pixels, crops[0]):
            raise SystemExit(f"{method} reads different pixels than {OURS}")


def _read(method: str, folder: str, rows: NDArray[np.int64]) -> NDArray[np.float32]:
    return METHODS[method](make_table(_plate_path(folder, _CHUNKS[0])))(rows)


def _measure_in_new_process(job: Job, folder: str) -> Speed:
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as process:
        speed = process.submit(_measure, job, folder).result()
    print(f"{job}: {speed}", file=sys.stderr)
    return speed


def _measure(job: Job, folder: str) -> Speed:
    """Return the speed of a method; positions are opened and libraries warmed up before the clock starts."""
    table = make_table(_plate_path(folder, job.chunk))
    columns = table.observations[["experiment", "condition", "hours_post_infection"]]
    sampler = FlexibleBatchSampler(columns, job.batch_size, temporal_enrichment=True, seed=_SEED, as_arrays=True)
    read = METHODS[job.method](table)
    read(np.arange(0, len(columns), len(columns) // 8))
    n_batches, start, cpu_start = 0, perf_counter(), process_time()
    while n_batches == 0 or (n_batches < _MAX_BATCHES and perf_counter() - start < _SECONDS):
        anchors = np.asarray(sampler.batch(n_batches, 0))
        read(np.concatenate([anchors, _positives(anchors, n_batches)]))
        n_batches += 1
    seconds, cpu_seconds = perf_counter() - start, process_time() - cpu_start
    n_pairs = n_batches * job.batch_size
    return Speed(n_pairs / seconds, 1e3 * cpu_seconds / n_pairs)


def _positives(anchors: NDArray[np.int64], batch_index: int) -> NDArray[np.int64]:
    """Return other frames of the same tracks; each track is `N_FRAMES` consecutive rows."""
    (draws,) = random_uniform(_SEED, 0, batch_index, Purpose.POSITIVE, len(anchors), 1).T
    track, frame = np.divmod(anchors, N_FRAMES)
    return track * N_FRAMES + (frame + 1 + (draws * (N_FRAMES - 1)).astype(np.int64)) % N_FRAMES


def _row(job: Job, rounds: list[dict[Job, Speed]]) -> list[str]:
    ours = Job(OURS, job.chunk, job.batch_size)
    speeds = [measured[job] for measured in rounds]
    speedups = [measured[ours].pairs_per_second / measured[job].pairs_per_second for measured in rounds]
    cpu_ratios = [measured[job].cpu_ms / measured[ours].cpu_ms for measured in rounds]
    wall, cpu = [speed.pairs_per_second for speed in speeds], [speed.cpu_ms for speed in speeds]
    ratios = [format_median_and_range(speedups), format_median_and_range(cpu_ratios)] if job != ours else ["", ""]
    return [job.method, format_median_and_range(wall), ratios[0], format_median_and_range(cpu), ratios[1]]


_HEADING = ["method", "pairs per second", "speedup", "CPU ms per pair", "ratio"]


def _print(title: str, rows: list[list[str]]) -> None:
    table = Table(*_HEADING, title=title)
    for row in rows:
        table.add_row(*row)
    make_console(width=120).print(table)


def _introduction(n_rounds: int, load: list[float]) -> str:
    packages = ", ".join(f"{name} {version(name)}" for name in ("tensorstore", "zarr", "zarrs", "iohub", "numpy"))
    machine = f"Machine: {os.cpu_count()} cores, {platform.system()}; Python {platform.python_version()}, {packages}."
    machine += "\nLoad average: {:.1f} at the start, {:.1f} at the end.".format(*load)
    return _INTRODUCTION.format(
        crop=CROP, frames=N_FRAMES, side=SIDE, tracks=N_TRACKS, rounds=n_rounds, machine=machine
    )


if __name__ == "__main__":
    main()
