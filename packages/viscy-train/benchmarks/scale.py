"""Scale benchmark: time and memory of the commands on projects of up to 1e7 observations. See ``make bench-scale``."""

from __future__ import annotations

import argparse
import contextlib
import io
import math
import multiprocessing
import os
import platform
import shutil
import socket
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from .large_project import (
    BATCH_SIZE,
    N_FRAMES,
    N_MARKERS,
    N_PERTURBATIONS,
    POSITIONS_PER_EXPERIMENT,
    ROWS_PER_POSITION,
    Size,
    write_large_project,
)
from .page import format_table, write_part

_POSITIONS = (20, 100, 300, 1000)
_RANKS, _WORKERS = 4, 4
COMMANDS = ("index", "inspect", "fit", "fit again")
_GB = 2**30
_TEXT = """\
# Scale of a project

Written by `make bench-scale`; do not edit by hand. A position has {rows:,} observations of tracks that divide, in
{frames} frames, and an experiment has {positions} positions. Batches of {batch} have a leak of 0.1 and temporal
enrichment. *fit* is the time until the first batch has been loaded, without data workers; *fit again* is that of a
second run, which maps the columns of the table from files that the first one wrote. Each time is of a new process that
has imported all libraries. GiB is by how much the peak of its resident memory exceeds that before, mapped files
included. Slopes are those of a line through the logarithms of the numbers and of the number of observations: 1 is
proportional.

{machine}

{tables}
{memory}"""
_MEMORY = """\
## Memory of {ranks} ranks with {workers} data workers each

After two steps, summed over the processes, in GiB: *private* is the memory that only one process uses (USS), *shared*
the remaining part of the proportional set size (PSS). Libraries take about 0.4 GiB of each process that is not forked
from another. What a forked worker shares with its rank is not private.

{table}"""


@dataclass(frozen=True)
class Cost:
    """A measurement: wall and CPU seconds, and GiB of memory."""

    seconds: float
    cpu_seconds: float
    gb: float


@dataclass(frozen=True)
class Memory:
    """GiB of memory of some processes: private, and shared."""

    private: float
    shared: float


def main(arguments: list[str] | None = None) -> None:
    """Measure, print the tables, and write them to the given file, if any."""
    parser = argparse.ArgumentParser(prog="scale", description=__doc__)
    parser.add_argument("--positions", type=int, nargs="+", default=_POSITIONS, help="numbers of positions to measure")
    parser.add_argument(
        "--memory", type=int, default=_POSITIONS[-1], help="number of positions for the memory of ranks"
    )
    parser.add_argument("--folder", type=Path, help="where to keep the projects; by default, they are deleted")
    parser.add_argument("--output", type=Path, metavar="FILE", help="Markdown file to write")
    options = parser.parse_args(arguments)
    load = [os.getloadavg()[0]]
    with contextlib.ExitStack() as stack:
        folder = options.folder or Path(stack.enter_context(TemporaryDirectory()))
        costs = {pooled: _measure_sizes(folder, options.positions, pooled=pooled) for pooled in (False, True)}
        memory = _measure_ranks(folder, options.positions[0], options.memory) if options.memory else ""
    load.append(os.getloadavg()[0])
    tables = "\n".join(_format_costs(title, costs[pooled]) for pooled, title in _TITLES.items())
    text = _TEXT.format(
        rows=ROWS_PER_POSITION,
        frames=N_FRAMES,
        positions=POSITIONS_PER_EXPERIMENT,
        batch=BATCH_SIZE,
        machine=_describe_machine(load),
        tables=tables,
        memory=memory,
    )
    print(text)
    if options.output:
        write_part(options.output, text)


_TITLES = {
    False: "A condition for each well",
    True: f"A perturbation for each cell, {N_PERTURBATIONS:,} in every experiment, and {N_MARKERS} proteins",
}


def _project(folder: Path, n_positions: int, *, pooled: bool) -> Path:
    """Return the configuration of a project, which is written unless it exists."""
    path = folder / f"{'pooled' if pooled else 'wells'}-{n_positions}"
    return path / "config.yaml" if path.exists() else write_large_project(path, Size(n_positions), pooled=pooled)


def _measure_sizes(folder: Path, n_positions: list[int], *, pooled: bool) -> dict[int, dict[str, Cost]]:
    """Return the costs of each command by the number of observations."""
    costs: dict[int, dict[str, Cost]] = {}
    for n in n_positions:
        config = _project(folder, n, pooled=pooled)
        costs[Size(n).n_rows] = {command: _measure(config, command) for command in COMMANDS}
    return costs


def _measure(config: Path, command: str) -> Cost:
    """Return the cost of a command in a new process."""
    receiver, sender = multiprocessing.Pipe(duplex=False)
    context = multiprocessing.get_context("spawn")
    process = context.Process(target=_run, args=(config, command, sender))
    process.start()
    sender.close()
    try:
        cost = receiver.recv()
    except EOFError:
        raise SystemExit(f"{command} of {config} failed") from None
    process.join()
    print(f"{config.parent.name} {command}: {cost}", file=sys.stderr, flush=True)
    return cost


def _run(config: Path, command: str, sender: Any) -> None:
    """Run a command, send its cost, and end this process."""
    import viscy_train.anchors.build
    import viscy_train.report.dry_run_page
    import viscy_train.training.fit  # noqa: F401
    from viscy_train.cli import commands  # noqa: F401
    from viscy_train.cli import main as run_command
    from viscy_train.model.module import ContrastiveModule

    before, start, cpu_start = _resident("VmRSS"), time.perf_counter(), time.process_time()

    def end(*_: Any) -> None:
        seconds, cpu_seconds = time.perf_counter() - start, time.process_time() - cpu_start
        sender.send(Cost(seconds, cpu_seconds, (_resident("VmHWM") - before) / _GB))
        sender.close()
        os._exit(0)

    name, *again = command.split()
    options = {"inspect": ["--out", str(config.parent / "inspect.html")], "fit": ["--output", _new_run(config)]}
    if name == "fit" and not again:
        shutil.rmtree(config.parent / ".anchors.parquet.arrays", ignore_errors=True)
    ContrastiveModule.on_train_batch_start = end  # ty: ignore[invalid-assignment]
    with contextlib.redirect_stdout(io.StringIO()):
        exit_code = run_command([name, "--config", str(config), *options.get(name, [])])
    if exit_code == 0:
        end()


def _new_run(config: Path) -> str:
    """Return a directory for a run that does not exist."""
    run = config.parent / "run"
    shutil.rmtree(run, ignore_errors=True)
    return str(run)


def _measure_ranks(folder: Path, few: int, many: int) -> str:
    """Return the part of the page on the memory of ranks and their workers."""
    heading = ["observations", "workers started by", "ranks, private", "shared", "workers, private", "shared"]
    rows = [heading]
    for n_positions in (few, many):
        config = _project(folder, n_positions, pooled=False)
        for method in ("fork", "spawn"):
            ranks, workers = _measure_memory(config, method)
            numbers = (ranks.private, ranks.shared, workers.private, workers.shared)
            rows.append([f"{Size(n_positions).n_rows:,}", method, *(f"{number:.2f}" for number in numbers)])
    return _MEMORY.format(ranks=_RANKS, workers=_WORKERS, table=format_table(rows))


def _measure_memory(config: Path, method: str) -> tuple[Memory, Memory]:
    """Return the memory of all ranks, and of all their workers, in a step of a run."""
    if not (config.parent / "anchors.parquet").exists():
        _measure(config, "index")
    receiver, sender = multiprocessing.Pipe(duplex=False)
    context = multiprocessing.get_context("spawn")
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port = listener.getsockname()[1]
    run = _new_run(config)
    ranks = [context.Process(target=_train, args=(config, method, run, port, rank, sender)) for rank in range(_RANKS)]
    for rank in ranks:
        rank.start()
    sender.close()
    try:
        memory = receiver.recv()
    except EOFError:
        raise SystemExit(f"the ranks of {config} failed") from None
    finally:
        for rank in ranks:
            rank.kill()
            rank.join()
    print(f"{config.parent.name} {method}: {memory}", file=sys.stderr, flush=True)
    return memory


def _train(config: Path, method: str, run: str, port: int, rank: int, sender: Any) -> None:
    """Train on one rank; rank 0 sends the memory of all ranks and workers after two steps."""
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "WORLD_SIZE": str(_RANKS)}
    os.environ |= {"NODE_RANK": "0", "LOCAL_RANK": str(rank)}
    import torch

    from viscy_train.cli import main as run_command
    from viscy_train.model.module import ContrastiveModule

    torch.set_num_threads(1)

    def measure(_: Any, __: Any, batch_index: int) -> None:
        if batch_index < 2:
            return
        torch.distributed.barrier()
        if rank == 0:
            pids = _children(os.getppid())
            sender.send((_memory(pids), _memory([worker for pid in pids for worker in _children(pid)])))
        time.sleep(3600)  # until the parent has read the numbers and kills this process

    ContrastiveModule.on_train_batch_start = measure  # ty: ignore[invalid-assignment]
    options = {
        "trainer.devices": _RANKS,
        "trainer.strategy": "ddp",
        "trainer.max_steps": 10,
        "data.num_workers": _WORKERS,
        "data.workers": "processes",
        "data.start_method": method,
        "output": run,
    }
    with contextlib.redirect_stdout(io.StringIO()):
        run_command(["fit", "--config", str(config), *(f"--{name}={value}" for name, value in options.items())])


def _children(pid: int) -> list[int]:
    """Return the processes that a process has started and that run Python with our libraries; needs Linux."""
    children = [int(one) for task in Path(f"/proc/{pid}/task").iterdir() for one in _children_of_task(task)]
    return [child for child in children if _resident("VmRSS", child) > 100 * 2**20]


def _children_of_task(task: Path) -> list[str]:
    return (task / "children").read_text(encoding="ascii").split()


def _memory(pids: list[int]) -> Memory:
    private = shared = 0
    for pid in pids:
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text(encoding="ascii").splitlines()[1:]
        sizes = {name: 1024 * int(size) for name, size, *_ in (line.split() for line in lines)}
        own = sizes["Private_Clean:"] + sizes["Private_Dirty:"]
        private, shared = private + own, shared + sizes["Pss:"] - own
    return Memory(private / _GB, shared / _GB)


def _resident(name: str, pid: int | str = "self") -> int:
    """Return a size of a process in bytes, such as VmRSS; needs Linux."""
    lines = Path(f"/proc/{pid}/status").read_text(encoding="ascii").splitlines()
    sizes = [line.split()[1] for line in lines if line.startswith(f"{name}:")]
    return 1024 * int(sizes[0]) if sizes else 0


def _format_costs(title: str, costs: dict[int, dict[str, Cost]]) -> str:
    heading = ["observations", *(f"{name}, {unit}" for name in COMMANDS for unit in ("s", "CPU s", "GiB"))]
    rows = [
        [f"{n:,}", *(text for name in COMMANDS for text in _format_cost(measured[name]))]
        for n, measured in costs.items()
    ]
    if len(costs) > 1:
        rows.append(["slope", *(text for name in COMMANDS for text in _slopes({n: costs[n][name] for n in costs}))])
    return f"## {title}\n\n{format_table([heading, *rows])}"


def _format_cost(cost: Cost) -> list[str]:
    return [f"{cost.seconds:.1f}", f"{cost.cpu_seconds:.1f}", f"{cost.gb:.2f}"]


def _slopes(costs: dict[int, Cost]) -> list[str]:
    """Return the slopes of the logarithms of each number over that of the number of observations."""
    rows = [math.log(n) for n in costs]
    columns = zip(*((cost.seconds, cost.cpu_seconds, cost.gb) for cost in costs.values()), strict=True)
    return [f"{np.polyfit(rows, np.log(np.maximum(column, 1e-3)), 1)[0]:.2f}" for column in columns]


def _describe_machine(load: list[float]) -> str:
    machine = f"Machine: {os.cpu_count()} cores, {platform.system()}; Python {platform.python_version()}."
    return machine + "\nLoad average: {:.1f} at the start, {:.1f} at the end.".format(*load)


if __name__ == "__main__":
    main()
