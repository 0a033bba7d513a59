"""Faults of viscy-train: expose `viscy-train fit` on a small demo project to kills, full disks and damaged files.

`python tools/train_faults.py DIRECTORY --faults 200` runs the faults of `viscy_sampling_testkit`, prints a report and
writes it to the directory. A run that was interrupted resumes with the first fault that has no verdict yet.
"""

import argparse
import os
import shutil
import sys
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path

TOOLS = Path(__file__).parent
# Modules that every attempt needs; they are imported once.
PRELOAD = ("viscy_train.cli.commands", "viscy_train.training.fit", "viscy_train.report.write", "tensorboard")
# A run of a few dozen steps, with a checkpoint at every third.
OPTIONS = {
    "seed_everything": 5,
    "trainer.max_epochs": 2,
    "model.encoder.width": 4,
    "model.encoder.features": 8,
    "model.encoder.projection": 4,
    "data.crop": 16,
    "data.sampler.batch_size": 192,
    "data.num_workers": 1,
    "data.start_method": "fork",
    "checkpoint.every_n_steps": 3,
}
# On a loaded machine, zarr-python may not end its thread in time when the interpreter exits.
_IGNORED = (
    r"^Thread did not finish cleanly; forcefully closing the event loop\.$"
    r"|^Exception ignored in atexit callback: <function cleanup_resources(?s:.*?)Cannot close a running event loop$"
)


def words_of(options: Mapping[str, object]) -> list[str]:
    """Return options as words of a command line."""
    return [word for name, value in options.items() for word in (f"--{name}", str(value))]


def make_project(project: Path) -> None:
    """Write the demo project, with its anchor table."""
    from viscy_train.cli import main
    from viscy_train.sample_projects.demo import write_demo

    config = write_demo(project)
    if main(["index", "--config", str(config), *words_of({"data.crop": OPTIONS["data.crop"]})]):
        raise RuntimeError(f"cannot index {project}")


def make_command(project: Path, *, report: bool = False):
    """Return the command that trains on a copy of a project, for `viscy_sampling_testkit.run_faults`."""
    from viscy_sampling_testkit import TrainingCommand

    return TrainingCommand(
        start=partial(start, [], project, report),
        progress=count_steps,
        read=read_batches,
        checkpoints=lambda directory: [run_directory(directory).last_checkpoint],
        data=lambda directory: directory / "project",
        has_workers=True,
        ignored_output=_IGNORED,
        preload=PRELOAD,
    )


def start(stores: list, project: Path, report: bool, directory: Path, num_replicas: int, resume: bool):
    """Copy the project, and return the processes of all ranks; `stores` keeps what connects them."""
    from torch.distributed import TCPStore

    from viscy_sampling_testkit import Launch

    copy = directory / "project"
    if not copy.exists():
        shutil.copytree(project, copy, copy_function=os.link)
    options = OPTIONS | {"output": directory / "run", "trainer.devices": num_replicas}
    options["trainer.strategy"] = "ddp" if num_replicas > 1 else "auto"
    words = ["fit", "--config", str(copy / "config.yaml"), *words_of(options)]
    argv = [sys.executable, "-m", "train_faults", *words, *(["--ckpt_path", "last"] if resume else [])]
    env = {"VISCY_FAULTS_REPORT": str(int(report)), "OMP_NUM_THREADS": "1"}
    if num_replicas == 1:
        return [Launch(argv=argv, env=env, cwd=TOOLS)]
    store = TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)
    stores[:] = [store]
    env |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(store.port), "WORLD_SIZE": str(num_replicas)}
    env |= {"TORCHELASTIC_USE_AGENT_STORE": "True", "TORCHELASTIC_RESTART_COUNT": "0", "NODE_RANK": "0"}
    return [Launch(argv=argv, env=env | {"LOCAL_RANK": str(rank)}, cwd=TOOLS) for rank in range(num_replicas)]


def run_directory(directory: Path):
    """Return the directory of the run."""
    from viscy_train.run.directory import RunDirectory

    return RunDirectory(directory / "run")


def count_steps(directory: Path) -> int:
    """Return the number of completed steps; a step is recorded when it begins."""
    from viscy_train.run.batch_record import record_of_rank

    return record_of_rank(run_directory(directory).batches, 0).last_step() or 0


def read_batches(directory: Path):
    """Return the recorded batches, with the loss of each step on rank 0."""
    from viscy_sampling_testkit import TrainedBatch
    from viscy_train.run.attempts import read_attempts
    from viscy_train.run.metrics_csv import LOSS, read_log

    run = run_directory(directory)
    log = read_log(run.metrics)
    losses = log.dropna(subset=LOSS).set_index("step")[LOSS].to_dict()
    starts = read_attempts(run)["step"].tolist()
    for (step, epoch, batch, rank), rows in run.read_batches().groupby(["step", "epoch", "batch", "rank"])["row"]:
        yield TrainedBatch(
            step=step,
            epoch=epoch,
            batch=batch,
            rank=rank,
            rows=tuple(rows.tolist()),
            loss=losses.get(step) if rank == 0 else None,
            attempt=max((number for number, first in enumerate(starts) if first <= step), default=0),
        )


def fit(words: Sequence[str]) -> int:
    """Run `viscy-train fit` in this process, which may have been forked from one with preloaded modules."""
    import torch

    import viscy_train.report.write
    from viscy_train.cli import main

    torch.set_num_threads(1)
    if os.environ["VISCY_FAULTS_REPORT"] == "0":
        vars(viscy_train.report.write)["evaluate_and_write_page"] = lambda *_: None
    return main(words)


def run(directory: Path, n_faults: int, seed: int, *, report: bool = False):
    """Run planned faults in a directory, and return the report."""
    from viscy_sampling_testkit import plan_faults, run_faults

    project = directory / "project"
    if not (project / "anchors.parquet").exists():
        shutil.rmtree(project, ignore_errors=True)
        make_project(project)
    command = make_command(project, report=report)
    plans = plan_faults(seed, n_faults, faults=command.faults)
    return run_faults(
        command,
        plans,
        directory / "runs",
        exit_patience=120.0,
        results=directory / "verdicts.jsonl",
        on_verdict=lambda verdict: print(f"{verdict}\n    {verdict.seconds:.1f} s", flush=True),
    )


def main() -> int:
    """Run faults, and print and write the report."""
    parser = argparse.ArgumentParser(description="Expose viscy-train fit to faults.")
    parser.add_argument("directory", type=Path, help="for the runs, the verdicts and the report")
    parser.add_argument("--faults", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--report", action="store_true", help="let each run write its page, which takes seconds")
    options = parser.parse_args()
    options.directory.mkdir(parents=True, exist_ok=True)
    report = run(options.directory.resolve(), options.faults, options.seed, report=options.report)
    (options.directory / "report.txt").write_text(f"{report}\n")
    print(report)
    return 1 if report.failed else 0


if __name__ == "__main__":
    sys.exit(fit(sys.argv[1:]) if sys.argv[1:2] == ["fit"] else main())
