"""The SLURM script of the examples, with stand-ins for ``srun`` and ``scontrol`` that do what theirs are documented to.

The first starts the tasks of a job on this machine, each with the variables that SLURM sets, and ends with the greatest
of their exit codes. Which signals reach whom is up to the tests: ``--signal=USR1@300`` reaches the tasks alone,
``scancel`` the tasks and the script.
"""

import contextlib
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from lightning.pytorch.plugins.environments import SLURMEnvironment

from viscy_train.exit_codes import EXIT_STOPPED
from viscy_train.run.directory import RunDirectory
from viscy_train.training.lightning_cli import TrainingCLI

pytestmark = pytest.mark.slow
SCRIPT = Path(__file__).parents[2] / "examples" / "slurm.sh"
JOB = "4711"
# So seldom that the state at a stop can only be that of the stop.
CHANGES = {"trainer.max_epochs": 2, "data.sampler.batch_size": 8, "checkpoint.every_n_steps": 1000}
_DEADLINE = 240
# Options of srun that the script gives, then the command.
SRUN = """\
#!{python}
import os, subprocess, sys, time
options = [word for word in sys.argv[1:] if word.startswith("--kill") or word.startswith("--wait")]
assert options == sys.argv[1:3] == ["--kill-on-bad-exit=0", "--wait=60"], sys.argv
nodes, per_node = int(os.environ["SLURM_NNODES"]), int(os.environ["SLURM_NTASKS_PER_NODE"])
tasks = []
for task in range(nodes * per_node):
    place = {{"SLURM_PROCID": task, "SLURM_LOCALID": task % per_node, "SLURM_NODEID": task // per_node}}
    tasks.append(subprocess.Popen(sys.argv[3:], env=os.environ | {{name: str(n) for name, n in place.items()}}))
with open("tasks.new", "w") as file:
    file.write(" ".join(str(task.pid) for task in tasks))
os.rename("tasks.new", "tasks")
while all(task.poll() is None for task in tasks):
    time.sleep(0.05)
first = time.monotonic()
while any(task.poll() is None for task in tasks) and time.monotonic() < first + 60:
    time.sleep(0.05)
for task in tasks:
    task.kill()
sys.exit(max(code if code >= 0 else 128 - code for code in (task.wait() for task in tasks)))
"""
SCONTROL = """\
#!/bin/sh
echo "$@" >> requeued
"""


class Job:
    """A job that was submitted: the script, in the folder of a project."""

    def __init__(self, folder, nodes, tasks_per_node):
        (folder / "tasks").unlink(missing_ok=True)
        self.folder = folder
        n_tasks = nodes * tasks_per_node
        programs = folder / "bin"
        programs.mkdir(exist_ok=True)
        for name, text in (("srun", SRUN.format(python=sys.executable)), ("scontrol", SCONTROL)):
            (programs / name).write_text(text)
            (programs / name).chmod(0o755)
        slurm = {
            "SLURM_JOB_ID": JOB,
            "SLURM_JOB_NAME": "viscy-train",
            "SLURM_NNODES": str(nodes),
            "SLURM_NODELIST": "127.0.0.1",
            "SLURM_NTASKS": str(n_tasks),
            "SLURM_NTASKS_PER_NODE": str(tasks_per_node),
            "OMP_NUM_THREADS": "1",
        }
        path = os.pathsep.join([str(programs), str(Path(sys.executable).parent), os.environ["PATH"]])
        self._output = (folder / "output.txt").open("a")
        self.script = subprocess.Popen(
            ["bash", str(SCRIPT), "config.yaml"],
            cwd=folder,
            env=os.environ | slurm | {"PATH": path},
            stdout=self._output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )

    def __enter__(self):
        return self

    def __exit__(self, *_):
        """Leave no process behind: the script's session is also that of all that it started."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.script.pid, signal.SIGKILL)
        self.script.wait()
        self._output.close()

    def wait_for(self, holds):
        """Wait until something holds."""
        deadline = time.monotonic() + _DEADLINE
        while not holds():
            assert time.monotonic() < deadline, f"it did not come about in time: {self.output}"
            time.sleep(0.01)

    def signal_tasks(self, number):
        """Send all tasks a signal once some steps were made."""
        self.wait_for(lambda: lines(self.folder) > 5 or self.script.poll() is not None)
        for pid in (self.folder / "tasks").read_text().split():
            os.kill(int(pid), number)

    @property
    def output(self):
        return (self.folder / "output.txt").read_text()


def lines(folder):
    """Return how many lines the log has, one or more for each step."""
    path = RunDirectory(folder / "run").metrics
    return path.read_text().count("\n") if path.exists() else 0


def requeued(folder):
    """Return what scontrol was asked for."""
    path = folder / "requeued"
    return path.read_text().splitlines() if path.exists() else []


def test_a_job_at_its_time_limit_is_requeued_and_goes_on(make_project, tmp_path):
    """Two tasks on one node, then one on each of two nodes: every batch once."""
    make_project(tmp_path, **CHANGES)
    with Job(tmp_path, 1, 2) as job:
        job.signal_tasks(signal.SIGUSR1)
        assert job.script.wait(_DEADLINE) == EXIT_STOPPED, job.output
    assert requeued(tmp_path) == [f"requeue {JOB}"]
    with Job(tmp_path, 2, 1) as job:
        assert job.script.wait(_DEADLINE) == 0, job.output
    assert requeued(tmp_path) == [f"requeue {JOB}"]
    assert job.output.count("stopped as asked after step") == job.output.count("Going on from") == 1
    assert "Traceback" not in job.output
    slots = RunDirectory(tmp_path / "run").read_batches()
    n_batches = slots["batch"].max() + 1
    sizes = slots.groupby(["epoch", "batch"]).size()
    assert len(sizes) == CHANGES["trainer.max_epochs"] * n_batches
    assert set(sizes) == {CHANGES["data.sampler.batch_size"]}
    assert slots["step"].nunique() == CHANGES["trainer.max_epochs"] * -(-n_batches // 2)
    assert RunDirectory(tmp_path / "run").report.exists()


def test_lightning_leaves_the_queue_to_the_script(make_project, tmp_path, monkeypatch):
    for name, value in {"SLURM_NTASKS": "1", "SLURM_PROCID": "0", "SLURM_LOCALID": "0", "SLURM_NODEID": "0"}.items():
        monkeypatch.setenv(name, value)
    cli = TrainingCLI("fit", ["--config", str(make_project(tmp_path))], "")
    trainer, _, _ = cli.make_all()
    environment = trainer._accelerator_connector.cluster_environment
    assert isinstance(environment, SLURMEnvironment)
    assert not environment.auto_requeue


def test_a_job_that_is_cancelled_saves_and_stays_cancelled(make_project, tmp_path):
    make_project(tmp_path, **CHANGES)
    with Job(tmp_path, 1, 2) as job:
        job.signal_tasks(signal.SIGTERM)
        job.script.terminate()
        assert job.script.wait(_DEADLINE) == -signal.SIGTERM
        job.wait_for(lambda: "stopped as asked" in job.output)
        job.wait_for(RunDirectory(tmp_path / "run").last_checkpoint.exists)
    assert requeued(tmp_path) == []
