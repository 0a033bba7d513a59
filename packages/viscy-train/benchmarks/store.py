"""Store benchmark: codecs of a crop store, and a store of 1e6 crops that is packed, opened and read."""

from __future__ import annotations

import argparse
import contextlib
import io
import math
import multiprocessing
import os
import platform
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path
from tempfile import TemporaryDirectory
from time import perf_counter, process_time
from typing import TYPE_CHECKING, Any

import numpy as np
import tensorstore

from viscy_train.config.schema import CropSettings
from viscy_train.crop_store.crop_array import metadata_of
from viscy_train.crop_store.crop_store import CropStore
from viscy_train.crop_store.header import CropArray
from viscy_train.loading.plate_source import PlateSource
from viscy_train.loading.store_source import StoreSource
from viscy_train.packing.pack import pack
from viscy_train.sample_projects import simulation

from .page import format_median_and_range, format_table, write_part
from .store_plate import N_FRAMES, SIDE, make_table, write_plate

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from viscy_train.anchors.table import AnchorTable

_SIDE_OF_CODECS = 160
_N_CROPS_OF_CODECS = 288
_BATCH = 512
_SIDE_OF_CROPS = 16
_N_POSITIONS = 4
_CHUNK = 512
_TEXT = """\
# Crop store

Written by `make bench-store`; do not edit by hand. {rounds} rounds: median (minimum to maximum).

{machine}

## Codecs

Simulated fluorescence with the noise of a camera: crops of {side} x {side} pixels with two channels, one in each chunk
of a shard. *Size* is that of the pixels = 100 %. Times are CPU times over all threads, of tensorstore, which knows all
of these codecs; a decode is part of a read of 256 crops at random, which has the checksum of each crop checked.
*memory* copies the same crops within memory. **{chosen}** is the codec of crop stores, whose crops on local disks are
read without tensorstore, in less time (see "Benchmarks of reading").

{codecs}
## One million crops

{crops:,} crops of {small} x {small} pixels with two channels, from frames of 2048 x 2048 pixels in chunks of {chunk},
Zstandard. *Opened* is the time to open a store whose table is known, *private* what the process has in memory that no
other process can share (Private_Dirty), after opening and after 20 batches of {batch} crops at random.

{million}"""


def codecs(item_size: int) -> dict[str, list[dict[str, Any]]]:
    """Return codecs to compare, by name."""

    def blosc(name: str, level: int, shuffle: str) -> dict[str, Any]:
        options = {"cname": name, "clevel": level, "shuffle": shuffle, "typesize": item_size, "blocksize": 0}
        return {"name": "blosc", "configuration": options}

    compared = {
        f"Blosc, {name} {level}, {shuffle}": [blosc(name, level, shuffle)]
        for name, level in (("lz4", 5), ("zstd", 1), ("zstd", 3))
        for shuffle in ("shuffle", "bitshuffle")
    }
    return {"none": []} | compared | {"Zstandard 1": [{"name": "zstd", "configuration": {"level": 1}}]}


def simulate_crops(dtype: str) -> NDArray[Any]:
    """Return noisy crops of simulated cells, shape (n, 2, 1, side, side)."""
    rng = np.random.default_rng(0)
    crops = []
    while len(crops) < _N_CROPS_OF_CODECS:
        cells = simulation.simulate_cells(rng, 6, infected=bool(len(crops) % 2))
        look = simulation.Microscope(gain=2.0, background=rng.choice([100.0, 400.0]), blur=0.8)
        for frame in simulation.take_images(rng, cells, look, 3.0):
            top, left = rng.integers(0, simulation.SIDE - _SIDE_OF_CODECS, 2)
            crops.append(frame[..., top : top + _SIDE_OF_CODECS, left : left + _SIDE_OF_CODECS])
    pixels = np.stack(crops[:_N_CROPS_OF_CODECS])
    return (pixels / 8).clip(0, 255).astype(dtype) if dtype == "uint8" else (pixels * _scale_of(dtype)).astype(dtype)


def _scale_of(dtype: str) -> float:
    return 1 / 3 if np.dtype(dtype).kind == "f" else 1


def measure_codec(pixels: NDArray[Any], codec: list[dict[str, Any]], folder: Path) -> tuple[float, float, float]:
    """Return the size over that of the pixels, and CPU seconds to encode and to decode a crop."""
    array = CropArray(
        name="0", data_type=pixels.dtype.name, shape=pixels.shape, crops_per_shard=len(pixels), first_slot=0
    )
    metadata = metadata_of(array)
    chain = metadata["codecs"][0]["configuration"]["codecs"]
    chain[1:-1] = codec
    metadata.pop("attributes")
    spec = {"driver": "zarr3", "kvstore": {"driver": "file", "path": str(folder)}, "metadata": metadata}
    written = tensorstore.open(spec, create=True, delete_existing=True).result()
    start = process_time()
    written[...] = pixels
    encoding = process_time() - start
    read = tensorstore.open(spec, read=True, open=True, context=tensorstore.Context()).result()
    rows = np.random.default_rng(1).permutation(len(pixels))[:256]
    read.oindex[rows].read().result()
    start = process_time()
    found = read.oindex[rows].read().result()
    decoding = process_time() - start
    if not np.array_equal(found, pixels[rows]):
        raise SystemExit("crops must be read as they were written")
    size = (folder / array.shard_name(0)).stat().st_size
    return size / pixels.nbytes, encoding / len(pixels), decoding / len(rows)


def measure_copy(pixels: NDArray[Any]) -> float:
    """Return CPU seconds to copy a crop."""
    rows = np.random.default_rng(1).permutation(len(pixels))[:256]
    start = process_time()
    for _ in range(4):
        pixels[rows]
    return (process_time() - start) / 4 / len(rows)


def compare_codecs(rounds: int) -> str:
    """Return tables of codecs for some types."""
    text = ""
    for dtype in ("uint16", "uint8", "float32"):
        pixels = simulate_crops(dtype)
        by_codec = codecs(pixels.dtype.itemsize)
        with TemporaryDirectory() as folder:
            measured = [
                {name: measure_codec(pixels, codec, Path(folder)) for name, codec in by_codec.items()}
                for _ in range(rounds)
            ]
        copies = [measure_copy(pixels) for _ in range(rounds)]
        rows = [["codec", "size", "encode, MB/s of CPU", "decode, CPU ms a crop"]]
        megabytes = pixels[0].nbytes / 1e6
        for name in by_codec:
            sizes, encoding, decoding = zip(*(one[name] for one in measured), strict=True)
            speed = format_median_and_range([megabytes / seconds for seconds in encoding])
            rows.append([name, f"{100 * sizes[0]:.0f} %", speed, format_median_and_range([1e3 * s for s in decoding])])
        rows.append(["memory", "", "", format_median_and_range([1e3 * seconds for seconds in copies])])
        text += f"{dtype}:\n\n{format_table(rows)}\n"
    return text


def table_of_many(plate: Path, n_crops: int) -> AnchorTable:
    """Return the table of a plate with many cells, whose crops are small."""
    table = make_table(plate)
    n_tracks = math.ceil(n_crops / N_FRAMES / _N_POSITIONS) * _N_POSITIONS
    rng = np.random.default_rng(2)
    track = np.arange(n_tracks).repeat(N_FRAMES)
    position = track * _N_POSITIONS // n_tracks
    few = table.observations.drop_duplicates("position").reset_index(drop=True)
    observations = few.iloc[position].reset_index(drop=True)
    centers = rng.uniform(0, SIDE - 1, (len(track), 2))
    observations = observations.assign(
        track_id=track, lineage_id=track, t=np.tile(np.arange(N_FRAMES), n_tracks), y=centers[:, 0], x=centers[:, 1]
    )
    return replace(table, observations=observations, crops=CropSettings(crop=_SIDE_OF_CROPS))


def private_mb() -> float:
    """Return the memory that only this process has, in MB."""
    lines = Path("/proc/self/smaps_rollup").read_text().splitlines()
    return sum(int(line.split()[1]) for line in lines if line.startswith("Private_Dirty")) / 1e3


def measure_reading(table: AnchorTable, path: Path | None, rows: list[NDArray[np.int64]]) -> dict[str, float]:
    """Return times and memory of a source that is opened and read, in a process of its own."""
    fingerprint = table.fingerprint
    before, start = private_mb(), perf_counter()
    if path is not None:
        CropStore(path, fingerprint)
    opened, memory = perf_counter() - start, private_mb() - before
    source = PlateSource(table, cache_mb=256) if path is None else StoreSource(table, path)
    source.read(rows[0])
    cpu, wall = process_time(), perf_counter()
    for one in rows[1:]:
        source.read(one)
    n = sum(map(len, rows[1:]))
    wall, cpu = perf_counter() - wall, process_time() - cpu
    return {
        "opened": 1e3 * opened,
        "private": memory,
        "read": private_mb() - before,
        "speed": n / wall,
        "cpu": 1e3 * cpu / n,
    }


def in_new_process(function: Any, *arguments: Any) -> Any:
    """Return what a function returns in a process of its own."""
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as process:
        return process.submit(function, *arguments).result()


def pack_quietly(table: AnchorTable, path: Path, processes: int) -> tuple[float, float]:
    """Pack, and return the seconds and CPU seconds that this took."""
    start, cpu = perf_counter(), process_time()
    with contextlib.redirect_stdout(io.StringIO()):
        pack(table, path, cache_mb=256, processes=processes)
    return perf_counter() - start, process_time() - cpu


def measure_many(n_crops: int, rounds: int) -> str:
    """Return a table of what packing, opening and reading many crops take."""
    with TemporaryDirectory() as folder:
        plate, path = Path(folder) / "plate.zarr", Path(folder) / "crops.zarr"
        write_plate(plate, _CHUNK)
        table = table_of_many(plate, n_crops)
        seconds, cpu = in_new_process(pack_quietly, table, path, 1)
        rng = np.random.default_rng(3)
        rows = [rng.integers(0, len(table.observations), _BATCH) for _ in range(21)]
        measured = [in_new_process(measure_reading, table, path, rows) for _ in range(rounds)]
        plates = [in_new_process(measure_reading, table, None, rows[:3]) for _ in range(rounds)]
        size = sum(file.stat().st_size for file in path.rglob("*") if file.is_file())
        n_files = len(list((path / "0").glob("c.*")))
    n = len(table.observations)
    pixels = n * 2 * 2 * _SIDE_OF_CROPS**2

    def of(name: str, found: list[dict[str, float]]) -> str:
        return format_median_and_range([one[name] for one in found])

    return format_table(
        [
            ["measurement", "value"],
            ["packed, on one process, seconds", f"{seconds:.0f}"],
            ["packed, CPU ms a crop", f"{1e3 * cpu / n:.3f}"],
            ["size", f"{size / 1e6:,.0f} MB in {n_files} shards, {100 * size / pixels:.0f} % of the pixels"],
            ["opened, ms", of("opened", measured)],
            ["private after opening, MB", of("private", measured)],
            ["private after reading, MB", of("read", measured)],
            ["crops a second from the store", of("speed", measured)],
            ["CPU ms a crop from the store", of("cpu", measured)],
            ["CPU ms a crop from the plate", of("cpu", plates)],
        ]
    )


def main(arguments: list[str] | None = None) -> None:
    """Measure, print the page, and write it to the given file, if any."""
    parser = argparse.ArgumentParser(prog="store", description=__doc__)
    parser.add_argument("--rounds", type=int, default=3, help="number of measurements")
    parser.add_argument("--crops", type=int, default=10**6, help="number of crops of the large store")
    parser.add_argument("--output", type=Path, metavar="FILE", help="Markdown file to write")
    options = parser.parse_args(arguments)
    load = [os.getloadavg()[0]]
    compared = compare_codecs(options.rounds)
    million = measure_many(options.crops, options.rounds)
    load.append(os.getloadavg()[0])
    packages = ", ".join(f"{name} {version(name)}" for name in ("tensorstore", "zarr", "numpy"))
    machine = f"Machine: {os.cpu_count()} cores, {platform.system()}; Python {platform.python_version()}, {packages}."
    machine += "\nLoad average: {:.1f} at the start, {:.1f} at the end.".format(*load)
    text = _TEXT.format(
        rounds=options.rounds,
        machine=machine,
        side=_SIDE_OF_CODECS,
        chosen="Blosc, lz4 5, bitshuffle",
        codecs=compared,
        crops=options.crops,
        small=_SIDE_OF_CROPS,
        chunk=_CHUNK,
        batch=_BATCH,
        million=million,
    )
    print(text)
    if options.output:
        write_part(options.output, text)


if __name__ == "__main__":
    main()
