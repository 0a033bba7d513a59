"""Ranks benchmark: the memory of the processes of a run on a large anchor table, at the start and in training."""

from __future__ import annotations

import argparse
import contextlib
import io
import multiprocessing
import os
import platform
import shutil
import socket
import sys
import time
from dataclasses import astuple, dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import numpy as np

from .large_project import BATCH_SIZE, CHANNELS, CROP
from .large_table import write_large_table
from .page import format_table, write_part

if TYPE_CHECKING:
    from collections.abc import Sequence
    from multiprocessing.connection import Connection
    from multiprocessing.process import BaseProcess

    from numpy.typing import NDArray

    from viscy_train.crops.native_crops import NativeCrops
    from viscy_train.loading.crop_source import ReadCounts

_SECONDS_BETWEEN_SAMPLES = 0.05
_DEADLINE = 1800.0
_STEPS = 6
_VALIDATED_EVERY = 3
_GB = 2**30
STARTS = ("first", "later")
_TEXT = """\
# Memory of ranks on a large table

Written by `make bench-ranks`; do not edit by hand. {ranks} processes of a run, with {readers} threads each that read
ahead, on an anchor table of tracks that divide, of which a tenth of the positions is kept for validation. Each process
runs all of `viscy-train fit` up to step {steps}, a validation included, except that plates do not exist: they are not
checked, and crops are from a small array in memory. The *first* start decodes the table and saves what follows from it;
a *later* one maps that. Memory is the sum over the processes of what only one of them uses, in GiB: *private* includes
pages of files that no other process has mapped, which the system can take back, and *anonymous* does not include files.
It was sampled every {interval:.0f} ms; *peak* is the largest sum, and *training* is that of the last step. Bytes a row
are the difference to the table with the fewest rows, which is what libraries need.

{machine}

{table}"""
_COLUMNS = ("private", "anonymous")


@dataclass(frozen=True)
class Memory:
    """Bytes of some processes: private, and those of it that are not of files."""

    private: int = 0
    anonymous: int = 0

    def __add__(self, other: Memory) -> Memory:
        return Memory(*(a + b for a, b in zip(astuple(self), astuple(other), strict=True)))

    def largest(self, other: Memory) -> Memory:
        """Return the larger of both numbers."""
        return Memory(*map(max, astuple(self), astuple(other)))


@dataclass(frozen=True)
class Start:
    """The memory of all ranks: the largest until the last step, and in it; and the seconds until then."""

    peak: Memory
    training: Memory
    seconds: float


def main(arguments: list[str] | None = None) -> None:
    """Measure, print the table, and write it to the given file, if any."""
    parser = argparse.ArgumentParser(prog="ranks", description=__doc__)
    parser.add_argument("--rows", type=float, nargs="+", default=[1e7], help="numbers of rows to measure")
    parser.add_argument("--ranks", type=int, default=4)
    parser.add_argument("--readers", type=int, default=4)
    parser.add_argument(
        "--spare-gb", type=float, default=6.0, help="end rather than leave less memory to other programs"
    )
    parser.add_argument("--folder", type=Path, help="where to write the tables; by default, they are deleted")
    parser.add_argument("--output", type=Path, metavar="FILE", help="Markdown file to write")
    options = parser.parse_args(arguments)
    load = [os.getloadavg()[0]]
    starts: dict[int, dict[str, Start]] = {}
    with contextlib.ExitStack() as stack:
        folder = options.folder or Path(stack.enter_context(TemporaryDirectory()))
        for n_wanted in (0, *map(int, options.rows)):
            config, n_rows = write_large_table(
                folder / str(n_wanted), n_wanted, positions_per_well=10 if n_wanted else 1
            )
            starts[n_rows] = {name: measure(config, options) for name in STARTS}
            print(f"{n_rows:,} rows: {starts[n_rows]}", file=sys.stderr, flush=True)
            shutil.rmtree(config.parent)
    load.append(os.getloadavg()[0])
    text = _TEXT.format(
        ranks=options.ranks,
        readers=options.readers,
        steps=_STEPS,
        interval=1e3 * _SECONDS_BETWEEN_SAMPLES,
        machine=_describe_machine(load),
        table=format_starts(starts),
    )
    print(text)
    if options.output:
        write_part(options.output, text)


def measure(config: Path, options: argparse.Namespace) -> Start:
    """Start the ranks of a run, and return their memory."""
    receiver, sender = multiprocessing.Pipe(duplex=False)
    context = multiprocessing.get_context("spawn")
    arguments = config, options.ranks, options.readers, _free_port(), sender
    ranks = [context.Process(target=_train, args=(rank, *arguments)) for rank in range(options.ranks)]
    try:
        for rank in ranks:
            rank.start()
        sender.close()
        return _watch(ranks, receiver, options.spare_gb)
    finally:
        for rank in ranks:
            rank.kill()
            rank.join()


def _watch(ranks: Sequence[BaseProcess], receiver: Connection, spare_gb: float) -> Start:
    """Sample the memory of processes until all of them are in the last step."""
    start, peak, training, n_ready = time.perf_counter(), Memory(), Memory(), 0
    while n_ready < len(ranks):
        training = sum((_memory(rank.pid) for rank in ranks), Memory())
        peak = peak.largest(training)
        if any(rank.exitcode is not None for rank in ranks):
            raise SystemExit("a rank failed")
        if _available() < spare_gb * _GB:
            raise SystemExit(f"less than {spare_gb:g} GiB of memory are available; measure fewer rows")
        if time.perf_counter() - start > _DEADLINE:
            raise SystemExit(f"the ranks did not start in {_DEADLINE:.0f} s")
        if receiver.poll(_SECONDS_BETWEEN_SAMPLES):
            receiver.recv()
            n_ready += 1
    training = sum((_memory(rank.pid) for rank in ranks), Memory())
    return Start(peak.largest(training), training, time.perf_counter() - start)


def _train(rank: int, config: Path, n_ranks: int, n_readers: int, port: int, sender: Connection) -> None:
    """Train on one rank, and send its number in the last step."""
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "WORLD_SIZE": str(n_ranks)}
    os.environ |= {"NODE_RANK": "0", "LOCAL_RANK": str(rank)}
    import torch

    from viscy_train.cli import main as run_command
    from viscy_train.loading.data_module import PairDataModule
    from viscy_train.model.module import ContrastiveModule
    from viscy_train.training import fit

    torch.set_num_threads(1)

    def hold(_: Any, __: Any, batch_index: int) -> None:
        if batch_index == _STEPS - 1:
            sender.send(rank)
            time.sleep(_DEADLINE)  # until the parent has read the numbers and kills this process

    fit.check_sources = lambda _: None  # ty: ignore[invalid-assignment]
    PairDataModule.source = NoiseSource()
    ContrastiveModule.on_train_batch_start = hold  # ty: ignore[invalid-assignment]
    options = {
        "trainer.devices": n_ranks,
        "trainer.strategy": "ddp",
        "trainer.max_steps": _STEPS,
        "trainer.val_check_interval": _VALIDATED_EVERY,
        "trainer.limit_val_batches": 2,
        "data.num_workers": n_readers,
        "output": config.parent / "run",
    }
    if rank == 0:
        shutil.rmtree(config.parent / "run", ignore_errors=True)
    with contextlib.redirect_stdout(io.StringIO()):
        run_command(["fit", "--config", str(config), *(f"--{name}={value}" for name, value in options.items())])


class NoiseSource:
    """Crops of noise, the same for every 512th row."""

    def __init__(self) -> None:
        from viscy_train.crops.resampling import ResampledAxis
        from viscy_train.crops.window import CropWindow

        self._pixels = np.random.default_rng(0).integers(0, 100, (512, len(CHANNELS), 1, CROP, CROP)).astype(np.uint16)
        one, side = ResampledAxis(1, 1, 1), ResampledAxis(CROP, CROP, CROP)
        self._window = CropWindow(z=one, y=side, x=side, mode="middle")

    @property
    def counts(self) -> ReadCounts:
        """How much has been read, which is not counted."""
        from viscy_train.loading.crop_source import ReadCounts

        return ReadCounts()

    def read(self, rows: NDArray[np.int64], draws: NDArray[np.float64] | None = None) -> list[NativeCrops]:
        """Return the crops of some rows."""
        from viscy_train.crops.native_crops import NativeCrops

        n, pixels = len(rows), self._pixels[rows % len(self._pixels)]
        places = {"slots": np.arange(n), "starts": np.zeros((n, 2)), "first_slices": np.zeros(n)}
        return [NativeCrops(pixels=pixels, window=self._window, **places)] if n else []


def _free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def _memory(pid: int | None) -> Memory:
    try:
        sizes = _sizes(Path(f"/proc/{pid}/smaps_rollup"))
    except OSError:  # the process has ended
        return Memory()
    return Memory(sizes["Private_Clean"] + sizes["Private_Dirty"], sizes["Anonymous"])


def _available() -> int:
    return _sizes(Path("/proc/meminfo"))["MemAvailable"]


def _sizes(path: Path) -> dict[str, int]:
    """Return the sizes in a file of /proc in bytes; needs Linux."""
    lines = [line.split() for line in path.read_text(encoding="ascii").splitlines()]
    return {line[0].rstrip(":"): 1024 * int(line[1]) for line in lines if line[-1] == "kB"}


def format_starts(starts: dict[int, dict[str, Start]]) -> str:
    """Return the table of the page."""
    fewest = min(starts)
    heading = ["rows", "start", "seconds"]
    heading += [f"{moment}, {kind}" for moment in ("peak", "training") for kind in _COLUMNS]
    rows = [[*heading, *(f"bytes a row at the peak, {kind}" for kind in _COLUMNS)]]
    for n, by_name in starts.items():
        for name, start in by_name.items():
            sums = [*astuple(start.peak), *astuple(start.training)]
            more = zip(astuple(start.peak), astuple(starts[fewest][name].peak), strict=True)
            a_row = [f"{(a - b) / (n - fewest):.1f}" if n > fewest else "" for a, b in more]
            rows.append([f"{n:,}", name, f"{start.seconds:.0f}", *(f"{one / _GB:.2f}" for one in sums), *a_row])
    return format_table(rows)


def _describe_machine(load: list[float]) -> str:
    machine = f"Machine: {os.cpu_count()} cores, {platform.system()}; Python {platform.python_version()}."
    return machine + "\nBatches of {}. Load average: {:.1f} at the start, {:.1f} at the end.".format(BATCH_SIZE, *load)


if __name__ == "__main__":
    main()
