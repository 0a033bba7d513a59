"""The SLURM scripts of the examples: the command that they start, with a stand-in for ``srun``."""

import os
import subprocess
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).parents[2] / "examples"
SRUN = """\
#!/bin/sh
[ "$ACTIVATED" = yes ] || exit 9
printf '%s\\n' "$@" > arguments
exit "${CODE:-0}"
"""
SLURM = {
    "SLURM_JOB_ID": "4711",
    "SLURM_NNODES": "2",
    "SLURM_NTASKS_PER_NODE": "4",
    "SLURM_CPUS_PER_TASK": "8",
}
TASK = {"SLURM_ARRAY_TASK_ID": "3", "SLURM_ARRAY_TASK_COUNT": "6"}
FIT = [
    *("--cpus-per-task=8", "--kill-on-bad-exit=0", "--wait=60", "viscy-train", "fit", "--config", "my config.yaml"),
    *("--checkpoint", "last", "--trainer.num_nodes", "2", "--trainer.devices", "4"),
]


@pytest.fixture
def run_script(tmp_path):
    """A function that runs a script with arguments and variables, and returns its process and those of srun."""

    def run(name, *arguments, **variables):
        environment = {key: value for key, value in os.environ.items() if not key.startswith("SLURM_")}
        environment |= SLURM | variables | {"PATH": f"{tmp_path / 'bin'}{os.pathsep}{os.environ['PATH']}"}
        done = subprocess.run(
            ["bash", EXAMPLES / name, *arguments],
            cwd=tmp_path,
            env=environment,
            capture_output=True,
            text=True,
            check=False,
        )
        recorded = tmp_path / "arguments"
        return done, recorded.read_text().splitlines() if recorded.exists() else None

    for path, text in {
        "bin/srun": SRUN,
        "bin/scontrol": "#!/bin/sh\n",
        ".venv/bin/activate": "export ACTIVATED=yes\n",
    }.items():
        file = tmp_path / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
        file.chmod(0o755)
    return run


@pytest.mark.parametrize("script", sorted(EXAMPLES.glob("*.sh")), ids=lambda path: path.name)
def test_a_script_is_valid_and_requests_processors_memory_and_a_file_for_its_output(script):
    subprocess.run(["bash", "-n", script], check=True)
    requested = {
        line.removeprefix("#SBATCH --").partition("=")[0]
        for line in script.read_text().splitlines()
        if "#SBATCH" in line
    }
    assert requested >= {"cpus-per-task", "mem-per-cpu", "output", "time"}


def test_training_has_the_processors_of_the_job_and_the_options_of_the_caller(run_script):
    done, arguments = run_script("slurm.sh", "my config.yaml", "--seed_everything", "3")
    assert (done.returncode, arguments) == (0, [*FIT, "--seed_everything", "3"]), done.stderr


def test_a_task_of_a_sweep_has_the_options_of_its_line(run_script, tmp_path):
    (tmp_path / "sweep.txt").write_text("--out runs/1\n--out runs/2\n--out runs/3 --data.sampler.leaky 0.1\n")
    done, arguments = run_script("slurm.sh", "my config.yaml", SWEEP="sweep.txt", **TASK)
    assert (done.returncode, arguments) == (0, [*FIT, "--out", "runs/3", "--data.sampler.leaky", "0.1"]), done.stderr


def test_a_task_without_a_line_fails(run_script, tmp_path):
    (tmp_path / "sweep.txt").write_text("--out runs/1\n")
    done, arguments = run_script("slurm.sh", "my config.yaml", SWEEP="sweep.txt", **TASK)
    assert (done.returncode, arguments, done.stderr) == (1, None, "sweep.txt must have a line 3\n")


@pytest.mark.parametrize("command", ["index", "pack"])
def test_the_tasks_of_an_array_share_the_work(run_script, command):
    done, arguments = run_script("slurm_command.sh", command, "config.yaml", **TASK)
    expected = [
        "--cpus-per-task=8",
        "viscy-train",
        command,
        "--config",
        "config.yaml",
        "--processes",
        "8",
        "--part",
        "3/6",
    ]
    assert (done.returncode, arguments) == (0, expected), done.stderr
    _, arguments = run_script("slurm_command.sh", command, "config.yaml")
    assert arguments == expected[:-2]


def test_predictions_run_in_one_process(run_script):
    done, arguments = run_script("slurm_command.sh", "predict", "config.yaml", "--trainer.accelerator", "gpu")
    expected = ["--trainer.accelerator", "gpu", "--trainer.num_nodes", "1", "--trainer.devices", "1"]
    assert (done.returncode, arguments[5:]) == (0, expected), done.stderr


@pytest.mark.parametrize("name", ["slurm.sh", "slurm_command.sh"])
def test_a_script_fails_without_a_configuration_or_an_environment(run_script, tmp_path, name):
    assert run_script(name)[0].returncode != 0
    (tmp_path / ".venv/bin/activate").unlink()
    done, arguments = run_script(name, "fit", "config.yaml")
    assert (done.returncode, arguments) == (1, None)
    assert ".venv/bin/activate" in done.stderr


def test_a_command_that_fails_fails_the_job(run_script):
    assert run_script("slurm_command.sh", "pack", "config.yaml", CODE="2")[0].returncode == 2
