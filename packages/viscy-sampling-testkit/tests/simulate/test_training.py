"""A run that is stopped or killed resumes with the batches of its sampler, and leaves nothing behind."""

import multiprocessing
import os
import signal
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
from viscy_sampling_testkit.simulate._checkpoint import atomic_write

N_BATCHES = 6


def epoch_batches(epoch):
    """Return the batches of an epoch, with two rows each."""
    order = np.random.default_rng([7, epoch]).permutation(2 * N_BATCHES)
    return order.reshape(N_BATCHES, 2).tolist()


class Shuffled:
    """A correct sampler: its state is the cursor in the global sequence, which any number of ranks can resume."""

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
        # The last step is filled with batches from the start of the epoch.
        n_left = N_BATCHES - start
        stop = start + -(-n_left // self.num_replicas) * self.num_replicas if self.even else N_BATCHES
        own = range(start + self.rank, stop, self.num_replicas)
        for step, k in enumerate(own, 1):
            done = start + step * self.num_replicas
            self.epoch, self.done = (epoch, done) if done < N_BATCHES else (epoch + 1, 0)
            yield epoch_batches(epoch)[k % N_BATCHES]
        self.epoch, self.done = epoch + 1, 0

    def state_dict(self):
        return {"epoch": self.epoch, "done": self.done}

    def load_state_dict(self, state):
        self.epoch, self.done = state["epoch"], state["done"]


class SavesRankZeroOnly(Shuffled):
    def state_dict(self):
        assert self.rank == 0, "only the state of rank 0 may be saved"
        return super().state_dict()


class LiveState(Shuffled):
    """Its state changes after it was saved."""

    def __iter__(self):
        self.live = {}
        for batch in super().__iter__():
            self.live.update(super().state_dict())
            yield batch

    def state_dict(self):
        return self.live


class KeyedByInteger(Shuffled):
    """Its state does not survive JSON, whose keys are always strings."""

    def state_dict(self):
        return {0: self.epoch, 1: self.done}

    def load_state_dict(self, state):
        self.epoch, self.done = state[0], state[1]


class EndsTwice(Shuffled):
    """Resumes a state from the end of an epoch with an empty epoch, as torchdata's loader does."""

    is_at_end = False

    def load_state_dict(self, state):
        super().load_state_dict(state)
        self.is_at_end = self.done == 0

    def __iter__(self):
        if self.is_at_end:
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
    """Records the epochs that are set, and how many samplers are open."""

    epochs_set: ClassVar[list[int]] = []
    n_open = 0

    def __init__(self, *args):
        super().__init__(*args)
        Counted.n_open += 1

    def set_epoch(self, epoch):
        Counted.epochs_set.append(epoch)
        super().set_epoch(epoch)

    def close(self):
        Counted.n_open -= 1


@pytest.fixture
def counted(monkeypatch):
    monkeypatch.setattr(Counted, "epochs_set", [])
    monkeypatch.setattr(Counted, "n_open", 0)
    return Counted


def batches_of(attempts):
    return [batch for attempt in attempts for batch in attempt.batches]


def saved_of(attempts):
    return [batch for attempt in attempts for batch in attempt.saved]


# in this process


@pytest.mark.parametrize("state_format", ["pickle", "json"])
@pytest.mark.parametrize("n_steps", range(7))
def test_stopped_run_resumes_with_the_next_batch(n_steps, state_format):
    attempts = simulate_training(Shuffled, [(n_steps, 1), (N_BATCHES, 1)], state_format=state_format)
    assert batches_of(attempts) == [*epoch_batches(0), *epoch_batches(1)][: n_steps + N_BATCHES]


@pytest.mark.parametrize("ranks", [(1, 2, 3), (3, 2, 1), (2, 3, 1)])
def test_run_resumes_on_another_number_of_ranks(ranks):
    attempts = simulate_training(Shuffled, [(1, n) for n in ranks])
    assert [attempt.num_replicas for attempt in attempts] == list(ranks)
    assert [len(attempt.ranks) for attempt in attempts] == list(ranks)
    assert batches_of(attempts) == [*epoch_batches(0), *epoch_batches(1)][: sum(ranks)]


def test_no_number_of_steps_means_the_rest_of_the_epoch():
    attempts = simulate_training(Shuffled, [(2, 2), (None, 2), (None, 3)])
    assert [attempt.batches for attempt in attempts] == [epoch_batches(0)[:4], epoch_batches(0)[4:], epoch_batches(1)]


def test_run_spans_epochs():
    (attempt,) = simulate_training(Shuffled, [(15, 1)])
    assert attempt.batches == [*epoch_batches(0), *epoch_batches(1), *epoch_batches(2)[:3]]


def test_steps_after_the_last_checkpoint_are_trained_again():
    attempts = simulate_training(Shuffled, [(5, 1), (2, 1), (None, 1)], checkpoint_every=3)
    assert [attempt.n_saved for attempt in attempts] == [3, 0, 3]
    assert [attempt.batches for attempt in attempts] == [
        epoch_batches(0)[:5],
        epoch_batches(0)[3:5],
        epoch_batches(0)[3:],
    ]
    assert saved_of(attempts) == epoch_batches(0)
    assert [attempt.state for attempt in attempts] == [
        {"epoch": 0, "done": 3},
        {"epoch": 0, "done": 3},
        {"epoch": 1, "done": 0},
    ]


def test_run_killed_before_its_first_checkpoint_starts_over():
    attempts = simulate_training(Shuffled, [(2, 1), (3, 1)], checkpoint_every=3)
    assert attempts[0].state is None
    assert attempts[1].batches == epoch_batches(0)[:3]


def test_only_the_state_of_rank_0_is_saved():
    attempts = simulate_training(SavesRankZeroOnly, [(1, 3), (1, 3)])
    assert batches_of(attempts) == epoch_batches(0)


def test_state_is_saved_before_the_next_batch_is_drawn_and_does_not_change_later():
    assert batches_of(simulate_training(LiveState, [(2, 1), (4, 1)])) == epoch_batches(0)


def test_state_is_really_converted_to_its_format():
    with pytest.raises(KeyError):
        simulate_training(KeyedByInteger, [(2, 1), (4, 1)], state_format="json")
    assert batches_of(simulate_training(KeyedByInteger, [(2, 1), (4, 1)])) == epoch_batches(0)


def test_empty_epoch_right_after_resuming_is_skipped():
    attempts = simulate_training(EndsTwice, [(N_BATCHES, 1), (None, 1)], set_epoch=True)
    assert batches_of(attempts) == [*epoch_batches(0), *epoch_batches(1)]


def test_loop_sets_the_epoch_that_it_is_in(counted):
    stops = [(2, 1), (4, 1), (7, 1)]
    assert batches_of(simulate_training(counted, stops, set_epoch=True)) == [
        *epoch_batches(0),
        *epoch_batches(1),
        *epoch_batches(2)[:1],
    ]
    assert counted.epochs_set == [0, 0, 1, 2]


def test_loop_without_set_epoch_leaves_the_epoch_to_the_sampler(counted):
    simulate_training(counted, [(2, 1), (7, 1)])
    assert counted.epochs_set == []


def test_rank_that_ends_early_waits_for_the_others():
    (attempt,) = simulate_training(lambda rank, n: Shuffled(rank, n, even=False), [(4, 4)])
    assert attempt.batches == [*epoch_batches(0), *epoch_batches(1)]
    assert attempt.steps[1] == [*epoch_batches(0)[4:], None, None]
    assert [len(own) for own in attempt.ranks] == [4, 4, 2, 2]
    with pytest.raises(AssertionError, match="same number of batches"):
        assert_equal_steps(attempt.ranks)


def test_samplers_are_closed_at_the_end_of_each_attempt(counted):
    simulate_training(counted, [(1, 2), (1, 3)])
    assert counted.n_open == 0


def test_samplers_are_closed_if_one_fails(counted):
    class Fails(counted):
        def __iter__(self):
            raise OSError("no table")

    with pytest.raises(OSError, match="no table"):
        simulate_training(Fails, [(1, 3)])
    assert counted.n_open == 0


def test_epoch_without_batches_raises():
    with pytest.raises(ValueError, match="an epoch must have a batch, got none on any of 2 ranks in epoch 0"):
        simulate_training(Empty, [(1, 2)])


def test_endless_epoch_raises_if_it_must_end():
    with pytest.raises(ValueError, match="an epoch must end after 6 batches, which is its length, but epoch 0 did not"):
        simulate_training(Endless, [(None, 1)])
    (attempt,) = simulate_training(Endless, [(9, 1)])
    assert len(attempt.batches) == 9


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"stops": []}, ValueError, "stops must hold at least one attempt, got none"),
        ({"stops": [(-1, 2)]}, ValueError, "n_steps must be at least 0, got -1"),
        ({"stops": [(1.5, 2)]}, TypeError, "n_steps must be an integer, got 1.5"),
        ({"stops": [(1, 0)]}, ValueError, "num_replicas must be at least 1, got 0"),
        ({"checkpoint_every": 0}, ValueError, "checkpoint_every must be at least 1, got 0"),
        ({"state_format": "yaml"}, ValueError, "state_format must be 'pickle' or 'json', got 'yaml'"),
    ],
)
@pytest.mark.parametrize("train", [simulate_training, spawn_training])
def test_invalid_argument_raises(train, options, error, message):
    with pytest.raises(error, match=message):
        train(Shuffled if train is simulate_training else _make, **{"stops": [(1, 1)], **options})


def test_object_that_is_not_a_resumable_sampler_raises_with_its_missing_methods():
    with pytest.raises(TypeError, match=r"make_sampler must return .*, got list, which lacks set_epoch, state_dict, "):
        simulate_training(lambda rank, num_replicas: [[1]], [(1, 1)])


def test_sampler_and_loader_satisfy_the_protocol():
    assert isinstance(Shuffled(), ResumableBatchSampler)
    assert isinstance(PositionLoader(Shuffled()), ResumableBatchSampler)


# checkpoints


def test_checkpoint_is_replaced_in_one_step_or_not_at_all(tmp_path, monkeypatch):
    file = tmp_path / "checkpoint"
    atomic_write(file, b"first")
    atomic_write(file, b"second")
    assert file.read_bytes() == b"second"

    def fail(*args):
        raise OSError("killed before the new file was in place")

    monkeypatch.setattr(os, "replace", fail)
    with pytest.raises(OSError, match="killed"):
        atomic_write(file, b"third")
    assert file.read_bytes() == b"second"
    assert list(tmp_path.iterdir()) == [file]


# in real processes


def _make(rank, num_replicas):
    return Shuffled(rank, num_replicas)


def _make_or_fail(rank, num_replicas, folder):
    (Path(folder) / f"pid{rank}").write_text(str(os.getpid()))
    if rank == 1:
        raise KeyError("the reason")
    time.sleep(3600)


class Dies(Shuffled):
    def __iter__(self):
        yield from epoch_batches(0)[:2]
        os.kill(os.getpid(), signal.SIGKILL)


def _make_dying(rank, num_replicas):
    return Dies(rank, num_replicas)


class RecordsWorkers(Shuffled):
    """Records the process ids of the loader's workers, in the process of its rank."""

    def __init__(self, rank, num_replicas, folder):
        super().__init__(rank, num_replicas)
        self.folder = Path(folder)

    def __iter__(self):
        for batch in super().__iter__():
            for worker in multiprocessing.active_children():
                (self.folder / f"pid{worker.pid}").write_text(str(worker.pid))
            yield batch


def _make_loader(rank, num_replicas, folder):
    sampler = RecordsWorkers(rank, num_replicas, folder)
    return PositionLoader(sampler, num_workers=1, prefetch_factor=1, timeout=600.0)


@pytest.mark.slow
def test_killed_processes_resume_and_train_as_the_simulation_does(patience, nothing_is_left):
    stops = [(2, 2), (None, 1)]
    options = {"state_format": "json", "set_epoch": True}
    attempts = spawn_training(_make, stops, deadline=patience, **options)
    assert attempts == simulate_training(Shuffled, stops, **options)
    assert batches_of(attempts) == epoch_batches(0)
    nothing_is_left()


@pytest.mark.slow
@pytest.mark.weekly
def test_workers_of_killed_processes_are_gone_too(folder, patience, nothing_is_left):
    attempts = spawn_training(_make_loader, [(2, 1), (2, 1)], folder, checkpoint_every=2, deadline=patience)
    assert attempts[0].batches == epoch_batches(0)[:2]
    assert nothing_is_left() == 2


@pytest.mark.slow
def test_exception_on_one_rank_ends_the_run(folder, patience, nothing_is_left):
    with pytest.raises(KeyError, match="the reason") as caught:
        spawn_training(_make_or_fail, [(2, 2), (1, 1)], folder, deadline=patience)
    assert "raised on rank 1 of 2" in "".join(caught.value.__notes__)
    assert nothing_is_left() in (1, 2)


@pytest.mark.slow
def test_unplanned_death_raises(patience, nothing_is_left):
    with pytest.raises(RuntimeError, match="rank 0 of 1 died with exit code -9 before its planned kill"):
        spawn_training(_make_dying, [(3, 1), (1, 1)], deadline=patience)
    nothing_is_left()


@pytest.mark.slow
def test_deadline_covers_all_attempts(nothing_is_left):
    start = time.monotonic()
    with pytest.raises(TimeoutError, match=r"ranks \[0, 1\] of 2 did not finish within 0.3 s"):
        spawn_training(_make, [(1, 2), (1, 2)], deadline=0.3)
    # Each of the two attempts would have had 600 s.
    assert time.monotonic() - start < 600
    nothing_is_left()
