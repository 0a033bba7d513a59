"""Opening: what an `AnchorIndex` costs the process that builds it and each process that opens it.

Memory is that which Linux counts (`/proc/self`); on other systems these numbers are left out.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Generator
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from time import perf_counter, process_time

from viscy_data import AnchorIndex, FlexibleBatchSampler

from .epochs import drain
from .jobs import Files, Job
from .setting import BATCH_SIZE, OPTIONS, make_table

_PROCESS = Path("/proc/self")
# Enough for blocks of every size.
N_BATCHES = 1024
N_LOOKS = 16
_HOLD = """
import mmap, sys
files = [open(file, "rb") for file in sys.argv[1:]]
maps = [mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) for file in files]
for mapped in maps:
    sum(mapped[::mmap.PAGESIZE])
print("ready", flush=True)
sys.stdin.read()
"""


def building(job: Job, files: Files) -> dict[str, float]:
    """Bytes an anchor that building holds at most, the columns themselves not counted; the first index is saved.

    It is resident memory, what NumPy and pandas take without Python's knowledge included.
    """
    AnchorIndex.build(make_table(40 * BATCH_SIZE))
    table = make_table(job.n_rows)
    before = _resident()
    index = AnchorIndex.build(table)
    peak = _most_resident()
    if not files.index(job.n_rows).exists():
        index.save(files.index(job.n_rows))
    if before is None or peak is None:
        return {}
    return {"bytes_per_anchor": (peak - before) / job.n_rows}


def opening(job: Job, files: Files) -> dict[str, float]:
    """Milliseconds to open, to make a sampler and to its first batch, megabytes added; nothing of it was done before.

    Another process has mapped the files and read them, as the processes of a node do: what is shared is not counted.
    The most memory is that between batches. Opening is timed on the wall, for waiting for a disk counts.
    """
    folder = files.index(job.n_rows)
    with _other_process(folder):
        before = _private()
        start = perf_counter()
        index = AnchorIndex.open(folder)
        open_ms = 1e3 * (perf_counter() - start)
        start = process_time()
        sampler = FlexibleBatchSampler(index, **OPTIONS)
        made = process_time()
        batches = iter(sampler)
        next(batches)
        first = process_time()
        most = _private()
        for _ in range(N_LOOKS):
            drain(islice(batches, N_BATCHES // N_LOOKS))
            most = max(most, _private())
    n_bytes = sum(file.stat().st_size for file in folder.iterdir())
    return {
        "open_ms": open_ms,
        "sampler_ms": 1e3 * (made - start),
        "first_ms": 1e3 * (first - made),
        "bytes_per_anchor": n_bytes / job.n_rows,
    } | ({"added_mb": (most - before) / 1e6} if most else {})


@contextmanager
def _other_process(folder: Path) -> Generator[None]:
    """Have another process map all files of a folder and read them."""
    command = [sys.executable, "-c", _HOLD, *map(str, folder.iterdir())]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        if process.stdout is None or not process.stdout.readline():
            raise RuntimeError(f"the files in {folder} must be readable by another process")
        yield


def _private() -> int:
    """Return the bytes of this process that no other shares; 0 where that is not known."""
    file = _PROCESS / "smaps_rollup"
    return _kilobytes(file, "Private_") if file.exists() else 0


def _resident() -> int | None:
    """Return the bytes of this process in memory and forget what the most was; None where that cannot be done."""
    try:
        (_PROCESS / "clear_refs").write_text("5", encoding="ascii")
    except OSError:
        return None
    return _kilobytes(_PROCESS / "status", "VmRSS")


def _most_resident() -> int | None:
    """Return the most bytes of this process in memory since `_resident`."""
    return _kilobytes(_PROCESS / "status", "VmHWM") if os.access(_PROCESS / "status", os.R_OK) else None


def _kilobytes(file: Path, prefix: str) -> int:
    lines = file.read_text(encoding="ascii").splitlines()
    return sum(1024 * int(line.split()[1]) for line in lines if line.startswith(prefix))
