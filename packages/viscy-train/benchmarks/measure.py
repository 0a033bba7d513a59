"""Measure: the speed of a function that reads crops, in a process of its own."""

from __future__ import annotations

import json
import zlib
from collections.abc import Callable
from dataclasses import asdict, dataclass
from time import perf_counter, process_time

import numpy as np
from numpy.typing import NDArray

# Batches are read for this time; at least one, and at most those that are given.
_SECONDS = 2.0


@dataclass(frozen=True)
class Speed:
    """A measurement: crops per second of wall time, milliseconds of CPU time a crop, and a checksum of some crops."""

    crops_per_second: float
    cpu_ms: float
    checksum: int


def measure(read: Callable[[NDArray[np.int64]], NDArray], path: str) -> None:
    """Print how fast batches are read, as JSON.

    Parameters
    ----------
    read : callable
        Returns the crops of some rows.
    path : str
        File with the rows of batches, shape (n_batches, n), and those to read before, with which positions are opened
        and libraries loaded.
    """
    with np.load(path) as file:
        warm_up, batches = file["warm_up"], file["batches"]
    checksum = zlib.crc32(np.ascontiguousarray(read(warm_up)).tobytes())
    # Memory that a virtual machine has not used yet takes several times as long to write to.
    np.ones(batches.shape[1] * read(batches[0, :1]).nbytes, dtype=np.uint8)
    n_crops, start, cpu_start = 0, perf_counter(), process_time()
    for rows in batches:
        n_crops += len(read(rows))
        if perf_counter() - start > _SECONDS:
            break
    seconds, cpu_seconds = perf_counter() - start, process_time() - cpu_start
    print(json.dumps(asdict(Speed(n_crops / seconds, 1e3 * cpu_seconds / n_crops, checksum))))
