"""Start benchmark: CPU seconds until a command answers, or trains its first step. See ``make bench-start``."""

from __future__ import annotations

import argparse
import contextlib
import io
import os
import platform
import resource
import shutil
import subprocess
import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pyarrow.parquet as pq

from viscy_train.sample_projects.demo import write_demo

from .large_project import POSITIONS_PER_EXPERIMENT, Size, write_large_project
from .page import format_median_and_range, format_table, write_part

_COMMANDS = {
    "import numpy, pandas": ["-c", "import numpy, pandas"],
    "import torch, lightning": ["-c", "import torch, lightning.pytorch"],
    "--help": ["-m", "viscy_train", "--help"],
    "a typo in the command": ["-m", "viscy_train", "idnex"],
    "index": ["-m", "viscy_train", "index", "--config", "{config}"],
    "a typo in a key": ["-m", "viscy_train", "index", "--config", "{config}", "--data.crpo", "3"],
    "inspect": ["-m", "viscy_train", "inspect", "--config", "{config}"],
    "index, demo": ["-m", "viscy_train", "index", "--config", "{demo}"],
    "inspect, demo": ["-m", "viscy_train", "inspect", "--config", "{demo}"],
}
_BASE = "import numpy, pandas"
_TEXT = """\
# Start

Written by `make bench-start`; do not edit by hand. CPU seconds of new processes, median and range of {repeats}, their
imports included, and the median over a process that imports NumPy and pandas. The project has {small:,} observations in
{positions} positions; *demo* is that of `viscy-train demo`, with 3,000.

{machine}

{commands}
## From fit to the first step

CPU seconds and seconds of processes that have imported all libraries, median and range of {repeats}, on a project of
{large:,} observations with threads as readers: *first* decodes the anchor table and writes what later starts map from
files. *Private* is by how much a start increases the memory that only the process uses, in MiB.

{starts}"""


def main() -> None:
    """Measure all commands and write the page."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--output", type=Path)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--positions", type=int, default=270, help="of the large project, each of 10,000 observations")
    parser.add_argument("--large", type=Path, help="configuration of a large project that is indexed already")
    parser.add_argument("--commands-only", action="store_true", help="leave out the large project, and the file")
    parser.add_argument("--first-step", nargs=2, metavar=("CONFIG", "RUN"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.first_step:
        return _time_first_step(*options.first_step)
    with TemporaryDirectory() as folder:
        size = Size(POSITIONS_PER_EXPERIMENT)
        configs = {
            "config": write_large_project(Path(folder) / "small", size),
            "demo": write_demo(Path(folder) / "demo"),
        }
        for config in configs.values():
            _run(_COMMANDS["index"], {"config": config})
        commands = _measure_commands(configs, options.repeats)
        if options.commands_only:
            return print(commands)
        large = options.large or _indexed(Path(folder) / "large", options.positions)
        text = _TEXT.format(
            repeats=options.repeats,
            small=size.n_rows,
            positions=size.n_positions,
            machine=f"Machine: {os.cpu_count()} cores, {platform.system()}; Python {platform.python_version()}.",
            commands=commands,
            large=pq.read_metadata(large.parent / "anchors.parquet").num_rows,
            starts=_measure_starts(large, options),
        )
    print(text)
    if options.output:
        write_part(options.output, text)
    return None


def _measure_commands(configs: dict[str, Path], repeats: int) -> str:
    """Return a table of the CPU seconds of each command, measured in turns."""
    seconds: dict[str, list[float]] = {name: [] for name in _COMMANDS}
    for _ in range(repeats):
        for name, command in _COMMANDS.items():
            seconds[name].append(_run(command, configs))
    base = sorted(seconds[_BASE])[repeats // 2]
    rows = [["command", "CPU s", "over NumPy and pandas"]]
    for name, measured in seconds.items():
        rows.append([name, format_median_and_range(measured), f"{sorted(measured)[repeats // 2] - base:.2f}"])
    return format_table(rows)


def _run(command: list[str], configs: dict[str, Path]) -> float:
    """Run a command and return its CPU seconds, those of its children included."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    words = [word.format(**configs) for word in command]
    subprocess.run([sys.executable, *words], check=False, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def _indexed(folder: Path, n_positions: int) -> Path:
    config = write_large_project(folder, Size(n_positions))
    _run(_COMMANDS["index"], {"config": config})
    return config


def _measure_starts(config: Path, options: Any) -> str:
    """Return a table of the cost of starts on a large project: the first one, and later ones."""
    rows = [["start", "CPU s", "s", "private, MiB"]]
    for name in ("first", "later"):
        costs = []
        for _ in range(options.repeats):
            if name == "first":
                shutil.rmtree(config.parent / ".anchors.parquet.arrays", ignore_errors=True)
            run = config.parent / "run"
            shutil.rmtree(run, ignore_errors=True)
            command = [sys.executable, "-m", "benchmarks.start", "--first-step", str(config), str(run)]
            said = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout
            costs.append([float(word) for word in said.split()])
        rows.append([name, *(format_median_and_range(list(column)) for column in zip(*costs, strict=True))])
    return format_table(rows)


def _time_first_step(config: str, run: str) -> None:
    """Start `fit`, print what it cost until the first step, and end the process."""
    import viscy_train.report.write
    import viscy_train.training.fit
    import viscy_train.training.lightning_cli  # noqa: F401
    from viscy_train.cli import main as run_command
    from viscy_train.model.module import ContrastiveModule

    private, seconds, cpu_seconds = _private(), time.perf_counter(), time.process_time()

    def end(*_: Any) -> None:
        costs = time.process_time() - cpu_seconds, time.perf_counter() - seconds, _private() - private
        os.write(1, " ".join(f"{cost:.3f}" for cost in costs).encode())
        os._exit(0)

    ContrastiveModule.on_train_batch_start = end  # ty: ignore[invalid-assignment]
    with contextlib.redirect_stdout(io.StringIO()):
        run_command(["fit", "--config", config, "--output", run, "--trainer.accelerator", "cpu"])


def _private() -> float:
    """Return the memory that only this process uses, in MiB; needs Linux."""
    lines = Path("/proc/self/smaps_rollup").read_text(encoding="ascii").splitlines()
    return sum(int(line.split()[1]) for line in lines if line.startswith("Private_")) / 1024


if __name__ == "__main__":
    main()
