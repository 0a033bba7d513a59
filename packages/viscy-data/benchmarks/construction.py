"""Construction: the time it takes, the memory that a sampler keeps, and the latency of its first steps."""

from __future__ import annotations

import gc
import tracemalloc
from time import process_time

import numpy as np
import pandas as pd

from viscy_data import AnchorIndex, FlexibleBatchSampler

from .jobs import Files, Job
from .samplers import contenders, flexible
from .setting import BATCH_SIZE, OPTIONS, make_table


def construction(job: Job, files: Files) -> dict[str, float]:
    """Measure the time to construct a sampler."""
    build = contenders(files.released)[job.sampler].build
    build(make_table(40 * BATCH_SIZE))
    table = make_table(job.n_rows)
    start = process_time()
    build(table)
    seconds = process_time() - start
    return {"s": seconds, "ns_per_row": 1e9 * seconds / job.n_rows}


def sorting(job: Job, files: Files) -> dict[str, float]:
    """Measure the time to factorize each column in use and to sort 16-bit keys once."""
    del files
    table = make_table(job.n_rows)
    key = np.random.default_rng(0).integers(0, 2**16, job.n_rows, dtype=np.uint16)
    start = process_time()
    for name in table.columns:
        pd.factorize(table[name])
    np.argsort(key, kind="stable")
    return {"s": process_time() - start}


def memory(job: Job, files: Files) -> dict[str, float]:
    """Measure the bytes per anchor that are still allocated after construction, once the table is freed."""
    del files
    flexible(make_table(40 * BATCH_SIZE))
    tracemalloc.start()
    sampler = FlexibleBatchSampler(make_table(job.n_rows), **OPTIONS)
    gc.collect()
    kept, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    return {"bytes_per_anchor": kept / job.n_rows, "len": len(sampler)}


def latency(job: Job, files: Files) -> dict[str, float]:
    """Measure the milliseconds to the first batch, to a batch by its number, and to resume, each for the first time."""
    resumed = FlexibleBatchSampler(AnchorIndex.open(files.index(job.n_rows)), **OPTIONS)
    sampler = FlexibleBatchSampler(make_table(job.n_rows), **OPTIONS)
    start = process_time()
    next(iter(sampler))
    first = process_time()
    sampler.batch(len(sampler) // 2)
    batch = process_time()
    state = sampler.state_dict()
    saved = process_time()
    resumed.load_state_dict(state)
    loaded = process_time()
    return {"first_ms": 1e3 * (first - start), "batch_ms": 1e3 * (batch - first), "load_ms": 1e3 * (loaded - saved)}
