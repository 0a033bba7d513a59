"""Pack: writes the missing shards of a crop store, on some processes of this machine."""

from __future__ import annotations

from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING

from viscy_train.anchors.array_store import share_arrays
from viscy_train.anchors.shared_table import LEAST_ROWS
from viscy_train.console import say, track
from viscy_train.crop_store.crop_store import missing_shards
from viscy_train.packing.plan import make_plan
from viscy_train.packing.preparation import delete_cut_shards, delete_leftovers, prepare
from viscy_train.packing.shards import ShardPacker
from viscy_train.packing.space import estimate, require_space
from viscy_train.parts import is_in_part
from viscy_train.process_pool import process_pool
from viscy_train.wording import are, count, format_bytes

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Sequence
    from pathlib import Path

    from viscy_train.anchors.array_store import ArrayStore
    from viscy_train.anchors.table import AnchorTable
    from viscy_train.parts import Part

    type Shard = tuple[int, int]
    type Job = Callable[[], int | None]


def pack(
    table: AnchorTable,
    path: Path,
    *,
    cache_mb: int,
    processes: int = 1,
    part: Part = (1, 1),
    shared: ArrayStore | None = None,
) -> int:
    """Write the missing shards of a crop store. A call that was killed at any time is continued by the next one.

    Parameters
    ----------
    table : AnchorTable
        The table.
    path : pathlib.Path
        Directory of the store.
    cache_mb : int
        Memory for decoded chunks, for each process, in MB.
    processes : int, default 1
        Number of processes.
    part : tuple of int, default (1, 1)
        Number of this part, from 1, and number of parts: it has every n-th shard. Other calls, on this machine or
        others, pack the other parts.
    shared : ArrayStore, optional
        Where to share large arrays with the processes.

    Returns
    -------
    int
        Number of shards that are still missing, because other parts have them.

    Raises
    ------
    UserError
        If the directory has something else, the disk has too little space, or a crop cannot be read.
    """
    plan = make_plan(table)
    prepare(path, plan)
    delete_cut_shards(path, plan)
    missing = missing_shards(path, plan.header)
    shards = [shard for shard in _part_of(plan.header.arrays, part) if shard in set(missing)]
    if shards:
        packer = ShardPacker(table, plan, path, cache_mb=cache_mb)
        space = estimate(packer, shards)
        say(space.describe(len(shards)))
        require_space(path, space)
        if shared is not None and processes > 1 and len(plan.rows) >= LEAST_ROWS:
            share_arrays(packer, shared)
        _pack_shards(packer, shards, min(processes, len(shards)))
    missing = missing_shards(path, plan.header)
    if not missing:
        delete_leftovers(path, plan)
    return len(missing)


def describe_missing(n_missing: int) -> str:
    """Return a sentence on shards of other parts, which are not packed yet."""
    return f"Done with this part. {count(n_missing, 'shard')} of other parts {are(n_missing)} still missing"


def _part_of(arrays: Sequence, part: Part) -> list[Shard]:
    shards = [(number, shard) for number, array in enumerate(arrays) for shard in range(array.n_shards)]
    return [shard for index, shard in enumerate(shards) if is_in_part(index, part)]


def _pack_shards(packer: ShardPacker, shards: list[Shard], processes: int) -> None:
    with _jobs_on(packer, shards, processes) as jobs:
        results = _with_progress(jobs)
    # Other calls pack these; if one of them is killed, this one does.
    for shard, result in zip(shards, results, strict=True):
        if result is None:
            packer.pack(*shard, on_wait=say)


@contextmanager
def _jobs_on(packer: ShardPacker, shards: list[Shard], processes: int) -> Generator[list[Job]]:
    """Yield a function for each shard, which packs it or waits until another process has."""
    if processes == 1:
        yield [partial(packer.pack, *shard) for shard in shards]
        return
    again = ", which packs what is missing"
    with process_pool(processes, "pack", again=again, start=_start_process, arguments=(packer,)) as pool:
        yield [pool.submit(_pack_in_process, *shard).result for shard in shards]


def _with_progress(jobs: list[Job]) -> list[int | None]:
    """Run jobs, and show how many are done."""
    results: list[int | None] = []
    for job in track(jobs, "packing shards", detail=lambda: format_bytes(sum(result or 0 for result in results))):
        results.append(job())
    return results


# What a process of the pool packs with; its only task is to pack.
_packer: ShardPacker


def _start_process(packer: ShardPacker) -> None:
    global _packer
    _packer = packer


def _pack_in_process(number: int, shard: int) -> int | None:
    return _packer.pack(number, shard)
