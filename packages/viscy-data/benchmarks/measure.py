"""A measurement: one quantity of one sampler, in a process of its own that runs one thread.

Times are CPU time of the process, user and system, in seconds: what other programs do at the same time changes them
less than the time on the wall.
"""

from __future__ import annotations

import gc
import multiprocessing
import os
import tracemalloc
from collections import deque
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from time import process_time

import numpy as np
import pandas as pd

from viscy_data import FlexibleBatchSampler

from .samplers import FLEXIBLE, Epochs, contenders, flexible
from .setting import BATCH_SIZE, OPTIONS, make_table

_AT_LEAST_S = 0.5
_ONE_THREAD = dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"), "1")


@dataclass(frozen=True)
class Job:
    """What is measured.

    Attributes
    ----------
    kind
        The name of a function of this module, without the underscore.
    n_rows
        Anchors of the table.
    sampler
        Name of the sampler, where it is not `FlexibleBatchSampler`.
    num_replicas
        Ranks; it is rank 0 that is measured.
    n_batches
        Only the first batches of each epoch, if not 0.
    n_untimed
        Those of them that are drawn before the clock starts.
    budget_s
        CPU seconds after which an epoch is left and its cost extrapolated, if not 0.
    """

    kind: str
    n_rows: int
    sampler: str = FLEXIBLE
    num_replicas: int = 1
    n_batches: int = 0
    n_untimed: int = 0
    budget_s: float = 0.0


def run(job: Job, released: Path | None) -> dict[str, float]:
    """Measure in a fresh process, forked from one that has only imported modules.

    Parameters
    ----------
    job : Job
        What to measure.
    released : pathlib.Path, optional
        File of VisCy's released sampler.

    Returns
    -------
    dict
        Name and value of each quantity.

    Raises
    ------
    Exception
        As raised by what was measured.
    """
    os.environ.update(_ONE_THREAD)
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([__name__])
    with ProcessPoolExecutor(1, context) as process:
        return process.submit(_measure, job, released).result()


def _measure(job: Job, released: Path | None) -> dict[str, float]:
    return _KINDS[job.kind](job, released)


def _epoch(job: Job, released: Path | None) -> dict[str, float]:
    """Time per batch, start of the epoch included: whole epochs, or the first batches of each."""
    build = contenders(released)[job.sampler].build
    ranks = {"num_replicas": job.num_replicas, "rank": 0} if job.sampler == FLEXIBLE else {}
    _drain(build(make_table(40 * BATCH_SIZE))())  # what is done once in a process
    epochs = build(make_table(job.n_rows), **ranks)
    seconds, n_batches = 0.0, 0
    while seconds < _AT_LEAST_S:
        spent, drawn = _one_epoch(epochs, job)
        seconds, n_batches = seconds + spent, n_batches + drawn
    return {"s_per_batch": seconds / n_batches}


def _one_epoch(epochs: Epochs, job: Job) -> tuple[float, int]:
    """Return the CPU seconds of an epoch and its batches; those beyond the budget cost as much as those before."""
    if job.n_batches:
        return _some_batches(epochs, job.n_untimed, job.n_batches - job.n_untimed)
    start = process_time()
    batches = epochs()
    drawn = _drain(islice(batches, 1))
    started, size, whole = process_time(), 1, False
    while not whole and not (job.budget_s and process_time() - started > job.budget_s):
        n = _drain(islice(batches, size))
        drawn, size, whole = drawn + n, 2 * size, n < size
    end = process_time()
    if whole:
        return end - start, drawn
    n_batches = job.n_rows // BATCH_SIZE
    return started - start + (end - started) / (drawn - 1) * (n_batches - 1), n_batches


def _some_batches(epochs: Epochs, n_untimed: int, n_timed: int) -> tuple[float, int]:
    """Return the CPU seconds of some of the first batches of an epoch, and how many they were."""
    start = process_time()
    batches = epochs()
    if n_untimed:
        _drain(islice(batches, n_untimed))
        start = process_time()
    drawn = _drain(islice(batches, n_timed))
    return process_time() - start, drawn


def _drain(batches: Iterator[list[int]]) -> int:
    """Draw all batches and return their number."""
    last = deque(enumerate(batches, 1), maxlen=1)
    return last[0][0] if last else 0


def _construction(job: Job, released: Path | None) -> dict[str, float]:
    """Time to construct."""
    del released
    flexible(make_table(40 * BATCH_SIZE))
    table = make_table(job.n_rows)
    start = process_time()
    flexible(table)
    return {"s": process_time() - start}


def _sorting(job: Job, released: Path | None) -> dict[str, float]:
    """Time to factorise each used column and to sort 16-bit keys once."""
    del released
    table = make_table(job.n_rows)
    key = np.random.default_rng(0).integers(0, 2**16, job.n_rows, dtype=np.uint16)
    start = process_time()
    for name in table.columns:
        pd.factorize(table[name])
    np.argsort(key, kind="stable")
    return {"s": process_time() - start}


def _memory(job: Job, released: Path | None) -> dict[str, float]:
    """Bytes an anchor that are still allocated after construction, with the table gone."""
    del released
    flexible(make_table(40 * BATCH_SIZE))
    tracemalloc.start()
    sampler = FlexibleBatchSampler(make_table(job.n_rows), **OPTIONS)
    gc.collect()
    kept, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    return {"bytes_per_anchor": kept / job.n_rows, "len": len(sampler)}


def _latency(job: Job, released: Path | None) -> dict[str, float]:
    """Milliseconds to the first batch, to a batch of any number, and to resume; nothing of it was done before."""
    del released
    table = make_table(job.n_rows)
    samplers = [FlexibleBatchSampler(table, **OPTIONS) for _ in range(2)]
    start = process_time()
    next(iter(samplers[0]))
    first = process_time()
    samplers[0].batch(len(samplers[0]) // 2)
    batch = process_time()
    state = samplers[0].state_dict()
    saved = process_time()
    samplers[1].load_state_dict(state)
    loaded = process_time()
    return {"first_ms": 1e3 * (first - start), "batch_ms": 1e3 * (batch - first), "load_ms": 1e3 * (loaded - saved)}


_KINDS = {kind.__name__[1:]: kind for kind in (_epoch, _construction, _sorting, _memory, _latency)}
