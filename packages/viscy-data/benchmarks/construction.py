"""Construction: what a sampler costs before its first batch, what it keeps, and what its first steps take."""

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
    """Time to construct."""
    build = contenders(files.released)[job.sampler].build
    build(make_table(40 * BATCH_SIZE))
    table = make_table(job.n_rows)
    start = process_time()
    build(table)
    seconds = process_time() - start
    return {"s": seconds, "ns_per_row": 1e9 * seconds / job.n_rows}


def sorting(job: Job, files: Files) -> dict[str, float]:
    """Time to factorise each used column and to sort 16-bit keys once."""
    del files
    table = make_table(job.n_rows)
    key = np.random.default_rng(0).integers(0, 2**16, job.n_rows, dtype=np.uint16)
    start = process_time()
    for name in table.columns:
        pd.factorize(table[name])
    np.argsort(key, kind="stable")
    return {"s": process_time() - start}


def memory(job: Job, files: Files) -> dict[str, float]:
    """Bytes an anchor that are still allocated after construction, with the table gone."""
    del files
    flexible(make_table(40 * BATCH_SIZE))
    tracemalloc.start()
    sampler = FlexibleBatchSampler(make_table(job.n_rows), **OPTIONS)
    gc.collect()
    kept, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    return {"bytes_per_anchor": kept / job.n_rows, "len": len(sampler)}


def latency(job: Job, files: Files) -> dict[str, float]:
    """Milliseconds to the first batch, to a batch of any number, and to resume; nothing of it was done before."""
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
