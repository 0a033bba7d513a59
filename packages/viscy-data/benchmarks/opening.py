"""Opening: the cost of an `AnchorIndex` for the process that builds it and for each process that opens it.

Memory is read from `/proc/self` on Linux; on other systems these numbers are left out.
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
# Enough batches for blocks of every size.
N_BATCHES = 1024
N_SAMPLES = 16
_MAP_AND_READ = """
import mmap, sys
files = [open(file, "rb") for file in sys.argv[1:]]
maps = [mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) for file in files]
for content in maps:
    sum(content[::mmap.PAGESIZE])
print("ready", flush=True)
sys.stdin.read()
"""


def building(job: Job, files: Files) -> dict[str, float]:
    """Measure the peak bytes per anchor while building, in addition to the columns; save the first index.

    It is resident memory, which includes allocations of NumPy and pandas that Python does not track.
    """
    AnchorIndex.build(make_table(40 * BATCH_SIZE))
    table = make_table(job.n_rows)
    before = _resident()
    index = AnchorIndex.build(table)
    peak = _peak_resident()
    if not files.index(job.n_rows).exists():
        index.save(files.index(job.n_rows))
    if before is None or peak is None:
        return {}
    return {"bytes_per_anchor": (peak - before) / job.n_rows}


def opening(job: Job, files: Files) -> dict[str, float]:
    """Measure the time to open an index, to construct a sampler and to draw its first batch, and the memory added.

    Another process has mapped the files and read them, as other processes of a node would, so shared pages do not
    count. The peak of memory is taken between batches. Opening is timed by wall clock, since waiting for a disk counts.
    """
    directory = files.index(job.n_rows)
    with _files_mapped_elsewhere(directory):
        before = _private()
        start = perf_counter()
        index = AnchorIndex.open(directory)
        open_ms = 1e3 * (perf_counter() - start)
        start = process_time()
        sampler = FlexibleBatchSampler(index, **OPTIONS)
        made = process_time()
        batches = iter(sampler)
        next(batches)
        first = process_time()
        peak = _private()
        for _ in range(N_SAMPLES):
            drain(islice(batches, N_BATCHES // N_SAMPLES))
            peak = max(peak, _private())
    n_bytes = sum(file.stat().st_size for file in directory.iterdir())
    return {
        "open_ms": open_ms,
        "sampler_ms": 1e3 * (made - start),
        "first_ms": 1e3 * (first - made),
        "bytes_per_anchor": n_bytes / job.n_rows,
    } | ({"added_mb": (peak - before) / 1e6} if peak else {})


@contextmanager
def _files_mapped_elsewhere(directory: Path) -> Generator[None]:
    """Keep another process running that has mapped and read all files of a directory."""
    command = [sys.executable, "-c", _MAP_AND_READ, *map(str, directory.iterdir())]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        if process.stdout is None or not process.stdout.readline():
            raise RuntimeError(f"the files in {directory} must be readable by another process")
        yield


def _private() -> int:
    """Return the private bytes of this process, or 0 if they are unknown."""
    file = _PROCESS / "smaps_rollup"
    return _kilobytes(file, "Private_") if file.exists() else 0


def _resident() -> int | None:
    """Return the resident bytes of this process and reset the peak, or None if that is not possible."""
    try:
        (_PROCESS / "clear_refs").write_text("5", encoding="ascii")
    except OSError:
        return None
    return _kilobytes(_PROCESS / "status", "VmRSS")


def _peak_resident() -> int | None:
    """Return the peak of resident bytes of this process since `_resident`."""
    return _kilobytes(_PROCESS / "status", "VmHWM") if os.access(_PROCESS / "status", os.R_OK) else None


def _kilobytes(file: Path, prefix: str) -> int:
    lines = file.read_text(encoding="ascii").splitlines()
    return sum(1024 * int(line.split()[1]) for line in lines if line.startswith(prefix))
