"""The training script of these tests as a command."""

import json
import sys
import uuid
from dataclasses import replace
from pathlib import Path

import pytest

from viscy_sampling_testkit import FaultPlan, Launch, TrainedBatch, TrainingCommand, run_faults

SCRIPT = Path(__file__).with_name("training_script.py")


def make_start(mutant):
    def start(directory, num_replicas, resume):
        (directory / "data").mkdir(exist_ok=True)
        if not resume:
            (directory / "data" / "values.txt").write_text(" ".join(str(5 + row % 7 / 7) for row in range(36)))
        is_disturbed = not resume and directory.name.startswith("plan")
        shared = ["--num-replicas", str(num_replicas), "--resume", str(int(resume)), "--address", uuid.uuid4().hex]
        shared += ["--disturbed", str(int(is_disturbed))]
        argv = [sys.executable, str(SCRIPT), str(directory), *shared, "--mutant", mutant]
        return [Launch(argv=[*argv, "--rank", str(rank)]) for rank in range(num_replicas)]

    return start


def read_batches(directory):
    for file in sorted(directory.glob("batches-*.jsonl")):
        for line in file.read_text().split("\n")[:-1]:
            if line.startswith("[") and line.endswith("]"):
                step, epoch, batch, rank, rows, loss, attempt = json.loads(line)
                yield TrainedBatch(
                    step=step, epoch=epoch, batch=batch, rank=rank, rows=tuple(rows), loss=loss, attempt=attempt
                )


def count_steps(directory):
    return max((one.step + 1 for one in read_batches(directory) if one.rank == 0), default=0)


@pytest.fixture
def make_command():
    """Return a function that makes the training command, with one mistake or none, and with some fields changed."""

    def make(mutant="", **changes):
        command = TrainingCommand(
            start=make_start(mutant),
            progress=count_steps,
            read=read_batches,
            checkpoints=lambda directory: [directory / "checkpoint"],
            data=lambda directory: directory / "data",
            has_workers=True,
            elastic_tolerance=0.2,
        )
        return replace(command, **changes)

    return make


@pytest.fixture
def make_plan():
    """Return a function that makes a plan: a fault in the middle of a run on one rank, which resumes on one."""

    def make(fault, **changes):
        defaults = {"number": 0, "moment": 0.5, "num_replicas": 1, "resume_num_replicas": 1, "pause": 0.1, "cut": 0.7}
        return FaultPlan(fault=fault, **defaults | changes)

    return make


@pytest.fixture
def run_plan(make_command, make_plan, tmp_path):
    """Return a function that exposes the command, with one mistake or none, to one fault, and returns the verdict."""

    def run(fault, mutant="", *, changes=None, exit_patience=300.0, **plan):
        command = make_command(mutant, **changes or {})
        report = run_faults(command, [make_plan(fault, **plan)], tmp_path / "runs", exit_patience=exit_patience)
        return report.verdicts[0]

    return run
