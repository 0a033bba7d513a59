"""Ranks are simulated in order, and spawned ones leave nothing behind."""

import multiprocessing
import os
import pickle
import signal
import subprocess
import sys
import tempfile
import time
from multiprocessing.context import SpawnProcess
from pathlib import Path

import pytest
import torch
import torch.distributed as dist

from viscy_sampling_testkit import interleave, simulate_ranks, spawn_ranks
from viscy_sampling_testkit.simulate._process import Outcome, find, main
from viscy_sampling_testkit.simulate._supervisor import Crew, environment, reference

# Seconds; two processes that import torch start within ten, unless the machine is busy with other things.
PATIENCE = 150.0


class OddError(Exception):
    """An exception that is written by pickle and yet not read: it takes two arguments and passes on one."""

    def __init__(self, first, second):
        super().__init__(f"{first} and {second}")


class Answer:
    """A class of this module, which no other process can import by its name."""

    def __init__(self, value):
        self.value = value


def _sum_over_ranks(rank, num_replicas, wrapped, folder):
    (Path(folder) / f"pid{rank}").write_text(str(os.getpid()))
    total = torch.tensor([rank + 1 + wrapped.value])
    dist.all_reduce(total)
    threads = os.environ["OMP_NUM_THREADS"]
    return Answer(
        (rank, num_replicas, total.item(), dist.get_rank(), dist.get_world_size(), dist.get_backend(), threads)
    )


def _fail_on_rank_1(rank, num_replicas, folder):
    # A grandchild that would outlive everything.
    sleeper = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
    (Path(folder) / f"pid{rank}").write_text(str(sleeper.pid))
    if rank == 1:
        raise KeyError("the reason")
    dist.barrier()


def _be_killed_or_sleep(rank, num_replicas, folder):
    sleeper = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
    (Path(folder) / f"pid{rank}").write_text(str(sleeper.pid))
    if rank == 0:
        os.kill(os.getpid(), signal.SIGKILL)
    time.sleep(600)


def _sleep_unless_first(rank, num_replicas, folder):
    (Path(folder) / f"pid{rank}").write_text(str(os.getpid()))
    time.sleep(600 * rank)


class ChangeJoining:
    """An argument that changes, in the process that reads it, what joining the process group does there."""

    def __init__(self, change, folder):
        self.change, self.folder = change, folder

    def __setstate__(self, state):
        self.__dict__ |= state
        join = dist.init_process_group
        dist.init_process_group = lambda *args, **options: self.change(join, Path(self.folder), *args, **options)


def _fail_to_connect(join, folder, *args, rank, **options):
    """Fail once on rank 1, as gloo does, while rank 0 waits for it."""
    if (folder / "failure").exists():
        if rank == 0:
            time.sleep(600)
        (folder / "failure").unlink()
        raise RuntimeError("Gloo connectFullMesh failed with Connection closed by peer [127.0.0.1]:1234")
    return join(*args, rank=rank, **options)


def _come_back_late(join, folder, *args, rank, **options):
    """Connect, and on rank 0 notice so only after a while."""
    join(*args, rank=rank, **options)
    time.sleep(0.0 if rank else 1.0)
    (folder / f"joined{rank}").touch()


def _who_has_joined(rank, num_replicas, change):
    return sorted(file.name for file in Path(change.folder).glob("joined*"))


def _note_a_call(rank, num_replicas, change):
    with (Path(change.folder) / "calls").open("a") as calls:
        calls.write(f"{rank}")
    return rank


def _double(rank, num_replicas, value):
    return 2 * value + rank


def _raise(rank, num_replicas, error):
    raise error


def _return_a_function(rank, num_replicas):
    return lambda: None


def _is_running(pid):
    """Whether a process is there and not merely waiting to be reaped."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except OSError:
        return False


def _nothing_is_left(folder, n_processes):
    pids = [int(file.read_text()) for file in Path(folder).glob("pid*")]
    assert len(pids) == n_processes
    ends = time.monotonic() + 5
    while any(map(_is_running, pids)) and time.monotonic() < ends:
        time.sleep(0.05)
    assert not any(map(_is_running, pids))
    assert multiprocessing.active_children() == []
    assert list(Path(tempfile.gettempdir()).glob("spawn-ranks-*")) == []


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """Return a folder for process ids; temporary files of the call lie below it, too."""
    (tmp_path / "temporary").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "temporary"))
    return str(tmp_path)


def test_each_rank_is_asked_for_its_own_batches():
    ranks = simulate_ranks(lambda rank, num_replicas: ((rank, num_replicas, k) for k in range(2)), 3)
    assert ranks == [[[rank, 3, 0], [rank, 3, 1]] for rank in range(3)]


def test_interleaving_goes_through_the_steps_and_passes_over_ranks_that_ended():
    assert interleave([[[0], [3]], [[1]], [[2], [4], [5]]]) == [[0], [1], [2], [3], [4], [5]]
    assert interleave([]) == []


def test_no_ranks_are_refused():
    with pytest.raises(ValueError, match="num_replicas must be at least 1, got 0"):
        simulate_ranks(lambda rank, num_replicas: [], 0)
    with pytest.raises(ValueError, match="num_replicas must be at least 1, got 0"):
        spawn_ranks(_double, 0)


@pytest.mark.slow
def test_spawned_ranks_are_one_group_and_answer_in_order(folder):
    before = os.environ.get("OMP_NUM_THREADS")
    answers = spawn_ranks(_sum_over_ranks, 2, Answer(10), folder, deadline=PATIENCE)
    assert [a.value for a in answers] == [(rank, 2, 23, rank, 2, "gloo", "1") for rank in range(2)]
    assert os.environ.get("OMP_NUM_THREADS") == before
    assert not dist.is_initialized()
    _nothing_is_left(folder, 2)


@pytest.mark.slow
def test_an_exception_on_one_rank_ends_those_that_wait_for_it(folder):
    with pytest.raises(KeyError, match="the reason") as caught:
        spawn_ranks(_fail_on_rank_1, 2, folder, deadline=PATIENCE)
    note = "".join(caught.value.__notes__)
    assert "raised on rank 1 of 2" in note
    assert "in _fail_on_rank_1" in note
    _nothing_is_left(folder, 2)


@pytest.mark.slow
def test_no_rank_begins_before_all_have_joined(folder):
    """A short function would be done, and its process gone, while another rank still connects to it."""
    change = ChangeJoining(_come_back_late, folder)
    assert spawn_ranks(_who_has_joined, 2, change, deadline=PATIENCE) == [["joined0", "joined1"]] * 2


@pytest.mark.slow
def test_ranks_that_fail_to_connect_are_started_anew(folder, caplog):
    (Path(folder) / "failure").touch()
    assert spawn_ranks(_note_a_call, 2, ChangeJoining(_fail_to_connect, folder), deadline=PATIENCE) == [0, 1]
    assert sorted((Path(folder) / "calls").read_text()) == ["0", "1"]
    assert "2 ranks could not be joined, attempt 1 of 3: Gloo connectFullMesh failed" in caplog.text
    _nothing_is_left(folder, 0)


@pytest.mark.parametrize(
    ("outcome", "n_starts"),
    [
        (Outcome(0, error=RuntimeError("not connected"), is_apart=True), 3),
        (Outcome(0, error=RuntimeError("raised by the function")), 1),
        (Outcome(0, result="done"), 1),
    ],
)
def test_only_ranks_that_did_not_connect_are_started_again_and_given_up_in_the_end(monkeypatch, outcome, n_starts):
    stores = []

    def start(payload, num_replicas, store, timeout, may_die):
        stores.append(store)
        return Crew([], [], outcomes={0: outcome})

    monkeypatch.setattr(Crew, "start", start)
    crew = Crew.run(b"", 1, time.monotonic() + 60)
    assert len(set(stores)) == len(stores) == n_starts
    assert crew.outcomes == {0: outcome}


def test_no_rank_is_started_again_after_the_deadline(monkeypatch):
    apart = Crew([], [], outcomes={0: Outcome(0, error=RuntimeError("not connected"), is_apart=True)})
    starts = [apart]
    monkeypatch.setattr(Crew, "start", lambda *args, **options: starts.pop())
    assert Crew.run(b"", 1, time.monotonic()) is apart


@pytest.mark.slow
def test_a_killed_rank_is_noticed_though_its_children_live(folder):
    with pytest.raises(RuntimeError, match="rank 0 died with exit code -9, without an answer, of 2 ranks"):
        spawn_ranks(_be_killed_or_sleep, 2, folder, deadline=PATIENCE)
    pids = len(list(Path(folder).glob("pid*")))
    _nothing_is_left(folder, pids)


def test_only_the_ranks_that_did_not_finish_are_named():
    processes = [SpawnProcess() for _ in range(3)]
    crew = Crew(processes, [], outcomes={1: Outcome(1, result="done")})
    with pytest.raises(TimeoutError, match=r"ranks \[0, 2\] of 3 did not finish within 60 s"):
        crew.results(60.0)


def test_a_rank_whose_pipe_ends_without_an_answer_is_dead():
    ours, theirs = multiprocessing.Pipe(duplex=False)
    theirs.close()
    crew = Crew([], [ours])
    crew._look_at(0, has_ended=False)
    ours.close()
    assert crew.dead == {0}
    assert crew.in_trouble


@pytest.mark.parametrize("before", ["7", None])
def test_the_environment_is_as_before_once_processes_are_started(before, monkeypatch):
    if before is None:
        monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    else:
        monkeypatch.setenv("OMP_NUM_THREADS", before)
    with environment(OMP_NUM_THREADS="1"):
        assert os.environ["OMP_NUM_THREADS"] == "1"
    assert os.environ.get("OMP_NUM_THREADS") == before


@pytest.mark.slow
def test_the_deadline_counts_the_start_and_is_kept(folder):
    start = time.monotonic()
    with pytest.raises(TimeoutError, match=r"ranks \[0, 1\] of 2 did not finish within 0.3 s"):
        spawn_ranks(_sleep_unless_first, 2, folder, deadline=0.3)
    assert time.monotonic() - start < 5
    _nothing_is_left(folder, 0)


@pytest.mark.slow
def test_processes_that_were_started_end_if_another_cannot_be(folder, monkeypatch):
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
    assert not _is_running(pids[0])
    _nothing_is_left(folder, 0)


@pytest.mark.slow
def test_spawned_processes_die_with_their_parent(folder):
    script = Path(folder) / "script.py"
    script.write_text(
        "import os, sys, time\n"
        "from pathlib import Path\n"
        "from viscy_sampling_testkit import spawn_ranks\n"
        "def wait(rank, num_replicas):\n"
        "    (Path(sys.argv[1]) / f'pid{rank}').write_text(str(os.getpid()))\n"
        "    time.sleep(600)\n"
        "if __name__ == '__main__':\n"
        "    spawn_ranks(wait, 1)\n"
    )
    environment = {**os.environ, "TMPDIR": folder}
    parent = subprocess.Popen([sys.executable, str(script), folder], env=environment)
    ends = time.monotonic() + PATIENCE
    while not list(Path(folder).glob("pid*")) and time.monotonic() < ends:
        time.sleep(0.1)
    time.sleep(0.1)
    parent.kill()
    parent.wait()
    pid = int((Path(folder) / "pid0").read_text())
    ends = time.monotonic() + 5
    while _is_running(pid) and time.monotonic() < ends:
        time.sleep(0.05)
    assert not _is_running(pid)


@pytest.mark.parametrize("function", [len, print])
def test_what_is_no_plain_function_is_refused(function):
    with pytest.raises(TypeError, match="function must be a plain function"):
        spawn_ranks(function, 1)


def test_a_function_that_no_other_process_can_find_is_refused():
    with pytest.raises(ValueError, match=r"function must be at the top level of a module in a file, .*; move it there"):
        spawn_ranks(lambda rank, num_replicas: None, 1)


def _answer_here(function, *args, find_by=reference):
    """Run what the process of a rank runs, in this process, as the only rank."""
    ours, theirs = multiprocessing.Pipe(duplex=False)
    payload = pickle.dumps((*find_by(function), pickle.dumps(args)))
    with tempfile.TemporaryDirectory() as folder:
        main(theirs, payload, 0, 1, str(Path(folder) / "store"), 20.0)
    outcome = Outcome.loads(ours.recv_bytes())
    ours.close()
    return outcome


@pytest.fixture
def as_a_rank(monkeypatch):
    """Take back the interface that a rank chooses for gloo, and keep it from leading processes of its own."""
    monkeypatch.setattr(os, "setsid", lambda: None)
    monkeypatch.setenv("GLOO_SOCKET_IFNAME", "lo")


@pytest.mark.usefixtures("as_a_rank")
def test_a_rank_answers_with_its_result_and_leaves_the_group():
    outcome = _answer_here(_double, 4)
    assert (outcome.result, outcome.error) == (8, None)
    assert not dist.is_initialized()


@pytest.mark.usefixtures("as_a_rank")
def test_a_rank_answers_with_its_exception():
    outcome = _answer_here(_raise, OSError("gone"))
    assert isinstance(outcome.error, OSError)
    assert "in _raise" in outcome.trace
    assert not outcome.is_apart
    assert "rank 0 of 1" in outcome.exception(1).__notes__[0]


@pytest.mark.usefixtures("as_a_rank")
def test_a_rank_that_cannot_join_the_others_says_so(monkeypatch):
    monkeypatch.setattr(dist, "init_process_group", lambda *args, **options: _raise(0, 1, RuntimeError("no peer")))
    outcome = _answer_here(_double, 4)
    assert outcome.is_apart
    assert str(outcome.error) == "no peer"


@pytest.mark.usefixtures("as_a_rank")
def test_a_result_that_cannot_be_pickled_is_an_error_that_says_so():
    assert "result of rank 0 (it could not be pickled" in str(_answer_here(_return_a_function).error)


@pytest.mark.usefixtures("as_a_rank")
def test_a_function_whose_file_is_gone_is_an_error_before_the_group_is_joined():
    outcome = _answer_here(_double, find_by=lambda function: ("/nowhere/gone.py", "gone_for_good", "function"))
    assert isinstance(outcome.error, FileNotFoundError)
    assert not outcome.is_apart
    assert not dist.is_initialized()


def test_an_exception_that_cannot_be_read_back_is_replaced_by_its_text():
    outcome = Outcome.loads(Outcome(1, error=OddError("this", "that"), trace="somewhere").dumps())
    assert type(outcome.error) is RuntimeError
    assert "OddError: this and that of rank 1 (it could not be pickled" in str(outcome.error)
    assert outcome.trace == "somewhere"


def test_a_function_is_found_by_name_or_else_by_file(tmp_path):
    assert find(*reference(simulate_ranks)) is simulate_ranks
    file = tmp_path / "functions.py"
    file.write_text("class Holder:\n    def method(rank, num_replicas):\n        return 'found'\n")
    # A module that is there under the same name, but another file, is not the one.
    for module in ("functions_of_nobody", "multiprocessing.pool"):
        before = sys.modules.get(module)
        try:
            assert find(str(file), module, "Holder.method")(0, 1) == "found"
        finally:
            sys.modules.pop(module)
            if before:
                sys.modules[module] = before


def test_arguments_of_classes_in_a_loaded_file_can_be_read(tmp_path, monkeypatch):
    """Unpickling imports the packages a module is in, which nobody can import where pytest has made them up."""
    file = tmp_path / "functions.py"
    file.write_text("class Answer:\n    pass\ndef make():\n    return Answer()\n")
    for name in ("made", "made.up", "made.up.functions"):
        monkeypatch.setitem(sys.modules, name, None)
        del sys.modules[name]
    made = find(str(file), "made.up.functions", "make")()
    assert type(pickle.loads(pickle.dumps(made))) is type(made)


def test_a_file_that_is_no_module_cannot_be_loaded(tmp_path):
    with pytest.raises(ImportError, match="is not a Python file"):
        find(str(tmp_path / "notes.txt"), "notes_of_nobody", "function")
