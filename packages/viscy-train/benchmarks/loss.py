"""Loss benchmark: memory and CPU time of the contrastive loss on one of several ranks. See ``make bench-loss``."""

from __future__ import annotations

import argparse
import multiprocessing
import os
import platform
import sys
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from statistics import median
from time import process_time

import torch
from pytorch_metric_learning.losses import SupConLoss
from torch import Tensor

from viscy_train.model.contrastive_loss import contrastive_loss

from .page import format_median_and_range, format_table, write_part

_N_PAIRS = 256
_LENGTH = 128
_TEMPERATURE = 0.2
_RANKS = (1, 2, 8, 64)
# SupConLoss needs about 14 square matrices.
_MAX_RANKS_OF_SUPCON = 8
_MIN_ROUNDS = 3
_MEGABYTE = 2**20
_TEXT = """\
# Memory of the loss

Written by `make bench-loss`; do not edit by hand. A step has {n_pairs} pairs on each rank, so a rank has {n_rows} rows.
It compares them with the {n_rows} columns of each rank, in float32, with projections of length {length}. *Logits* is
the size of one matrix of these rows and columns. The other numbers are of a forward and a backward pass with one thread
in a process that has the projections of all ranks already: by how much the peak of its resident memory exceeds the
memory before, and CPU time. SupConLoss of pytorch-metric-learning computes square matrices of the rows of all ranks.
Each measurement was made {rounds} times, always in a new process: median (minimum to maximum). MB are MiB.

{machine}

{table}
- *With hardness*: hardness is {hardness:g}.
- SupConLoss was measured on up to {max_ranks} ranks. Its memory grows with the square of their number, from which the
  number that is not measured follows.
- At most about ten blocks of 4 MB are in memory at once, so with few columns the peak exceeds the size of the logits.
"""
_HARDNESS = 1.0
OURS, WITH_HARDNESS, SUPCON = "contrastive_loss", "contrastive_loss with hardness", "SupConLoss"


@dataclass(frozen=True)
class Job:
    """What to measure: a method, and the number of ranks."""

    method: str
    n_ranks: int


@dataclass(frozen=True)
class Cost:
    """A measurement: MiB of memory, and milliseconds of CPU time."""

    megabytes: float
    ms: float


def main(arguments: list[str] | None = None) -> None:
    """Measure, print the table, and write it to the given file, if any."""
    parser = argparse.ArgumentParser(prog="loss", description=__doc__)
    parser.add_argument("--rounds", type=int, default=_MIN_ROUNDS, help="number of measurements of each method")
    parser.add_argument("--output", type=Path, metavar="FILE", help="Markdown file to write")
    options = parser.parse_args(arguments)
    if options.rounds < _MIN_ROUNDS:
        raise SystemExit(f"--rounds must be at least {_MIN_ROUNDS}, got {options.rounds}")
    jobs = [Job(method, n) for n in _RANKS for method in (OURS, WITH_HARDNESS, SUPCON) if _is_measured(method, n)]
    load = [os.getloadavg()[0]]
    rounds = [{job: _measure_in_new_process(job) for job in jobs} for _ in range(options.rounds)]
    load.append(os.getloadavg()[0])
    costs = {job: [measured[job] for measured in rounds] for job in jobs}
    text = _describe(costs, options.rounds, load)
    print(text)
    if options.output:
        write_part(options.output, text)


def _is_measured(method: str, n_ranks: int) -> bool:
    return method != SUPCON or n_ranks <= _MAX_RANKS_OF_SUPCON


def _measure_in_new_process(job: Job) -> Cost:
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as process:
        cost = process.submit(_measure, job).result()
    print(f"{job}: {cost}", file=sys.stderr)
    return cost


def _measure(job: Job) -> Cost:
    """Return the cost of a method on rank 0; libraries are warmed up by a small step before."""
    torch.set_num_threads(1)
    _run(job.method, *_make_step(1, 8))
    step = _make_step(job.n_ranks, _N_PAIRS)
    before = _read_status("VmRSS")
    Path("/proc/self/clear_refs").write_text("5", encoding="ascii")  # the peak is the present memory
    start = process_time()
    _run(job.method, *step)
    seconds = process_time() - start
    return Cost((_read_status("VmHWM") - before) / _MEGABYTE, 1e3 * seconds)


def _make_step(n_ranks: int, n_pairs: int) -> tuple[Tensor, Tensor]:
    """Return projections of all ranks, shape (n_ranks, n_crops, length), and labels, shape (n_ranks, n_crops)."""
    projections = torch.randn(n_ranks, 2 * n_pairs, _LENGTH, generator=torch.Generator().manual_seed(0))
    return projections, torch.arange(n_ranks * n_pairs).view(n_ranks, n_pairs).repeat(1, 2)


def _run(method: str, projections: Tensor, labels: Tensor) -> None:
    own = projections[0].clone().requires_grad_()
    if method == SUPCON:
        loss = SupConLoss(temperature=_TEMPERATURE)(torch.cat([own, *projections[1:]]), labels.flatten())
    else:
        hardness = _HARDNESS if method == WITH_HARDNESS else 0.0

        def gather(tensor: Tensor) -> Tensor:
            """Return what all ranks hold; of the numbers of rows, only the size matters."""
            known = {projections[0].shape: projections, labels[0].shape: labels}
            return known.get(tensor.shape, tensor.expand(len(labels), *tensor.shape))

        loss = contrastive_loss(own, labels[0], _TEMPERATURE, hardness, gather=gather)
    loss.backward()


def _read_status(name: str) -> int:
    """Return a size of this process in bytes, such as VmRSS; needs Linux."""
    lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    (size,) = (line.split()[1] for line in lines if line.startswith(f"{name}:"))
    return 1024 * int(size)


def _describe(costs: dict[Job, list[Cost]], n_rounds: int, load: list[float]) -> str:
    machine = f"Machine: {os.cpu_count()} cores, {platform.system()}; Python {platform.python_version()}, torch "
    machine += f"{version('torch')}, pytorch-metric-learning {version('pytorch-metric-learning')}."
    machine += "\nLoad average: {:.1f} at the start, {:.1f} at the end.".format(*load)
    heading = ["ranks", "logits, MB", "MB", "MB with hardness", "MB of SupConLoss", "CPU ms", "CPU ms of SupConLoss"]
    rows = [_row(n_ranks, costs) for n_ranks in _RANKS]
    return _TEXT.format(
        n_pairs=_N_PAIRS,
        n_rows=2 * _N_PAIRS,
        length=_LENGTH,
        rounds=n_rounds,
        machine=machine,
        table=format_table([heading, *rows]),
        max_ranks=_MAX_RANKS_OF_SUPCON,
        hardness=_HARDNESS,
    )


def _row(n_ranks: int, costs: dict[Job, list[Cost]]) -> list[str]:
    measured = {method: costs.get(Job(method, n_ranks), []) for method in (OURS, WITH_HARDNESS, SUPCON)}
    memory = {method: [cost.megabytes for cost in all_costs] for method, all_costs in measured.items()}
    times = {method: [cost.ms for cost in all_costs] for method, all_costs in measured.items()}
    logits = 4 * (2 * _N_PAIRS) ** 2 * n_ranks / _MEGABYTE
    supcon = _extrapolate(costs, n_ranks) if not memory[SUPCON] else format_median_and_range(memory[SUPCON])
    return [
        str(n_ranks),
        f"{logits:.0f}",
        *(format_median_and_range(memory[method]) for method in (OURS, WITH_HARDNESS)),
        supcon,
        format_median_and_range(times[OURS]),
        format_median_and_range(times[SUPCON]) if times[SUPCON] else "",
    ]


def _extrapolate(costs: dict[Job, list[Cost]], n_ranks: int) -> str:
    largest = [cost.megabytes for cost in costs[Job(SUPCON, _MAX_RANKS_OF_SUPCON)]]
    return f"{median(largest) * (n_ranks / _MAX_RANKS_OF_SUPCON) ** 2:.0f} (not measured)"


if __name__ == "__main__":
    main()
