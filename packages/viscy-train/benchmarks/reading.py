"""Reading benchmark: crops per second of several ways to read crops. Run ``python -m benchmarks.reading``."""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from numpy.typing import NDArray

from viscy_data import FlexibleBatchSampler
from viscy_train.anchors.table import AnchorTable

from .layouts import CHANNELS, CROP, LAYOUTS, N_FRAMES, N_POSITIONS, N_TRACKS, Layout, make_table, write_plate
from .measure import Speed
from .page import write_part
from .reading_page import Results, describe, draw, print_tables
from .ways import CACHED, COPY, LOCALITY, OURS, STORE, VISCY, WAYS, pack

_MIN_ROUNDS = 3
_MAX_BATCHES = 20
_SEED = 0
_PICTURE = "crops_per_second.svg"


@dataclass(frozen=True)
class Job:
    """What to measure: a way to read a layout."""

    layout: str
    way: str


def main(arguments: list[str] | None = None) -> None:
    """Measure, print the tables, and write them and a picture, if a file is given."""
    options = _parse(arguments)
    load = [os.getloadavg()[0]]
    results: Results = {}
    ways = [way for way in (*WAYS, VISCY) if way != VISCY or options.viscy]
    for layout in options.layouts:
        with TemporaryDirectory(dir=options.folder) as folder:
            _prepare(Path(folder), LAYOUTS[layout], options.pairs)
            jobs = [Job(layout, way) for way in ways]
            # One round of everything after the other, so that all ways meet the same other load of the machine.
            rounds = [{job: _measure(job, Path(folder), options) for job in jobs} for _ in range(options.rounds)]
        _check_ways_agree(rounds[0])
        results[LAYOUTS[layout].name] = {job.way: [measured[job] for measured in rounds] for job in jobs}
        if options.output:
            _write(results, options, [*load, os.getloadavg()[0]])
    print_tables(results)


def _write(results: Results, options: argparse.Namespace, load: list[float]) -> None:
    """Write the page and the picture of the layouts that have been measured."""
    write_part(options.output, describe(results, options.pairs, _describe_machine(load), f"benchmarks/{_PICTURE}"))
    draw(results, options.output.parent / "benchmarks" / _PICTURE)


def _parse(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="reading", description=__doc__)
    parser.add_argument("--rounds", type=int, default=_MIN_ROUNDS, help="number of measurements of each way")
    parser.add_argument("--pairs", type=int, default=256, help="number of pairs in a batch")
    parser.add_argument("--layouts", nargs="+", choices=LAYOUTS, default=list(LAYOUTS), help="layouts to measure")
    parser.add_argument("--viscy", type=Path, metavar="PATH", help="checkout of VisCy, whose dataset is measured, too")
    parser.add_argument("--folder", type=Path, help="where plates are written for a while, some gigabytes")
    parser.add_argument("--output", type=Path, metavar="FILE", help="Markdown file to write")
    options = parser.parse_args(arguments)
    if options.rounds < _MIN_ROUNDS:
        raise SystemExit(f"--rounds must be at least {_MIN_ROUNDS}, got {options.rounds}")
    return options


def _prepare(folder: Path, layout: Layout, n_pairs: int) -> None:
    """Write the plate of a layout, its tracks for VisCy, its crop store, and the batches to read from them."""
    write_plate(folder / "plate.zarr", layout)
    table = make_table(folder / "plate.zarr", layout)
    _write_tracks(table, folder / "tracks")
    n_packed = pack(folder / "plate.zarr", layout)
    first_of_positions = np.arange(N_POSITIONS) * N_TRACKS * N_FRAMES
    batches = {OURS: _compose(table, n_pairs), LOCALITY: _compose(table, n_pairs, locality=8)}
    batches[STORE] = np.random.default_rng(_SEED).integers(0, n_packed, batches[OURS].shape)
    for way, rows in batches.items():
        warm_up = np.arange(N_POSITIONS) if way == STORE else first_of_positions
        np.savez(_batches_of(folder, way), warm_up=warm_up, batches=rows)


def _write_tracks(table: AnchorTable, folder: Path) -> None:
    """Write the tracks of each position as VisCy reads them, and all rows of the table."""
    rows = table.observations[["track_id", "t", "y", "x"]].astype(int)
    for position, tracks in rows.groupby(table.observations["position"], observed=True):
        (folder / str(position)).mkdir(parents=True)
        tracks.assign(parent_track_id=-1, id=tracks.index, parent_id=-1).to_csv(
            folder / str(position) / "tracks.csv", index=False
        )
    rows.to_csv(folder / "rows.csv", index=False)


def _batches_of(folder: Path, way: str) -> Path:
    """Return the file of the batches that are read in some way."""
    return folder / f"{[OURS, LOCALITY, STORE].index(way if way in (LOCALITY, STORE) else OURS)}.npz"


def _compose(table: AnchorTable, n_pairs: int, *, locality: int = 1) -> NDArray[np.int64]:
    """Return the rows of batches, anchors before positives, shape (n_batches, 2 * n_pairs)."""
    columns = table.observations[["experiment", "condition", "hours_post_infection", "position"]]
    sampler = FlexibleBatchSampler(
        columns,
        n_pairs,
        temporal_enrichment=True,
        locality=locality,
        place_by=None if locality == 1 else "position",
        seed=_SEED,
        as_arrays=True,
    )
    anchors = [np.asarray(sampler.batch(index, 0)) for index in range(_MAX_BATCHES)]
    frames = columns["position"].cat.codes.to_numpy(np.int64) * N_FRAMES + table.observations["t"].to_numpy()
    rng = np.random.default_rng(_SEED)
    return np.stack([np.concatenate([rows, _positives(rows, frames[rows], rng, locality)]) for rows in anchors])


def _positives(
    anchors: NDArray[np.int64], frames: NDArray[np.int64], rng: np.random.Generator, locality: int
) -> NDArray[np.int64]:
    """Return frames of the same tracks one to three later; with locality, anchors of a frame share the step."""
    of_place = np.unique(frames, return_inverse=True)[1] if locality > 1 else np.arange(len(anchors))
    step = rng.integers(1, 4, len(anchors))[of_place]
    track, frame = np.divmod(anchors, N_FRAMES)
    return track * N_FRAMES + (frame + step) % N_FRAMES


def _measure(job: Job, folder: Path, options: argparse.Namespace) -> Speed:
    """Measure a way in a new process."""
    batches = str(_batches_of(folder, job.way))
    environment = dict(os.environ)
    if job.way == VISCY:
        layout = LAYOUTS[job.layout]
        sources = [options.viscy / "packages/viscy-data/src", os.environ.get("VISCY_REQUIREMENTS", "")]
        environment["PYTHONPATH"] = os.pathsep.join(map(str, filter(None, sources)))
        script, where = str(Path(__file__).with_name("viscy_way.py")), str(folder)
        command = [script, where, batches, str(CROP), str(layout.n_slices), *CHANNELS]
    else:
        command = ["-m", "benchmarks.ways", job.layout, job.way, str(folder), batches]
    done = subprocess.run([sys.executable, *command], env=environment, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise SystemExit(f"{job} failed:\n{done.stderr}")
    speed = Speed(**json.loads(done.stdout.splitlines()[-1]))
    print(f"{job}: {speed}", file=sys.stderr)
    return speed


def _check_ways_agree(measured: dict[Job, Speed]) -> None:
    """Check that all ways that read the same rows of a plate read the same pixels."""
    for job, speed in measured.items():
        if job.way not in (STORE, CACHED, COPY) and speed.checksum != measured[Job(job.layout, OURS)].checksum:
            raise SystemExit(f"{job} has other pixels than {OURS}")


def _describe_machine(load: list[float]) -> str:
    packages = ", ".join(f"{name} {version(name)}" for name in ("tensorstore", "zarr", "zarrs", "iohub", "numpy"))
    machine = f"Machine: {os.cpu_count()} cores, {platform.system()}; Python {platform.python_version()}, {packages}."
    return machine + "\nLoad average: {:.1f} at the start, {:.1f} at the end.".format(*load)


if __name__ == "__main__":
    main()
