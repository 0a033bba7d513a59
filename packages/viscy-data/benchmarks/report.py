"""The report of a run in Markdown."""

from __future__ import annotations

import os
import platform
from collections import Counter
from importlib.metadata import version
from pathlib import Path

from . import tables
from .opening import N_BATCHES, N_LOOKS
from .picture import draw
from .result import Result

_INTRODUCTION = """\
# Benchmarks of FlexibleBatchSampler

Written by `{target}`; do not edit by hand. Batch 256, 10 experiments, 2 conditions, 97 times, all four axes on
(`leaky=0.1`, `experiment_weights="uniform"`, `temporal_enrichment=True`). Every measurement ran in a fresh process with
one thread, what is compared one after the other: everything {least} times, the promised numbers {most} times but for
those of the largest table of a full run and of VisCy's released sampler. Times are CPU time of the process (user and
system). A number is the median of the rounds, with the least and the greatest; a ratio is one of two measurements of
the same round.

{machine}

## What is promised

"must" is the bound, "aim" the better one; "kept" says which of them the median keeps. Rows without a bound stand beside
the one above.

"""
_ROWS = """
What the rows are:

- *Whole epochs* include the start of the epoch and its first, smaller blocks. An epoch of 1e5 rows has 390 batches, so
  its start weighs more than in one of a larger table: a ratio below 1 says that, not that larger tables are faster.
- *Batches n to m of each epoch* leave that out: the same batches of any table, which are one block, the last whole one
  that an epoch of 1e5 rows has. Batches are composed in blocks that grow from one batch to many.
- *Ranks*: the first whole blocks of both, start of the epoch included. An epoch of rank 0 of 1024 is a few batches, so
  in whole epochs each of them carries more of the start.
- *First batch*, `batch(k)` and `load_state_dict` are single steps of a process that has taken no such step before.
- *Memory kept* is what Python and NumPy allocated (`tracemalloc`) after construction, the table gone.
- *Peak while building* is resident memory (`VmHWM`), NumPy's and pandas' own work space included, less that before.
- *Memory of its own* is `Private_*` of `/proc/self/smaps_rollup`, less that before opening: the most of {n_looks}
  looks in {n_batches} batches. Another process has mapped and read the files, as on a node of several ranks, so that
  mapped pages count as shared. *Opening* is timed on the wall, with the files in the page cache.
- Epochs of FlexibleBatchSampler are those of an index that was built once, saved, and read into memory.
"""
_PEERS = """
## Beside other samplers

Microseconds per batch, the start of the epoch included: median (least to greatest). An epoch of a peer that takes over
a second is left then, and its other batches taken to cost what those so far did. Batches are lists, or made into lists,
where nothing else is said. A peer that lacks an axis is measured without it.

"""
_PICTURE = """
![time per batch over rows]({picture})

A line is a sampler, a point the median of the rounds. Where a line rises, a batch of a larger table costs more.
"""
_SLOPES = """
## Slopes

What to reckon with for larger tables: what grows with the rows is given an anchor or a row.

"""


def write(result: Result, file: Path, picture: Path) -> None:
    """Write the report as Markdown, and the picture that it shows.

    Parameters
    ----------
    result : Result
        What to report.
    file, picture : pathlib.Path
        Where to.
    """
    n_rounds = Counter(job for measured in result.rounds for job in measured if job.sampler not in result.skipped)
    text = _INTRODUCTION.format(
        target=result.target, least=min(n_rounds.values()), most=max(n_rounds.values()), machine=_machine()
    )
    text += tables.markdown(tables.promised(result)) + _ROWS.format(n_batches=N_BATCHES, n_looks=N_LOOKS)
    text += _PEERS + tables.markdown(tables.peers(result))
    skipped = [f"{name} was skipped: {reason}" for name, reason in result.skipped.items()]
    if remarks := [*result.notes, *skipped]:
        text += "\n" + "".join(f"- {remark}\n" for remark in remarks)
    if draw(result, picture):
        text += _PICTURE.format(picture=os.path.relpath(picture.resolve(), file.resolve().parent))
    text += _SLOPES + tables.markdown(tables.slopes(result))
    file.write_text(text, encoding="utf-8")


def _machine() -> str:
    packages = ", ".join(f"{name} {version(name).split('+')[0]}" for name in ("numpy", "pandas", "torch"))
    python = f"Python {platform.python_version()}"
    return f"Machine: {os.cpu_count()} cores, {_cpu()}, {platform.system()}; {python}, {packages}."


def _cpu() -> str:
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        for line in cpuinfo.read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()
