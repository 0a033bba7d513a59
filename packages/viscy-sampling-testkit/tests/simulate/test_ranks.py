"""Simulated ranks draw in order, and spawned ranks leave nothing behind."""

import multiprocessing
import os
import pickle
import signal
import subprocess
import sys
import time
from multiprocessing.context import SpawnProcess
from pathlib import Path

import pytest
import torch
import torch.distributed as dist

from viscy_sampling_testkit import interleave, simulate_ranks, spawn_ranks
from viscy_sampling_testkit.simulate._process import Outcome, load_function, run_rank
from viscy_sampling_testkit.simulate._supervisor import Supervisor, locate, set_environment


class UnreadableError(Exception):
    """An exception that can be pickled but not unpickled: it takes two arguments and stores one."""

    def __init__(self, first, second):
        super().__init__(f"{first} and {second}")


class Wrapped:
    """A class of this module, which no other process can import by name."""

    def __init__(self, value):
        self.value = value


def _sum_over_ranks(rank, num_replicas, wrapped, folder):
    (Path(folder) / f"pid{rank}").write_text(str(os.getpid()))
    total = torch.tensor([rank + 1 + wrapped.value])
    dist.all_reduce(total)
    threads = os.environ["OMP_NUM_THREADS"]
    return Wrapped(
        (rank, num_replicas, total.item(), dist.get_rank(), dist.get_world_size(), dist.get_backend(), threads)
    )


def _fail_on_rank_1(rank, num_replicas, folder):
    # A grandchild that would outlive its parent.
    sleeper = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(3600)"])
    (Path(folder) / f"pid{rank}").write_text(str(sleeper.pid))
    if rank == 1:
        raise KeyError("the reason")
    dist.barrier()


def _die_or_sleep(rank, num_replicas, folder):
    sleeper = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(3600)"])
    (Path(folder) / f"pid{rank}").write_text(str(sleeper.pid))
    if rank == 0:
        print("out of memory", file=sys.stderr, flush=True)
        os.kill(os.getpid(), signal.SIGKILL)
    time.sleep(3600)


def _sleep_unless_first(rank, num_replicas, folder):
    (Path(folder) / f"pid{rank}").write_text(str(os.getpid()))
    time.sleep(3600 * rank)


class ReplacesJoin:
    """An argument that replaces `init_process_group` in the process that unpickles it."""

    def __init__(self, replacement, folder):
        self.replacement, self.folder = replacement, folder

    def __setstate__(self, state):
        self.__dict__ |= state
        join = dist.init_process_group
        dist.init_process_group = lambda *args, **options: self.replacement(join, Path(self.folder), *args, **options)


def _fail_to_connect(join, folder, *args, rank, **options):
    """Fail once on rank 1, as gloo does, while rank 0 waits."""
    if (folder / "failure").exists():
        if rank == 0:
            time.sleep(3600)
        (folder / "failure").unlink()
        raise RuntimeError("Gloo connectFullMesh failed with Connection closed by peer [127.0.0.1]:1234")
    return join(*args, rank=rank, **options)


def _return_late(join, folder, *args, rank, **options):
    """Connect, and return a second later on rank 0."""
    join(*args, rank=rank, **options)
    if rank == 0:
        time.sleep(1.0)
    (folder / f"joined{rank}").touch()


def _list_joined_ranks(rank, num_replicas, argument):
    return sorted(file.name for file in Path(argument.folder).glob("joined*"))


def _record_call(rank, num_replicas, argument):
    with (Path(argument.folder) / "calls").open("a") as calls:
        calls.write(f"{rank}")
    return rank


def _double(rank, num_replicas, value):
    return 2 * value + rank


def _raise(rank, num_replicas, error):
    raise error


def _return_a_function(rank, num_replicas):
    return lambda: None


def _warn(rank, num_replicas):
    print(f"rank {rank} is low on memory", file=sys.stderr)


def test_each_rank_draws_its_own_batches():
    ranks = simulate_ranks(lambda rank, num_replicas: ((rank, num_replicas, k) for k in range(2)), 3)
    assert ranks == [[[rank, 3, 0], [rank, 3, 1]] for rank in range(3)]


def test_interleaving_orders_by_step_and_skips_ranks_that_ended():
    assert interleave([[[0], [3]], [[1]], [[2], [4], [5]]]) == [[0], [1], [2], [3], [4], [5]]
    assert interleave([]) == []


def test_zero_ranks_raise():
    with pytest.raises(ValueError, match="num_replicas must be at least 1, got 0"):
        simulate_ranks(lambda rank, num_replicas: [], 0)
    with pytest.raises(ValueError, match="num_replicas must be at least 1, got 0"):
        spawn_ranks(_double, 0)


@pytest.mark.slow
def test_spawned_ranks_form_one_group_and_return_results_in_order(folder, patience, nothing_is_left):
    before = os.environ.get("OMP_NUM_THREADS")
    results = spawn_ranks(_sum_over_ranks, 2, Wrapped(10), folder, deadline=patience)
    assert [result.value for result in results] == [(rank, 2, 23, rank, 2, "gloo", "1") for rank in range(2)]
    assert os.environ.get("OMP_NUM_THREADS") == before
    assert not dist.is_initialized()
    assert nothing_is_left() == 2


@pytest.mark.slow
def test_standard_error_of_the_ranks_appears_on_that_of_the_caller(patience, capsys):
    spawn_ranks(_warn, 1, deadline=patience)
    assert "rank 0 is low on memory\n" in capsys.readouterr().err


@pytest.mark.slow
def test_exception_on_one_rank_stops_the_ranks_that_wait_for_it(folder, patience, nothing_is_left):
    with pytest.raises(KeyError, match="the reason") as caught:
        spawn_ranks(_fail_on_rank_1, 2, folder, deadline=patience)
    note = "".join(caught.value.__notes__)
    assert "raised on rank 1 of 2" in note
    assert "in _fail_on_rank_1" in note
    assert nothing_is_left() in (1, 2)


@pytest.mark.slow
def test_no_rank_starts_before_all_have_joined(folder, patience):
    """A short function could be done, and its process gone, while another rank is still connecting to it."""
    argument = ReplacesJoin(_return_late, folder)
    assert spawn_ranks(_list_joined_ranks, 2, argument, deadline=patience) == [["joined0", "joined1"]] * 2


@pytest.mark.weekly
@pytest.mark.slow
def test_ranks_that_fail_to_connect_are_started_again(folder, patience, nothing_is_left, caplog):
    (Path(folder) / "failure").touch()
    assert spawn_ranks(_record_call, 2, ReplacesJoin(_fail_to_connect, folder), deadline=patience) == [0, 1]
    assert sorted((Path(folder) / "calls").read_text()) == ["0", "1"]
    assert "2 ranks failed to connect (start 1 of 3): Gloo connectFullMesh failed" in caplog.text
    nothing_is_left()


@pytest.mark.parametrize(
    ("outcome", "n_starts"),
    [
        (Outcome(0, error=RuntimeError("not connected"), failed_to_join=True), 3),
        (Outcome(0, error=RuntimeError("raised by the function")), 1),
        (Outcome(0, result="done"), 1),
    ],
)
def test_only_failed_connections_are_retried_and_only_three_times(monkeypatch, patience, outcome, n_starts):
    folders = []

    def start(payload, num_replicas, folder, timeout, may_die):
        folders.append(folder)
        return Supervisor([], [], outcomes={0: outcome})

    monkeypatch.setattr(Supervisor, "start", start)
    supervisor = Supervisor.run(b"", 1, ends=time.monotonic() + patience)
    assert len(set(folders)) == len(folders) == n_starts
    assert supervisor.outcomes == {0: outcome}


def test_no_rank_is_started_again_after_the_deadline(monkeypatch):
    first = Supervisor([], [], outcomes={0: Outcome(0, error=RuntimeError("not connected"), failed_to_join=True)})
    starts = [first]
    monkeypatch.setattr(Supervisor, "start", lambda *args, **options: starts.pop())
    assert Supervisor.run(b"", 1, ends=time.monotonic()) is first


@pytest.mark.slow
def test_killed_rank_is_detected_although_its_children_live(folder, patience, nothing_is_left):
    message = (
        r"rank 0 of 2 died with exit code -9 without returning a result\n"
        r"standard error of rank 0:\n(.*\n)*out of memory$"
    )
    with pytest.raises(RuntimeError, match=message):
        spawn_ranks(_die_or_sleep, 2, folder, deadline=patience)
    assert nothing_is_left() in (1, 2)


def test_timeout_names_only_the_unfinished_ranks():
    processes = [SpawnProcess() for _ in range(3)]
    stderr = {0: "waiting\n", 1: "finished", 2: ""}
    supervisor = Supervisor(processes, [], outcomes={1: Outcome(1, result="done")}, stderr=stderr)
    message = r"^ranks \[0, 2\] of 3 did not finish within 60 s\nstandard error of rank 0:\nwaiting$"
    with pytest.raises(TimeoutError, match=message):
        supervisor.results(60.0)


def test_rank_whose_pipe_ends_without_an_outcome_is_dead():
    ours, theirs = multiprocessing.Pipe(duplex=False)
    theirs.close()
    supervisor = Supervisor([], [ours])
    supervisor._poll(0, has_ended=False)
    ours.close()
    assert supervisor.dead == {0}
    assert supervisor.has_failed


@pytest.mark.parametrize("before", ["7", None])
def test_environment_is_restored_after_the_context(before, monkeypatch):
    if before is None:
        monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    else:
        monkeypatch.setenv("OMP_NUM_THREADS", before)
    with set_environment(OMP_NUM_THREADS="1"):
        assert os.environ["OMP_NUM_THREADS"] == "1"
    assert os.environ.get("OMP_NUM_THREADS") == before


@pytest.mark.slow
def test_deadline_includes_the_start_and_is_enforced(folder, nothing_is_left):
    start = time.monotonic()
    with pytest.raises(TimeoutError, match=r"ranks \[0, 1\] of 2 did not finish within 0.3 s"):
        spawn_ranks(_sleep_unless_first, 2, folder, deadline=0.3)
    # Rank 1 would sleep for an hour.
    assert time.monotonic() - start < 600
    nothing_is_left()


@pytest.mark.slow
def test_started_processes_are_stopped_if_another_cannot_be_started(folder, is_running, nothing_is_left, monkeypatch):
    started = SpawnProcess.start
    pids = []

    def start_only_one(self):
        if pids:
            raise OSError("no more processes")
        started(self)
        pids.append(self.pid)

    monkeypatch.setattr(SpawnProcess, "start", start_only_one)
    with pytest.raises(OSError, match="no more processes"):
        spawn_ranks(_double, 2, 1)
    assert not is_running(pids[0])
    nothing_is_left()


@pytest.mark.slow
def test_spawned_processes_die_with_their_parent(folder, is_running, wait_until):
    script = Path(folder) / "script.py"
    script.write_text(
        "import os, sys, time\n"
        "from pathlib import Path\n"
        "from viscy_sampling_testkit import spawn_ranks\n"
        "def wait(rank, num_replicas):\n"
        "    (Path(sys.argv[1]) / 'new').write_text(str(os.getpid()))\n"
        "    (Path(sys.argv[1]) / 'new').rename(Path(sys.argv[1]) / 'pid0')\n"
        "    time.sleep(3600)\n"
        "if __name__ == '__main__':\n"
        "    spawn_ranks(wait, 1, deadline=600)\n"
    )
    environment = {**os.environ, "TMPDIR": folder}
    pid_file = Path(folder) / "pid0"
    with subprocess.Popen([sys.executable, str(script), folder], env=environment, stderr=subprocess.PIPE) as parent:
        wait_until(lambda: pid_file.exists() or parent.poll() is not None, "the start of the rank")
        parent.kill()
        assert pid_file.exists(), parent.communicate()[1].decode()
    pid = int(pid_file.read_text())
    wait_until(lambda: not is_running(pid), "the death of the rank")


@pytest.mark.parametrize("function", [len, print])
def test_builtin_function_raises(function):
    with pytest.raises(TypeError, match="function must be a plain function"):
        spawn_ranks(function, 1)


def test_function_that_another_process_cannot_find_raises():
    with pytest.raises(ValueError, match=r"function must be at the top level of a module in a file, .*; move it there"):
        spawn_ranks(lambda rank, num_replicas: None, 1)


@pytest.fixture
def run_as_rank(monkeypatch, patience, tmp_path):
    """Return a function that runs another one as the only rank in this process, and returns its outcome."""
    # A rank sets this variable; monkeypatch restores it.
    monkeypatch.setenv("GLOO_SOCKET_IFNAME", "lo")

    def run(function, *args, source=None):
        ours, theirs = multiprocessing.Pipe(duplex=False)
        payload = pickle.dumps((*(source or locate(function)), pickle.dumps(args)))
        run_rank(theirs, payload, 0, 1, str(tmp_path / "store"), patience)
        outcome = Outcome.loads(ours.recv_bytes())
        ours.close()
        return outcome

    return run


def test_rank_sends_its_result_and_leaves_the_group(run_as_rank):
    outcome = run_as_rank(_double, 4)
    assert (outcome.result, outcome.error) == (8, None)
    assert not dist.is_initialized()


def test_rank_sends_its_exception(run_as_rank):
    outcome = run_as_rank(_raise, OSError("gone"))
    assert isinstance(outcome.error, OSError)
    assert "in _raise" in outcome.trace
    assert not outcome.failed_to_join
    assert "rank 0 of 1" in outcome.exception(1).__notes__[0]


def test_rank_that_cannot_join_the_others_reports_it(run_as_rank, monkeypatch):
    monkeypatch.setattr(dist, "init_process_group", lambda *args, **options: _raise(0, 1, RuntimeError("no peer")))
    outcome = run_as_rank(_double, 4)
    assert outcome.failed_to_join
    assert str(outcome.error) == "no peer"


def test_result_that_cannot_be_pickled_is_reported_as_an_error(run_as_rank):
    assert "result of rank 0 (it could not be pickled" in str(run_as_rank(_return_a_function).error)


def test_missing_file_of_the_function_is_an_error_before_the_group_is_joined(run_as_rank):
    outcome = run_as_rank(None, source=("/nowhere/missing.py", "missing_module", "function"))
    assert isinstance(outcome.error, FileNotFoundError)
    assert not outcome.failed_to_join
    assert not dist.is_initialized()


def test_exception_that_cannot_be_unpickled_is_replaced_by_its_text():
    outcome = Outcome.loads(Outcome(1, error=UnreadableError("this", "that"), trace="somewhere").dumps())
    assert type(outcome.error) is RuntimeError
    assert "UnreadableError: this and that of rank 1 (it could not be pickled" in str(outcome.error)
    assert outcome.trace == "somewhere"


def test_function_is_loaded_by_name_or_otherwise_by_file(tmp_path):
    assert load_function(*locate(simulate_ranks)) is simulate_ranks
    file = tmp_path / "functions.py"
    file.write_text("class Holder:\n    def method(rank, num_replicas):\n        return 'found'\n")
    # An existing module of the same name in another file is not used.
    for module in ("module_that_does_not_exist", "multiprocessing.pool"):
        before = sys.modules.get(module)
        try:
            assert load_function(str(file), module, "Holder.method")(0, 1) == "found"
        finally:
            sys.modules.pop(module)
            if before:
                sys.modules[module] = before


def test_arguments_of_classes_in_a_loaded_file_can_be_unpickled(tmp_path, monkeypatch):
    """Unpickling imports the parent packages of a module, which pytest may have made up."""
    file = tmp_path / "functions.py"
    file.write_text("class Wrapped:\n    pass\ndef make():\n    return Wrapped()\n")
    for name in ("made", "made.up", "made.up.functions"):
        monkeypatch.setitem(sys.modules, name, None)
        del sys.modules[name]
    made = load_function(str(file), "made.up.functions", "make")()
    assert type(pickle.loads(pickle.dumps(made))) is type(made)


def test_file_that_is_not_a_module_cannot_be_loaded(tmp_path):
    with pytest.raises(ImportError, match="is not a Python file"):
        load_function(str(tmp_path / "notes.txt"), "module_that_does_not_exist", "function")
