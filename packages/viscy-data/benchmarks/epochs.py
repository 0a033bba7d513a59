"""Epochs: the time that a sampler takes per batch."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from dataclasses import replace
from itertools import accumulate, islice
from time import process_time
from typing import Any

import numpy as np

from viscy_data import AnchorIndex, FlexibleBatchSampler

from .jobs import Files, Job
from .samplers import OURS, Epochs, contenders
from .setting import BATCH_SIZE, OPTIONS, make_table

_AT_LEAST_S = 0.5


def epoch(job: Job, files: Files) -> dict[str, float]:
    """Measure the time per batch, including the start of the epoch, over complete or partial epochs."""
    build = contenders(files.released)[job.sampler].build
    is_ours = job.sampler in OURS
    drain(build(make_table(40 * BATCH_SIZE))())  # excludes what is done once per process
    source = read_index(files, job.n_rows) if is_ours else make_table(job.n_rows)
    epochs = build(source, num_replicas=job.num_replicas, rank=0) if is_ours else build(source)
    seconds, n_batches = 0.0, 0
    while seconds < _AT_LEAST_S:
        spent, drawn = _one_epoch(epochs, job)
        seconds, n_batches = seconds + spent, n_batches + drawn
    return {"s_per_batch": seconds / n_batches}


def read_index(files: Files, n_rows: int) -> AnchorIndex:
    """Return the saved index of a table, read into memory as if this process had built it."""
    index = AnchorIndex.open(files.index(n_rows))
    return replace(index, order=np.array(index.order))


def block_ends(n_batches: int) -> list[int]:
    """Return the numbers of batches after which a block ends in an epoch of `n_batches`, without the last of several.

    Batches are composed in blocks, so the cost of a batch follows only from complete blocks. Batches drawn from the
    middle of a block are already composed, and drawing up to the middle of one composes batches that are not drawn.
    """
    sampler = FlexibleBatchSampler(make_table(40 * BATCH_SIZE), **OPTIONS)
    ends = list(accumulate(len(block) for block in sampler._blocks(range(n_batches))))
    return ends[:-1] or ends


def drain(batches: Iterator[Any]) -> int:
    """Draw all batches and return their number."""
    last = deque(enumerate(batches, 1), maxlen=1)
    return last[0][0] if last else 0


def _one_epoch(epochs: Epochs, job: Job) -> tuple[float, int]:
    """Return the CPU seconds and the number of batches of an epoch, extrapolated beyond the budget."""
    if job.n_batches:
        return _some_batches(epochs, job.n_untimed, job.n_batches - job.n_untimed)
    start = process_time()
    batches = epochs()
    drawn = drain(islice(batches, 1))
    started, size, complete = process_time(), 1, False
    while not complete and not (job.budget_s and process_time() - started > job.budget_s):
        n = drain(islice(batches, size))
        drawn, size, complete = drawn + n, 2 * size, n < size
    end = process_time()
    if complete:
        return end - start, drawn
    n_batches = job.n_rows // BATCH_SIZE
    return started - start + (end - started) / (drawn - 1) * (n_batches - 1), n_batches


def _some_batches(epochs: Epochs, n_untimed: int, n_timed: int) -> tuple[float, int]:
    """Return the CPU seconds and the number of some batches near the start of an epoch."""
    start = process_time()
    batches = epochs()
    if n_untimed:
        drain(islice(batches, n_untimed))
        start = process_time()
    drawn = drain(islice(batches, n_timed))
    return process_time() - start, drawn
