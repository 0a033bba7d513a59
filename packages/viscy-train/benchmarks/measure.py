"""Measure: the speed of a function that reads crops, in a process of its own."""

from __future__ import annotations

import json
import zlib
from collections.abc import Callable
from time import perf_counter, process_time

import numpy as np
from numpy.typing import NDArray

# Batches are read for this time; at least one, and at most those that are given.
_SECONDS = 2.0


def measure(read: Callable[[NDArray[np.int64]], NDArray], batches: NDArray[np.int64]) -> None:
    """Print how fast batches are read, as JSON.

    Parameters
    ----------
    read : callable
        Returns the crops of some rows.
    batches : numpy.ndarray
        Rows of each batch, shape (n_batches, n). The first is not read, but one row of each position in it is, so that
        positions are opened and libraries warmed up before the clock starts.
    """
    warm_up, *timed = batches
    checked = warm_up[:: max(1, len(warm_up) // 100)]
    check = zlib.crc32(np.ascontiguousarray(read(checked)).tobytes())
    n_crops, start, cpu_start = 0, perf_counter(), process_time()
    for rows in timed:
        n_crops += len(read(rows))
        if perf_counter() - start > _SECONDS:
            break
    seconds, cpu_seconds = perf_counter() - start, process_time() - cpu_start
    print(json.dumps({"crops_per_second": n_crops / seconds, "cpu_ms": 1e3 * cpu_seconds / n_crops, "check": check}))
