"""The page of results: BENCHMARKS.md, with its tables, figure and explanations."""

from __future__ import annotations

import os
import platform
from collections import Counter
from importlib.metadata import version
from pathlib import Path

from . import tables
from .figure import draw
from .opening import N_BATCHES, N_SAMPLES
from .result import Result

_INTRODUCTION = """\
# Benchmarks of FlexibleBatchSampler

Written by `{target}`; do not edit by hand.

Batch size 256, 10 experiments, 2 conditions, 97 times, all four axes on (`leaky=0.1`, `experiment_weights="uniform"`,
`temporal_enrichment=True`). Every measurement ran in a new process with one thread, and measurements that are compared
followed each other. Everything was measured {least} times, except that numbers with a target were measured {most}
times, unless they concern the largest table of a full run or VisCy's released sampler. Times are CPU time of the
process (user and system). A number is the median over the rounds, with minimum and maximum; a ratio is computed from
two measurements of the same round.

{machine}

## Performance targets

"must" is the required bound, "aim" a better one, and "met" the stricter of the two that the median meets. Rows without
a bound put the row above them into context.

"""
_ROWS = """
Explanations:

- *Complete epochs* include the start of the epoch and its first, smaller blocks. An epoch of 1e5 rows has 390 batches,
  so its start weighs more than that of a larger table. This is why a ratio can be below 1; larger tables are not
  faster.
- *Batches n to m of each epoch* leave the start out. They are the same batches of any table and make up one block, the
  last complete one in an epoch of 1e5 rows. Batches are composed in blocks that grow from one batch to many.
- *First batches of ranks*: the first complete blocks of both, including the start of the epoch. An epoch of rank 0 of
  1024 has few batches, so in complete epochs each of them carries a larger part of the start.
- *First batch*, `batch(k)` and `load_state_dict` are single steps in a process that takes such a step for the first
  time.
- *Memory kept* is what Python and NumPy have allocated (`tracemalloc`) after construction, once the table is freed.
- *Peak memory while building* is resident memory (`VmHWM`), which includes the work space of NumPy and pandas, minus
  that before building.
- *Private memory* is `Private_*` in `/proc/self/smaps_rollup`, minus that before opening: the maximum of {n_samples}
  samples in {n_batches} batches. Another process has mapped and read the files, as on a node with several ranks, so
  mapped pages count as shared. *Opening* is timed by wall clock, with the files in the page cache.
- *The same batch without the option*: complete epochs of two samplers of one table were drawn alternately in one
  process. Without enrichment means `temporal_enrichment=False`.
- Epochs of FlexibleBatchSampler use an index that was built once, saved, and read into memory.
"""
_PEERS = """
## Comparison with other samplers

Microseconds per batch including the start of the epoch: median (minimum to maximum). An epoch of another sampler that
takes more than a second is cut off, and its remaining batches are assumed to cost as much as those before. Batches are
lists, or converted to lists, unless stated otherwise. A sampler that lacks an axis is measured without it.

"""
_FIGURE = """
![time per batch over the number of rows]({figure})

Each line is a sampler, each point the median over the rounds. Where a line rises, batches of larger tables cost more.
"""
_SLOPES = """
## Slopes

Numbers to extrapolate to larger tables. Quantities that grow with the table are given per anchor or row.

"""


def write(result: Result, file: Path, figure: Path) -> None:
    """Write a result as Markdown, and the figure that it shows.

    Parameters
    ----------
    result : Result
        The result to write.
    file, figure : pathlib.Path
        The Markdown file and the image file.
    """
    n_rounds = Counter(job for measured in result.rounds for job in measured if job.sampler not in result.skipped)
    text = _INTRODUCTION.format(
        target=result.target, least=min(n_rounds.values()), most=max(n_rounds.values()), machine=_machine()
    )
    text += tables.to_markdown(tables.performance(result)) + _ROWS.format(n_batches=N_BATCHES, n_samples=N_SAMPLES)
    text += _PEERS + tables.to_markdown(tables.peers(result))
    if result.remarks:
        text += "\n" + "".join(f"- {remark}\n" for remark in result.remarks)
    if draw(result, figure):
        text += _FIGURE.format(figure=os.path.relpath(figure.resolve(), file.resolve().parent))
    text += _SLOPES + tables.to_markdown(tables.slopes(result))
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
