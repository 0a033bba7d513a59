import signal
import subprocess
import sys

import pytest
import yaml

from viscy_train.cli import demo
from viscy_train.cli.demo import run_command
from viscy_train.exit_codes import EXIT_FAILED
from viscy_train.sample_projects.demo import write_demo

# A command with a child, as Lightning starts one for each further device. Both would run for minutes.
CHILD = "import time; time.sleep(3600)"
COMMAND = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {CHILD!r}])"
# A background job of a shell, as these tests may be, ignores Ctrl-C unless it sets a handler.
RUN_COMMAND = f"""
import signal
from viscy_train.cli.demo import run_command
signal.signal(signal.SIGINT, signal.default_int_handler)
run_command([sys.executable, "-c", {COMMAND!r}])
"""


def children_of(pid):
    found = subprocess.run(["ps", "-o", "pid=", "--ppid", str(pid)], capture_output=True, text=True, check=False)
    return [int(line) for line in found.stdout.split()]


def is_alive(pid):
    """Return whether a process runs, which a zombie does not."""
    found = subprocess.run(["ps", "-o", "stat=", "-p", str(pid)], capture_output=True, text=True, check=False)
    return bool(found.stdout.strip()) and not found.stdout.startswith("Z")


@pytest.mark.parametrize("code", [0, 3])
def test_a_command_returns_its_exit_code(code):
    assert run_command([sys.executable, "-c", f"raise SystemExit({code})"]) == code


@pytest.mark.slow
@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 1), (signal.SIGTERM, 143)])
def test_a_stopped_demo_leaves_no_process_behind(start_viscy_train, wait_until, tmp_path, number, code):
    with start_viscy_train([], tmp_path, before=RUN_COMMAND) as parent:
        pid = parent.ranks[0].pid
        parent.wait_until(lambda: children_of(pid))
        (command,) = children_of(pid)
        parent.wait_until(lambda: children_of(command))
        (child,) = children_of(command)
        parent.send(number)
        parent.wait(code)
    wait_until(lambda: not is_alive(command) and not is_alive(child), "processes are left")


def test_a_command_that_ignores_the_request_is_killed(wait_until, tmp_path, monkeypatch):
    monkeypatch.setattr(demo, "_SECONDS_TO_STOP", 0.5)
    ready = tmp_path / "ready"
    code = "import pathlib, signal, sys, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); "
    with subprocess.Popen(
        [sys.executable, "-c", f"{code} pathlib.Path(sys.argv[1]).touch(); time.sleep(3600)", str(ready)],
        start_new_session=True,
    ) as process:
        wait_until(ready.exists, "the command did not start")
        demo._stop_group(process)
        assert process.wait() == -signal.SIGKILL


@pytest.mark.parametrize(("codes", "code"), [([5], 5), ([0, 75], 75), ([0, -9], EXIT_FAILED)])
def test_a_failed_command_ends_the_demo_with_its_exit_code(monkeypatch, capsys, tmp_path, codes, code):
    monkeypatch.setattr(demo, "write_demo", lambda out: out / "config.yaml")
    monkeypatch.setattr(demo, "run_command", lambda command: codes.pop(0))
    assert demo.run_demo(tmp_path) == code
    printed = capsys.readouterr()
    assert "Done" not in printed.out
    assert "ended with exit code" in printed.err
    assert codes == []


def test_the_demo_writes_a_project_and_prints_what_it_runs(monkeypatch, capsys, tmp_path):
    commands = []
    monkeypatch.setattr(demo, "run_command", lambda command: commands.append(command[2:]) or 0)
    out = tmp_path / "demo"
    assert demo.run_demo(out) == 0
    config = str(out / "config.yaml")
    assert commands == [["viscy_train", command, "--config", config] for command in ("index", "fit")]
    assert [path.name for path in sorted(out.iterdir())] == ["config.yaml", "experiments.yaml", "plates", "tracks"]
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == f"Writing three simulated experiments to {out}"
    assert lines[1:3] == [f"$ viscy-train {command} --config {config}" for command in ("index", "fit")]
    assert lines[-1] == f"Done. Open {out / 'run' / 'report.html'}"


def test_the_demo_trains_on_two_processes_that_lightning_starts(tmp_path):
    trainer = yaml.safe_load(write_demo(tmp_path / "demo").read_text(encoding="utf-8"))["trainer"]
    assert (trainer["devices"], trainer["strategy"]) == (2, "ddp")
