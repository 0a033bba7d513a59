import signal
import subprocess
import sys
import time

import pytest

from viscy_train.cli.launch import TrainingFailedError, launch

SLEEPING_RANK = "from viscy_train.cli.rank import end_with_parent; end_with_parent(); import time; time.sleep(120)"
# Starts two ranks that would sleep for minutes. A shell's background job, as these tests may be, ignores Ctrl-C.
PARENT = (
    "import signal, sys; signal.signal(signal.SIGINT, signal.default_int_handler); "
    f"from viscy_train.cli.launch import launch; launch([sys.executable, '-c', {SLEEPING_RANK!r}], 2)"
)


def children_of(pid):
    """Return the processes that a process has started."""
    found = subprocess.run(["ps", "-o", "pid=", "--ppid", str(pid)], capture_output=True, text=True, check=False)
    return [int(line) for line in found.stdout.split()]


def is_alive(pid):
    """Return whether a process runs; one that has ended and was not waited for does not."""
    found = subprocess.run(["ps", "-o", "stat=", "-p", str(pid)], capture_output=True, text=True, check=False)
    return bool(found.stdout.strip()) and not found.stdout.startswith("Z")


def wait_until(condition, seconds):
    """Return whether a condition came true in time."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.05)
    return True


def test_each_rank_is_told_its_place(tmp_path):
    code = "import os, pathlib, sys; names = ['WORLD_SIZE', 'MASTER_ADDR', 'MASTER_PORT']; " + (
        "pathlib.Path(sys.argv[1], os.environ['LOCAL_RANK']).write_text(' '.join(os.environ[name] for name in names))"
    )
    launch([sys.executable, "-c", code, str(tmp_path)], 3)
    told = [(tmp_path / str(rank)).read_text() for rank in range(3)]
    assert len(set(told)) == 1
    assert told[0].startswith("3 127.0.0.1 ")


def test_the_failure_of_one_rank_ends_the_others():
    code = "import os, sys, time; sys.exit(3) if os.environ['LOCAL_RANK'] == '1' else time.sleep(120)"
    began = time.monotonic()
    with pytest.raises(TrainingFailedError, match="process 1 of 2 ended with code 3"):
        launch([sys.executable, "-c", code], 2)
    assert time.monotonic() - began < 60


def test_a_rank_that_will_not_end_is_made_to(monkeypatch, tmp_path):
    monkeypatch.setattr("viscy_train.cli.launch._SECONDS_TO_END", 0.5)
    stubborn = "signal.signal(signal.SIGTERM, signal.SIG_IGN); open(sys.argv[1], 'w').close(); time.sleep(120)"
    waiting = "\nwhile not os.path.exists(sys.argv[1]): time.sleep(0.05)\nsys.exit(3)"
    code = f"import os, signal, sys, time\nif os.environ['LOCAL_RANK'] == '0':\n    {stubborn}{waiting}"
    with pytest.raises(TrainingFailedError, match="process 1 of 2"):
        launch([sys.executable, "-c", code, str(tmp_path / "ready")], 2)
    assert (tmp_path / "ready").exists()


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, None), (signal.SIGTERM, 143), (signal.SIGKILL, -9)])
def test_no_process_is_left_behind(number, code):
    with subprocess.Popen([sys.executable, "-c", PARENT], stderr=subprocess.DEVNULL) as parent:
        assert wait_until(lambda: len(children_of(parent.pid)) == 2, 60)
        ranks = children_of(parent.pid)
        time.sleep(0.5)
        assert all(map(is_alive, ranks))
        parent.send_signal(number)
        parent.wait(30)
    assert wait_until(lambda: not any(map(is_alive, ranks)), 30)
    assert code in (None, parent.returncode)
