"""The SLURM script of the examples, with stand-ins for ``srun`` and ``scontrol`` that behave as documented.

``srun`` starts the tasks of a job on this machine, each with the variables that SLURM sets, and ends with the highest
of their exit codes. The tests decide which processes get which signal: ``--signal=USR1@300`` reaches only the tasks,
``scancel`` the tasks and the script.
"""

import contextlib
import os
import signal
import subprocess
import sys
from functools import partial
from pathlib import Path

import pytest
from lightning.pytorch.plugins.environments import SLURMEnvironment
from torch.distributed import TCPStore

from viscy_train.exit_codes import EXIT_STOPPED
from viscy_train.run.directory import RunDirectory
from viscy_train.training.lightning_cli import TrainingCLI

pytestmark = pytest.mark.slow
SCRIPT = Path(__file__).parents[2] / "examples" / "slurm.sh"
JOB = "4711"
# Checkpoints are so rare that only the stop itself can have saved the state.
CHANGES = {"trainer.max_epochs": 2, "data.sampler.batch_size": 8, "checkpoint.every_n_steps": 1000}
# Checks the options of srun that the script gives, then forks the tasks, so that Lightning is loaded once for all.
# Waits longer than --wait=60 for the last tasks, because this machine may be busy.
SRUN = """\
#!{python}
import os, signal, sys, time
assert sys.argv[1:5] == ["--cpus-per-task=2", "--kill-on-bad-exit=0", "--wait=60", "viscy-train"], sys.argv
import viscy_train.cli.commands, viscy_train.training.fit, viscy_train.report.write
from viscy_train.cli import main
n_tasks, per_node = int(os.environ["SLURM_NTASKS"]), int(os.environ["SLURM_NTASKS_PER_NODE"])
tasks = {{}}
for task in range(n_tasks):
    pid = os.fork()
    if not pid:
        own = {{"SLURM_PROCID": task, "SLURM_LOCALID": task % per_node, "SLURM_NODEID": task // per_node}}
        os.environ.update({{name: str(number) for name, number in own.items()}})
        sys.exit(main(sys.argv[5:]))
    tasks[pid] = None
with open("tasks.new", "w") as file:
    file.write(" ".join(map(str, tasks)))
os.rename("tasks.new", "tasks")
first_end = None
while None in tasks.values() and (first_end is None or time.monotonic() < first_end + 1800):
    for pid in [pid for pid, code in tasks.items() if code is None]:
        ended, status = os.waitpid(pid, os.WNOHANG)
        if ended:
            tasks[pid] = os.waitstatus_to_exitcode(status)
            first_end = first_end or time.monotonic()
    time.sleep(0.05)
for pid in [pid for pid, code in tasks.items() if code is None]:
    os.kill(pid, signal.SIGKILL)
    tasks[pid] = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
sys.exit(max(code if code >= 0 else 128 - code for code in tasks.values()))
"""
SCONTROL = """\
#!/bin/sh
echo "$@" >> requeued
"""


class Job:
    """A submitted job: the script, in the directory of a project. Nothing that it starts is left at the end."""

    def __init__(self, directory, wait_until, *, nodes, tasks_per_node):
        self.directory, self._wait_until = directory, wait_until
        (directory / "tasks").unlink(missing_ok=True)
        programs = directory / "bin"
        programs.mkdir(exist_ok=True)
        for name, text in (("srun", SRUN.format(python=sys.executable)), ("scontrol", SCONTROL)):
            (programs / name).write_text(text)
            (programs / name).chmod(0o755)
        # The tasks meet at a store of this process, on a port that nothing else can take.
        activate = directory / ".venv" / "bin" / "activate"
        activate.parent.mkdir(parents=True, exist_ok=True)
        activate.touch()
        self._store = TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)
        environment = {
            "SLURM_JOB_ID": JOB,
            "SLURM_JOB_NAME": "viscy-train",
            "SLURM_CPUS_PER_TASK": "2",
            "SLURM_NNODES": str(nodes),
            "SLURM_NODELIST": "127.0.0.1",
            "SLURM_NTASKS": str(nodes * tasks_per_node),
            "SLURM_NTASKS_PER_NODE": str(tasks_per_node),
            "MASTER_PORT": str(self._store.port),
            "TORCHELASTIC_USE_AGENT_STORE": "True",
            "TORCHELASTIC_RESTART_COUNT": "0",
            "OMP_NUM_THREADS": "1",
            "PATH": os.pathsep.join([str(programs), str(Path(sys.executable).parent), os.environ["PATH"]]),
        }
        with self._output.open("a") as output:
            self._script = subprocess.Popen(
                ["bash", str(SCRIPT), "config.yaml"],
                cwd=directory,
                env=os.environ | environment,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def __enter__(self):
        return self

    def __exit__(self, *_):
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._script.pid, signal.SIGKILL)
        self._script.wait()
        del self._store

    @property
    def _output(self):
        return self.directory / "output.txt"

    @property
    def output(self):
        return self._output.read_text()

    def wait_until(self, condition):
        self._wait_until(condition, lambda: self.output)

    def wait(self):
        """Wait until the script has ended, and return its exit code."""
        self.wait_until(lambda: self._script.poll() is not None)
        return self._script.returncode

    def send(self, number):
        """Send a signal to all tasks, after some steps."""
        self.wait_until(lambda: count_log_lines(self.directory) > 5 or self._script.poll() is not None)
        assert self._script.poll() is None, self.output
        for pid in (self.directory / "tasks").read_text().split():
            os.kill(int(pid), number)

    def cancel(self):
        """Send the signal of scancel to the tasks and the script."""
        self.send(signal.SIGTERM)
        self._script.terminate()


@pytest.fixture
def submit(make_project, wait_until, tmp_path):
    """A function that submits the project in `tmp_path` as a job."""
    make_project(tmp_path, **CHANGES)
    return partial(Job, tmp_path, wait_until)


def count_log_lines(directory):
    path = RunDirectory(directory / "run").metrics
    return path.read_text().count("\n") if path.exists() else 0


def read_requeued(directory):
    """Return the arguments of each call of scontrol."""
    path = directory / "requeued"
    return path.read_text().splitlines() if path.exists() else []


@pytest.mark.weekly
def test_a_job_at_its_time_limit_is_requeued_and_resumes(submit, tmp_path):
    """Two tasks on one node, then one on each of two nodes: every batch once."""
    with submit(nodes=1, tasks_per_node=2) as job:
        job.send(signal.SIGUSR1)
        assert job.wait() == EXIT_STOPPED, job.output
    assert read_requeued(tmp_path) == [f"requeue {JOB}"]
    with submit(nodes=2, tasks_per_node=1) as job:
        assert job.wait() == 0, job.output
    assert read_requeued(tmp_path) == [f"requeue {JOB}"]
    assert job.output.count("stopped on request after step") == job.output.count("Resuming from") == 1
    assert "Traceback" not in job.output
    slots = RunDirectory(tmp_path / "run").read_batches()
    n_batches = slots["batch"].max() + 1
    sizes = slots.groupby(["epoch", "batch"]).size()
    assert len(sizes) == CHANGES["trainer.max_epochs"] * n_batches
    assert set(sizes) == {CHANGES["data.sampler.batch_size"]}
    assert slots["step"].nunique() == CHANGES["trainer.max_epochs"] * -(-n_batches // 2)
    assert RunDirectory(tmp_path / "run").report.exists()


@pytest.mark.weekly
def test_a_cancelled_job_saves_its_state_and_is_not_requeued(submit, tmp_path):
    with submit(nodes=1, tasks_per_node=2) as job:
        job.cancel()
        assert job.wait() == -signal.SIGTERM
        job.wait_until(lambda: "stopped on request" in job.output)
        job.wait_until(RunDirectory(tmp_path / "run").last_checkpoint.exists)
    assert read_requeued(tmp_path) == []


def test_lightning_leaves_requeueing_to_the_script(make_project, tmp_path, monkeypatch):
    for name, value in {"SLURM_NTASKS": "1", "SLURM_PROCID": "0", "SLURM_LOCALID": "0", "SLURM_NODEID": "0"}.items():
        monkeypatch.setenv(name, value)
    trainer, _, _ = TrainingCLI("fit", ["--config", str(make_project(tmp_path))], "").make_all()
    environment = trainer._accelerator_connector.cluster_environment
    assert isinstance(environment, SLURMEnvironment)
    assert not environment.auto_requeue
