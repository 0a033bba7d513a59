"""Overhead benchmark: what `fit` adds to a step of a bare training loop. See ``make bench-overhead``."""

from __future__ import annotations

import argparse
import multiprocessing
import os
import platform
import time
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
import yaml
from lightning.pytorch import Callback, Trainer
from lightning.pytorch.profilers import SimpleProfiler

from viscy_train.cli.entry_point import main as run_command
from viscy_train.config.schema import EncoderConfig, LossConfig, OptimizerConfig
from viscy_train.model.module import ContrastiveModule
from viscy_train.training.lightning_cli import TrainingCLI
from viscy_train.training.lightning_warnings import quiet_lightning

from .large_project import CHANNELS, CROP, POSITIONS_PER_EXPERIMENT, Size, write_large_project
from .page import format_median_and_range, format_table, write_part

if TYPE_CHECKING:
    from collections.abc import Mapping

    from torch import Tensor

    from viscy_train.loading.data_module import PairDataModule

BARE, LIGHTNING, FIT = "a bare loop", "Lightning alone", "viscy-train fit"
STEP_MS = 50.0
LIMIT = 0.05
"""Share of a step that `fit` may add."""
_MIN_ROUNDS = 3
_WARM_UP = 20
_N_PAIRS = 2
_TRANSFORMS = ("rotation", "scale", "translation", "gain", "offset", "noise", "blur")
_TEXT = """\
# Overhead of `fit`

Written by `make bench-overhead`; do not edit by hand. A step trains the same small network on the same batches, which
are in memory: {n_pairs} pairs of crops, recorded with the {n_rows} rows of a complete batch of a table of {n_table:,}
observations. The step waits, as for a GPU, until {step:.0f} ms have passed. Each way trained {steps} steps after
{warm_up} steps of warm-up, {rounds} times, always in a new process, and the ways took turns: median (minimum to
maximum). *Lightning alone* is its trainer without callbacks, loggers and checkpoints; *viscy-train fit* has all
callbacks of a run, its records, and the loggers of metrics.csv and of TensorBoard, every 10 steps. Checkpoints, which
are as slow as the disk and as rare as `checkpoint.every_n_steps` says, are left out. "Added" is the difference to the
bare loop of the same round, "share" its part of {step:.0f} ms; it must be at most {limit:.0%}. CPU time is that of all
threads, and depends less on other load of the machine.

{machine}

{ways}
What `fit` adds to Lightning, by callback and logger, in one more run with Lightning's profiler:

{parts}"""


@dataclass(frozen=True)
class Cost:
    """Milliseconds of wall clock and of CPU time that a step takes."""

    wall: float
    cpu: float


class FixedStep(ContrastiveModule):
    """The module of a run, whose forward pass takes at least `STEP_MS`."""

    def training_step(self, batch: Mapping[str, Tensor]) -> Tensor:
        """Return the loss, and wait as a process waits for a GPU."""
        started = time.perf_counter()
        loss = self._compute_loss(self._project(batch), batch)
        time.sleep(max(0.0, STEP_MS / 1000 - (time.perf_counter() - started)))
        return loss


class Batches(tuple):
    """Batches in memory. Lightning takes a list for several loaders."""


class FinishedCrops:
    """Crops that are normalized already, in place of those that a data module finishes on the device."""

    def __init__(self, crops: Tensor) -> None:
        self._crops = crops

    def to(self, *_: Any, **__: Any) -> FinishedCrops:
        """Return the crops, which are where they are needed."""
        return self

    def finish(self) -> Tensor:
        """Return the crops."""
        return self._crops


class Clock(Callback):
    """Take the time from the end of the warm-up to the end of the last step."""

    def __init__(self, n_steps: int) -> None:
        self._n_steps, self._done = n_steps, 0
        self._started = _now()
        self.cost = Cost(0.0, 0.0)

    def on_train_batch_start(self, trainer: Trainer, pl_module: Any, batch: Any, batch_idx: int) -> None:
        """Start or stop the clock."""
        self.tick()

    def tick(self) -> None:
        """Count a step that begins."""
        if self._done == _WARM_UP:
            self._started = _now()
        if self._done == _WARM_UP + self._n_steps:
            self.cost = Cost(*(1e3 * (_now() - self._started) / self._n_steps))
        self._done += 1


def _now() -> np.ndarray:
    return np.array([time.perf_counter(), time.process_time()])


def measure(way: str, config: Path, n_steps: int) -> Cost:
    """Return the cost of a step, in a process of its own."""
    torch.set_num_threads(1)  # the time of several depends on what else the machine does
    clock = Clock(n_steps)
    n_batches = _WARM_UP + n_steps + 1
    if way == FIT:
        _fit(config, clock, n_batches)
    else:
        cli, data = _data(config, "other")
        model, batches = _model(cli), _batches(data, n_batches)
        _train_bare(model, batches, clock) if way == BARE else _train_with_lightning(model, batches, clock)
    return clock.cost


def profile(config: Path, n_steps: int) -> dict[str, float]:
    """Return the milliseconds of a step that each callback and logger takes, the slowest first."""
    torch.set_num_threads(1)
    profiler = SimpleProfiler()
    _fit(config, Clock(n_steps), _WARM_UP + n_steps + 1, profiler)
    parts: dict[str, float] = {}
    for action, durations in profiler.recorded_durations.items():
        name = action.removeprefix("[Callback]").partition(".")[0].partition("{")[0]
        if action.startswith("[Callback]") and ".on_train_batch_" in action and name != "Clock":
            parts[name] = parts.get(name, 0.0) + 1e3 * sum(durations[_WARM_UP : _WARM_UP + n_steps]) / n_steps
    return dict(sorted(parts.items(), key=lambda item: -item[1]))


def _data(config: Path, output: str) -> tuple[TrainingCLI, PairDataModule]:
    path = config.parent / f"{output}-{os.getpid()}"
    cli = TrainingCLI("fit", ["--config", str(config), "--output", str(path)], "")
    data = cli.make_data()
    data.setup("fit")
    return cli, data


def _model(cli: TrainingCLI) -> FixedStep:
    model = cli.config.model
    torch.manual_seed(0)
    loss = LossConfig(**model.loss.as_dict())
    encoder, optimizer = EncoderConfig(**model.encoder.as_dict()), OptimizerConfig(schedule="constant")
    return FixedStep(encoder, loss, optimizer, n_channels=len(CHANNELS), crop=CROP)


def _batches(data: PairDataModule, n_batches: int) -> Batches:
    """Return batches whose rows are complete, and whose crops are few."""
    size = data.options.batch_size
    crops = torch.randn(2, _N_PAIRS, len(CHANNELS), 1, CROP, CROP)
    lineage = torch.arange(_N_PAIRS)
    batches = (
        {
            "crops": FinishedCrops(crops.flatten(0, 1)),
            "anchor": crops[0],
            "positive": crops[1],
            "lineage": lineage,
            "condition": lineage,
            "row": torch.from_numpy(data.train_rows[data.sampler.batch(index, 0)]),
            "positive_row": torch.zeros(size, dtype=torch.int64),
            "epoch": torch.tensor(0),
            "batch": torch.tensor(index),
            "first_slot": torch.tensor(0),
        }
        for index in range(n_batches)
    )
    return Batches(batches)


def _train_bare(model: FixedStep, batches: Batches, clock: Clock) -> None:
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    model.train()
    for batch in batches:
        clock.tick()
        optimizer.zero_grad()
        model.training_step(batch).backward()
        optimizer.step()


def _train_with_lightning(model: FixedStep, batches: Batches, clock: Clock) -> None:
    quiet: Any = dict.fromkeys(("logger", "enable_progress_bar", "enable_model_summary", "enable_checkpointing"), False)
    with quiet_lightning():
        trainer = Trainer(max_epochs=1, accelerator="cpu", devices=1, callbacks=[clock], **quiet)
        trainer.fit(model, batches, [])


def _fit(config: Path, clock: Clock, n_batches: int, profiler: SimpleProfiler | None = None) -> None:
    """Train with the callbacks and loggers of a run, on batches in memory."""
    cli, _ = _data(config, "fit")
    trainer, _, data = cli.make_all()
    model = _model(cli)
    data.setup("fit")
    batches = _batches(data, n_batches)
    data.train_dataloader = lambda: batches  # ty: ignore[invalid-assignment]
    callbacks: Any = trainer.callbacks  # ty: ignore[missing-attribute]
    callbacks.insert(0, clock)
    if profiler is not None:
        trainer.profiler = profiler  # ty: ignore[missing-attribute]
    with quiet_lightning():
        trainer.fit(model, datamodule=data)


def _in_new_process(function: Any, *arguments: Any) -> Any:
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as process:
        return process.submit(function, *arguments).result()


def write_project(folder: Path, n_positions: int) -> Path:
    """Write a project with an anchor table, without augmentation and validation, and return its configuration."""
    path = write_large_project(folder / "project", Size(n_positions))
    config = yaml.safe_load(path.read_text())
    config["trainer"] = {"max_epochs": 1, "accelerator": "cpu", "devices": 1}
    config["model"]["loss"] = {"negatives": "batch"}
    config["checkpoint"] = {"every_n_steps": 10**9, "keep_best": 0}
    config["data"]["augmentation"] = dict.fromkeys(_TRANSFORMS, 0) | {"flip": False}
    path.write_text(yaml.safe_dump(config), encoding="utf-8")
    if _in_new_process(run_command, ["index", "--config", str(path)]):
        raise SystemExit("the anchor table could not be built")
    return path


def main(arguments: list[str] | None = None) -> None:
    """Measure, print the tables, and write them to the given file, if any."""
    parser = argparse.ArgumentParser(prog="overhead", description=__doc__)
    parser.add_argument("--rounds", type=int, default=5, help="number of measurements of each way")
    parser.add_argument("--steps", type=int, default=200, help="number of steps of a measurement")
    parser.add_argument("--positions", type=int, default=POSITIONS_PER_EXPERIMENT, help="size of the project")
    parser.add_argument("--output", type=Path, metavar="FILE", help="Markdown file to write")
    options = parser.parse_args(arguments)
    if options.rounds < _MIN_ROUNDS:
        raise SystemExit(f"--rounds must be at least {_MIN_ROUNDS}, got {options.rounds}")
    load = [os.getloadavg()[0]]
    with TemporaryDirectory() as folder:
        config = write_project(Path(folder), options.positions)
        rounds = [
            {way: _in_new_process(measure, way, config, options.steps) for way in (BARE, LIGHTNING, FIT)}
            for _ in range(options.rounds)
        ]
        parts = _in_new_process(profile, config, options.steps)
    load.append(os.getloadavg()[0])
    text = _TEXT.format(
        n_pairs=_N_PAIRS,
        n_rows=256,
        n_table=Size(options.positions).n_rows,
        step=STEP_MS,
        steps=options.steps,
        warm_up=_WARM_UP,
        rounds=options.rounds,
        limit=LIMIT,
        machine=_describe_machine(load),
        ways=_format_ways(rounds),
        parts=format_table([["callback", "ms a step"], *([name, f"{ms:.3f}"] for name, ms in parts.items())]),
    )
    print(text)
    if options.output:
        write_part(options.output, text)


def _format_ways(rounds: list[dict[str, Cost]]) -> str:
    heading = ["way", "ms a step", "added", "share", "CPU ms a step", "added", "share"]
    return format_table([heading, *(_row(way, rounds) for way in rounds[0])])


def _row(way: str, rounds: list[dict[str, Cost]]) -> list[str]:
    cells = [way]
    for clock in ("wall", "cpu"):
        costs = [getattr(costs[way], clock) for costs in rounds]
        added = [cost - getattr(costs[BARE], clock) for cost, costs in zip(costs, rounds, strict=True)]
        share = [f"{f(added) / STEP_MS:.1%}" for f in (median, min, max)]
        texts = ["", ""] if way == BARE else [format_median_and_range(added), f"{share[0]} ({share[1]} to {share[2]})"]
        cells += [format_median_and_range(costs), *texts]
    return cells


def _describe_machine(load: list[float]) -> str:
    packages = ", ".join(f"{name} {version(name)}" for name in ("torch", "lightning"))
    machine = f"Machine: {os.cpu_count()} cores, {platform.system()}; Python {platform.python_version()}, {packages}."
    return f"{machine} Load average: {load[0]:.1f} at the start, {load[1]:.1f} at the end."


if __name__ == "__main__":
    main()
