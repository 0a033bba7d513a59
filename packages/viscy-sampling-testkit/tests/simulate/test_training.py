"""A run that is stopped, killed and started again trains on what its sampler says, and leaves nothing behind."""

import multiprocessing
import os
import signal
import tempfile
import time
from pathlib import Path
from typing import ClassVar

import numpy as np
import pytest

from viscy_sampling_testkit import (
    PositionLoader,
    ResumableBatchSampler,
    assert_equal_steps,
    simulate_training,
    spawn_training,
)
from viscy_sampling_testkit.simulate._checkpoint import write_whole

# Seconds; a process that imports torch starts within five, unless the machine is busy with other things.
PATIENCE = 240.0
N_BATCHES = 6


def whole(epoch):
    """The batches of an epoch, of two rows each."""
    order = np.random.default_rng([7, epoch]).permutation(2 * N_BATCHES)
    return order.reshape(N_BATCHES, 2).tolist()


class Shuffled:
    """A right sampler: its state is the place in the sequence of all ranks, so any number of ranks goes on from it."""

    def __init__(self, rank=0, num_replicas=1, even=True):
        self.rank, self.num_replicas, self.even = rank, num_replicas, even
        self.epoch, self.done = 0, 0

    def __len__(self):
        return -(-N_BATCHES // self.num_replicas)

    def set_epoch(self, epoch):
        if epoch != self.epoch:
            self.epoch, self.done = epoch, 0

    def __iter__(self):
        epoch, start = self.epoch, self.done
        # What is missing in the last step comes from the front.
        n_left = N_BATCHES - start
        stop = start + -(-n_left // self.num_replicas) * self.num_replicas if self.even else N_BATCHES
        own = range(start + self.rank, stop, self.num_replicas)
        for step, k in enumerate(own, 1):
            done = start + step * self.num_replicas
            self.epoch, self.done = (epoch, done) if done < N_BATCHES else (epoch + 1, 0)
            yield whole(epoch)[k % N_BATCHES]
        self.epoch, self.done = epoch + 1, 0

    def state_dict(self):
        return {"epoch": self.epoch, "done": self.done}

    def load_state_dict(self, state):
        self.epoch, self.done = state["epoch"], state["done"]


class AsksRankZeroOnly(Shuffled):
    def state_dict(self):
        assert self.rank == 0, "the state of another rank than 0 does not survive"
        return super().state_dict()


class LiveState(Shuffled):
    """Its state changes after it was taken."""

    def __iter__(self):
        self.live = {}
        for batch in super().__iter__():
            self.live.update(super().state_dict())
            yield batch

    def state_dict(self):
        return self.live


class KeyedByInteger(Shuffled):
    """Its state does not survive JSON, of which all keys are text."""

    def state_dict(self):
        return {0: self.epoch, 1: self.done}

    def load_state_dict(self, state):
        self.epoch, self.done = state[0], state[1]


class EndsTwice(Shuffled):
    """Resumes an epoch's end as an epoch without a batch, as torchdata's loader does, and then goes on."""

    def load_state_dict(self, state):
        super().load_state_dict(state)
        self.is_at_end = self.done == 0

    def __iter__(self):
        if getattr(self, "is_at_end", False):
            self.is_at_end = False
            return iter(())
        return super().__iter__()


class Empty(Shuffled):
    def __iter__(self):
        return iter(())


class Endless(Shuffled):
    def __iter__(self):
        while True:
            yield [0, 1]


class Counted(Shuffled):
    """Notes the epochs that it is told, and whether it was closed."""

    told: ClassVar[list[int]] = []
    n_open = 0

    def __init__(self, *args):
        super().__init__(*args)
        Counted.n_open += 1

    def set_epoch(self, epoch):
        Counted.told.append(epoch)
        super().set_epoch(epoch)

    def close(self):
        Counted.n_open -= 1


@pytest.fixture
def counted(monkeypatch):
    monkeypatch.setattr(Counted, "told", [])
    monkeypatch.setattr(Counted, "n_open", 0)
    return Counted


def batches_of(lives):
    return [batch for life in lives for batch in life.batches]


def saved_of(lives):
    return [batch for life in lives for batch in life.saved]


# in one process


@pytest.mark.parametrize("state_format", ["pickle", "json"])
@pytest.mark.parametrize("n_steps", range(7))
def test_a_stopped_run_goes_on_where_it_was(n_steps, state_format):
    lives = simulate_training(Shuffled, [(n_steps, 1), (N_BATCHES, 1)], state_format=state_format)
    assert batches_of(lives) == [*whole(0), *whole(1)][: n_steps + N_BATCHES]


@pytest.mark.parametrize("ranks", [(1, 2, 3), (3, 2, 1), (2, 3, 1)])
def test_a_run_goes_on_with_another_number_of_ranks(ranks):
    lives = simulate_training(Shuffled, [(1, n) for n in ranks])
    assert [life.num_replicas for life in lives] == list(ranks)
    assert [len(life.ranks) for life in lives] == list(ranks)
    assert batches_of(lives) == [*whole(0), *whole(1)][: sum(ranks)]


def test_no_number_of_steps_is_the_rest_of_the_epoch_or_a_whole_one():
    lives = simulate_training(Shuffled, [(2, 2), (None, 2), (None, 3)])
    assert [life.batches for life in lives] == [whole(0)[:4], whole(0)[4:], whole(1)]


def test_a_run_goes_through_epochs():
    (life,) = simulate_training(Shuffled, [(15, 1)])
    assert life.batches == [*whole(0), *whole(1), *whole(2)[:3]]


def test_steps_after_the_last_checkpoint_are_trained_again():
    lives = simulate_training(Shuffled, [(5, 1), (2, 1), (None, 1)], checkpoint_every=3)
    assert [life.n_saved for life in lives] == [3, 0, 3]
    assert [life.batches for life in lives] == [whole(0)[:5], whole(0)[3:5], whole(0)[3:]]
    assert saved_of(lives) == whole(0)
    assert [life.state for life in lives] == [{"epoch": 0, "done": 3}, {"epoch": 0, "done": 3}, {"epoch": 1, "done": 0}]


def test_a_run_killed_before_its_first_checkpoint_starts_anew():
    lives = simulate_training(Shuffled, [(2, 1), (3, 1)], checkpoint_every=3)
    assert lives[0].state is None
    assert lives[1].batches == whole(0)[:3]


def test_no_state_but_that_of_rank_0_is_asked_for():
    lives = simulate_training(AsksRankZeroOnly, [(1, 3), (1, 3)])
    assert batches_of(lives) == whole(0)


def test_a_state_is_taken_before_the_next_batch_is_drawn_and_does_not_change_after():
    assert batches_of(simulate_training(LiveState, [(2, 1), (4, 1)])) == whole(0)


def test_a_state_really_goes_through_its_format():
    with pytest.raises(KeyError):
        simulate_training(KeyedByInteger, [(2, 1), (4, 1)], state_format="json")
    assert batches_of(simulate_training(KeyedByInteger, [(2, 1), (4, 1)])) == whole(0)


def test_an_epoch_without_a_batch_is_passed_over_where_a_run_is_resumed():
    lives = simulate_training(EndsTwice, [(N_BATCHES, 1), (None, 1)], set_epoch=True)
    assert batches_of(lives) == [*whole(0), *whole(1)]


def test_a_loop_that_sets_the_epoch_sets_that_which_it_is_in(counted):
    stops = [(2, 1), (4, 1), (7, 1)]
    assert batches_of(simulate_training(counted, stops, set_epoch=True)) == [*whole(0), *whole(1), *whole(2)[:1]]
    assert counted.told == [0, 0, 1, 2]


def test_a_loop_that_does_not_set_the_epoch_leaves_it_to_the_sampler(counted):
    simulate_training(counted, [(2, 1), (7, 1)])
    assert counted.told == []


def test_a_rank_that_ends_early_sits_out_until_the_others_have_ended():
    (life,) = simulate_training(lambda rank, n: Shuffled(rank, n, even=False), [(4, 4)])
    assert life.batches == [*whole(0), *whole(1)]
    assert life.steps[1] == [*whole(0)[4:], None, None]
    assert [len(own) for own in life.ranks] == [4, 4, 2, 2]
    with pytest.raises(AssertionError, match="equally many"):
        assert_equal_steps(life.ranks)


def test_samplers_are_closed_at_the_end_of_each_life(counted):
    simulate_training(counted, [(1, 2), (1, 3)])
    assert counted.n_open == 0


def test_samplers_are_closed_where_one_fails(counted):
    class Fails(counted):
        def __iter__(self):
            raise OSError("no table")

    with pytest.raises(OSError, match="no table"):
        simulate_training(Fails, [(1, 3)])
    assert counted.n_open == 0


def test_an_epoch_of_nothing_is_refused():
    with pytest.raises(ValueError, match="an epoch must have a batch, got none on any of 2 ranks in epoch 0"):
        simulate_training(Empty, [(1, 2)])


def test_an_epoch_that_does_not_end_is_refused_where_its_end_is_waited_for():
    with pytest.raises(ValueError, match="an epoch must end after the 6 batches of its length, got more in epoch 0"):
        simulate_training(Endless, [(None, 1)])
    (life,) = simulate_training(Endless, [(9, 1)])
    assert len(life.batches) == 9


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"stops": []}, ValueError, "stops must hold at least one life, got none"),
        ({"stops": [(-1, 2)]}, ValueError, "n_steps must be at least 0, got -1"),
        ({"stops": [(1.5, 2)]}, TypeError, "n_steps must be an integer, got 1.5"),
        ({"stops": [(1, 0)]}, ValueError, "num_replicas must be at least 1, got 0"),
        ({"checkpoint_every": 0}, ValueError, "checkpoint_every must be at least 1, got 0"),
        ({"state_format": "yaml"}, ValueError, "state_format must be 'pickle' or 'json', got 'yaml'"),
    ],
)
@pytest.mark.parametrize("train", [simulate_training, spawn_training])
def test_a_wrong_argument_is_answered(train, options, error, message):
    with pytest.raises(error, match=message):
        train(Shuffled if train is simulate_training else _make, **{"stops": [(1, 1)], **options})


def test_what_is_no_resumable_sampler_is_refused_by_what_it_lacks():
    with pytest.raises(TypeError, match=r"make_sampler must return .*, got list, which lacks set_epoch, state_dict, "):
        simulate_training(lambda rank, num_replicas: [[1]], [(1, 1)])


def test_a_right_sampler_and_a_loader_keep_the_protocol():
    assert isinstance(Shuffled(), ResumableBatchSampler)
    assert isinstance(PositionLoader(Shuffled()), ResumableBatchSampler)


# checkpoints


def test_a_checkpoint_is_written_whole_or_not_at_all(tmp_path, monkeypatch):
    file = tmp_path / "checkpoint"
    write_whole(file, b"first")
    write_whole(file, b"second")
    assert file.read_bytes() == b"second"

    def fail(*args):
        raise OSError("killed before the new one was in place")

    monkeypatch.setattr(os, "replace", fail)
    with pytest.raises(OSError, match="killed"):
        write_whole(file, b"third")
    assert file.read_bytes() == b"second"
    assert list(tmp_path.iterdir()) == [file]


# in real processes


def _make(rank, num_replicas):
    return Shuffled(rank, num_replicas)


def _make_or_fail(rank, num_replicas, folder):
    (Path(folder) / f"pid{rank}").write_text(str(os.getpid()))
    if rank == 1:
        raise KeyError("the reason")
    time.sleep(600)


class Dies(Shuffled):
    def __iter__(self):
        yield from whole(0)[:2]
        os.kill(os.getpid(), signal.SIGKILL)


def _make_dying(rank, num_replicas):
    return Dies(rank, num_replicas)


class NotesWorkers(Shuffled):
    """Notes, in the process of its rank, the processes of the loader's workers."""

    def __init__(self, rank, num_replicas, folder):
        super().__init__(rank, num_replicas)
        self.folder = Path(folder)

    def __iter__(self):
        for batch in super().__iter__():
            for worker in multiprocessing.active_children():
                (self.folder / f"pid{worker.pid}").write_text(str(worker.pid))
            yield batch


def _make_loader(rank, num_replicas, folder):
    return PositionLoader(NotesWorkers(rank, num_replicas, folder), num_workers=1, prefetch_factor=1)


def _is_running(pid):
    """Whether a process is there and not merely waiting to be reaped."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except OSError:
        return False


def _nothing_is_left(folder):
    """Wait for the end of all processes that were noted, and return how many there are."""
    pids = [int(file.read_text()) for file in Path(folder).glob("pid*")]
    ends = time.monotonic() + 5
    while any(map(_is_running, pids)) and time.monotonic() < ends:
        time.sleep(0.05)
    assert not any(map(_is_running, pids))
    assert multiprocessing.active_children() == []
    assert list(Path(tempfile.gettempdir()).iterdir()) == []
    return len(pids)


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """Return a folder for process ids; temporary files of the call lie below it, too."""
    (tmp_path / "temporary").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "temporary"))
    return str(tmp_path)


@pytest.mark.slow
def test_killed_processes_are_started_again_and_train_as_the_simulation_does(folder):
    stops = [(2, 2), (None, 1)]
    options = {"state_format": "json", "set_epoch": True}
    lives = spawn_training(_make, stops, deadline=PATIENCE, **options)
    assert lives == simulate_training(Shuffled, stops, **options)
    assert batches_of(lives) == whole(0)
    _nothing_is_left(folder)


@pytest.mark.slow
def test_workers_of_killed_processes_are_gone_too(folder):
    lives = spawn_training(_make_loader, [(2, 1), (2, 1)], folder, checkpoint_every=2, deadline=PATIENCE)
    assert lives[0].batches == whole(0)[:2]
    assert _nothing_is_left(folder) == 2


@pytest.mark.slow
def test_an_exception_on_one_rank_ends_the_run(folder):
    with pytest.raises(KeyError, match="the reason") as caught:
        spawn_training(_make_or_fail, [(2, 2), (1, 1)], folder, deadline=PATIENCE)
    assert "raised on rank 1 of 2" in "".join(caught.value.__notes__)
    assert _nothing_is_left(folder) in (1, 2)


@pytest.mark.slow
def test_a_death_that_is_not_the_planned_one_is_an_error(folder):
    with pytest.raises(RuntimeError, match=r"rank 0 died with exit code -9, .* of 1 ranks, before it was to be killed"):
        spawn_training(_make_dying, [(3, 1), (1, 1)], deadline=PATIENCE)
    _nothing_is_left(folder)


@pytest.mark.slow
def test_the_deadline_is_that_of_all_lives(folder):
    start = time.monotonic()
    with pytest.raises(TimeoutError, match=r"ranks \[0, 1\] of 2 did not finish within 0.3 s"):
        spawn_training(_make, [(1, 2), (1, 2)], deadline=0.3)
    assert time.monotonic() - start < 5
    _nothing_is_left(folder)
