"""GPU benchmark: how long batches take on a GPU and how much of that is data wait. See ``make bench-gpu``.

Lightning trains as `viscy-train fit` does, on batches that are loaded in some way, then on batches in memory.
"""

from __future__ import annotations

import argparse
import os
import platform
import time
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from statistics import mean
from tempfile import TemporaryDirectory
from typing import Any

import torch
import yaml

from viscy_train.cli.entry_point import main as run_command
from viscy_train.training.headroom import Headroom, measure_headroom
from viscy_train.training.lightning_cli import TrainingCLI

from .layouts import CHANNELS, CONDITIONS, CROP, LAYOUTS, N_POSITIONS, N_TRACKS, Layout, make_table, write_plate
from .page import format_median_and_range, format_table, write_part

PLATES, LOCALITY, STORE, MEMORY = "plates", "plates, locality 8", "crop store", "batches in memory"
WAYS: dict[str, dict[str, Any]] = {
    PLATES: {},
    LOCALITY: {"--data.sampler.locality": 8},
    STORE: {"--data.store": "crops.zarr"},
}
N_FRAMES = 6
MIN_ROUNDS = 3
# A thread reads this many batches ahead, which are ready at the start and would make reading look faster.
_AHEAD = 2
_TEXT = """\
# Training on a GPU

Written by `make bench-gpu`; do not edit by hand. {encoder} in {precision} trains on batches of {n_pairs} pairs of crops
of {crop} x {crop} pixels with {n_channels} channels, with the augmentation that is the default. They lie in {n_rows:,}
observations on {n_positions} positions and {n_frames} frames, of images of {side} x {side} pixels with one chunk for
each frame and channel, compressed by Zstandard. {n_threads} threads read, with a cache of 256 MB.

{machine}

A way trained on {n} batches that it loaded, after {n_skipped} that do not count, and then on as many that were in
memory, after 3. Both were divided into {rounds} rounds that followed each other. A cell is the median over rounds, and
in parentheses the smallest and the largest. Data wait is the share of the time of a batch that a batch in memory does
not need.

{ways}
- *batches in memory* are moved to the device, finished and augmented as all others are, so they are the limit of any
  way to read. They were measured with all other ways, one after the other.
- Files are in the memory of the operating system: a disk adds its own time.
- Writing the plate took {plate_seconds:.0f} s, its anchor table {index_seconds:.0f} s, its store {pack_seconds:.0f} s.
"""


@dataclass(frozen=True, kw_only=True)
class Setup:
    """What is trained, and how it is measured.

    Parameters
    ----------
    encoder, precision, accelerator : str
        As in a configuration.
    n_pairs, n_threads : int
        Pairs in a batch, and threads that read.
    rounds, n_batches : int
        Number of rounds, and of batches in each.
    layout : Layout
        How the images are stored.
    every : int
        Of the tracks, the first of each so many are there.
    """

    encoder: str = "convnext_tiny"
    precision: str = "bf16-mixed"
    accelerator: str = "gpu"
    n_pairs: int = 256
    n_threads: int = 8
    rounds: int = 3
    n_batches: int = 8
    layout: Layout = LAYOUTS["zstd"]
    every: int = 1

    @property
    def n_skipped(self) -> int:
        """Number of batches that do not count, besides those of the warm-up."""
        return _AHEAD * self.n_threads

    @property
    def n_counted(self) -> int:
        """Number of batches that count."""
        return self.rounds * self.n_batches


@dataclass(frozen=True, kw_only=True)
class Result:
    """Mean seconds of a batch in each round, loaded and in memory, and the most memory of the device, in bytes."""

    loaded: list[float]
    in_memory: list[float]
    memory: int = 0

    @property
    def waits(self) -> list[float]:
        """The share of the time of a batch that is data wait, in each round."""
        return [max(0.0, 1 - mean(self.in_memory) / loaded) for loaded in self.loaded]


def write_project(folder: Path, setup: Setup) -> Path:
    """Write a plate and its tracks, and return the configuration."""
    write_plate(folder / "plate.zarr", setup.layout)
    observations = make_table(folder / "plate.zarr", setup.layout).observations
    is_tracked = (observations["t"] < N_FRAMES) & (observations["track_id"] % setup.every == 0)
    tracks = observations.loc[is_tracked, ["position", "track_id", "t", "y", "x", "parent_track_id"]]
    tracks.astype({"position": str}).to_parquet(folder / "tracks.parquet")
    experiment: dict[str, Any] = {
        "name": "generated",
        "plate": "plate.zarr",
        "tracks": "tracks.parquet",
        "channels": CHANNELS,
    }
    experiment |= {"conditions": CONDITIONS, "minutes_per_frame": 30}
    (folder / "experiments.yaml").write_text(yaml.safe_dump({"experiments": [experiment]}), encoding="utf-8")
    path = folder / "config.yaml"
    path.write_text(yaml.safe_dump(_config(setup)), encoding="utf-8")
    return path


def _config(setup: Setup) -> dict[str, Any]:
    trainer = {"accelerator": setup.accelerator, "devices": 1, "precision": setup.precision, "logger": False}
    return {
        "seed_everything": 0,
        "output": "run",
        "trainer": trainer,
        "model": {"encoder": {"name": setup.encoder}, "optimizer": {"schedule": "constant"}},
        "data": {
            "experiments": "experiments.yaml",
            "anchors": "anchors.parquet",
            "crop": CROP,
            "positive": {"min_frames": 1, "max_frames": 3},
            "sampler": {"batch_size": setup.n_pairs, "temporal_enrichment": True},
            "split": {"by": "none"},
            "num_workers": setup.n_threads,
            "cache_mb": 256,
        },
    }


def measure(config: Path, way: str, setup: Setup) -> Result:
    """Train with one way of loading, and return what its batches took."""
    given = {name: config.parent / value if isinstance(value, str) else value for name, value in WAYS[way].items()}
    options = [text for name, value in given.items() for text in (name, str(value))]
    if torch.cuda.is_available():
        torch.cuda.reset_peak_memory_stats()
    cli = TrainingCLI("fit", ["--config", str(config), *options], "")
    headroom = measure_headroom(cli, setup.n_skipped + setup.n_counted)
    memory = torch.cuda.max_memory_allocated() if torch.cuda.is_available() else 0
    return summarize(headroom, setup, memory)


def summarize(headroom: Headroom, setup: Setup, memory: int = 0) -> Result:
    """Return the rounds of the batches that count, which are the last ones."""
    loaded, in_memory = (
        [mean(seconds[first : first + setup.n_batches]) for first in range(0, setup.n_counted, setup.n_batches)]
        for seconds in (some[-setup.n_counted :] for some in (headroom.loaded, headroom.in_memory))
    )
    return Result(loaded=loaded, in_memory=in_memory, memory=memory)


def describe(results: dict[str, Result], setup: Setup, machine: str, seconds: list[float]) -> str:
    """Return the part of the page."""
    return _TEXT.format(
        encoder=setup.encoder,
        precision=setup.precision,
        n_pairs=setup.n_pairs,
        crop=CROP,
        n_channels=len(CHANNELS),
        n_rows=N_POSITIONS * N_FRAMES * N_TRACKS // setup.every,
        n_positions=N_POSITIONS,
        n_frames=N_FRAMES,
        side=setup.layout.side,
        n_threads=setup.n_threads,
        machine=machine,
        n=setup.n_counted,
        n_skipped=setup.n_skipped + 3,
        rounds=setup.rounds,
        ways=_format_ways(results, setup),
        plate_seconds=seconds[0],
        index_seconds=seconds[1],
        pack_seconds=seconds[2],
    )


def _format_ways(results: dict[str, Result], setup: Setup) -> str:
    rows = [["way", "seconds a batch", "crops a second", "data wait", "peak memory, GB"]]
    for way, result in results.items():
        waits = format_median_and_range([100 * share for share in result.waits])
        rows.append([way, *_speeds(result.loaded, setup), f"{waits} %", f"{result.memory / 1e9:.1f}"])
    in_memory = [seconds for result in results.values() for seconds in result.in_memory]
    return format_table([*rows, [MEMORY, *_speeds(in_memory, setup), "", ""]])


def _speeds(seconds: list[float], setup: Setup) -> list[str]:
    return [format_median_and_range(some) for some in (seconds, [2 * setup.n_pairs / one for one in seconds])]


def describe_machine(setup: Setup) -> str:
    """Return a sentence about the machine."""
    device = torch.cuda.get_device_name() if setup.accelerator == "gpu" else "no GPU"
    return (
        f"Machine: {device}, {os.cpu_count()} cores, {platform.system()}; Python {platform.python_version()}, "
        f"torch {torch.__version__}."
    )


def main(arguments: list[str] | None = None) -> None:
    """Measure and print; without a GPU, only say so."""
    options = _parse(arguments)
    if options.accelerator == "gpu" and not torch.cuda.is_available():
        print("There is no GPU, so its data wait cannot be measured")
        return
    small = Layout("small", 512, 1, 512, LAYOUTS["zstd"].compressor)
    setup = Setup(
        encoder=options.encoder,
        precision=options.precision,
        accelerator=options.accelerator,
        n_pairs=options.pairs,
        n_threads=options.threads,
        rounds=options.rounds,
        n_batches=options.batches,
        layout=small if options.small else LAYOUTS["zstd"],
        every=10 if options.small else 1,
    )
    with TemporaryDirectory(dir=options.folder) as folder:
        config, seconds = _prepare(Path(folder), setup)
        results: dict[str, Result] = {}
        for way in reversed(WAYS):  # the slowest last
            results = {way: measure(config, way, setup)} | results
            text = describe(results, setup, describe_machine(setup), seconds)
            if options.output:  # what is known so far, should the benchmark be stopped
                write_part(options.output, text)
    print(text)


def _parse(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="gpu", description=__doc__)
    parser.add_argument("--rounds", type=int, default=MIN_ROUNDS, help="number of rounds of each way")
    parser.add_argument("--batches", type=int, default=8, help="number of batches of a round")
    parser.add_argument("--pairs", type=int, default=256, help="number of pairs in a batch")
    parser.add_argument("--threads", type=int, default=8, help="number of threads that read")
    parser.add_argument("--encoder", default="convnext_tiny", help="the network")
    parser.add_argument("--precision", default="bf16-mixed", help="as in a configuration")
    parser.add_argument("--accelerator", choices=("gpu", "cpu"), default="gpu", help="cpu: only to try the benchmark")
    parser.add_argument(
        "--small", action="store_true", help="few cells in images of 512 x 512 pixels: only to try the benchmark"
    )
    parser.add_argument("--folder", type=Path, help="where the project is written for a while, some gigabytes")
    parser.add_argument("--output", type=Path, metavar="FILE", help="Markdown file to write")
    options = parser.parse_args(arguments)
    if options.rounds < MIN_ROUNDS:
        raise SystemExit(f"--rounds must be at least {MIN_ROUNDS}, got {options.rounds}")
    return options


def _prepare(folder: Path, setup: Setup) -> tuple[Path, list[float]]:
    """Write a project with its anchor table and crop store; return the configuration, and what each took."""
    clock = [time.perf_counter()]
    config = write_project(folder, setup)
    clock.append(time.perf_counter())
    processes = str(max(1, min(16, os.cpu_count() or 1)))
    for command in (["index"], ["pack", "--out", str(folder / "crops.zarr"), "--processes", processes]):
        if run_command([*command, "--config", str(config)]):
            raise SystemExit(f"`viscy-train {command[0]}` failed")
        clock.append(time.perf_counter())
    return config, [after - before for before, after in pairwise(clock)]


if __name__ == "__main__":
    main()
