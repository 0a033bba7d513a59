"""A loader hands out what its sampler yields; what resumes from its state is what its kind promises."""

import multiprocessing
import sys
import time

import pytest

from viscy_sampling_testkit import PositionLoader, assert_resumes, simulate_training

pytestmark = pytest.mark.filterwarnings("ignore:'set_vital' is deprecated")

N_BATCHES = 6


class InOrder:
    """A right sampler: batches of two rows in order, another order each epoch."""

    def __init__(self, rank=0, num_replicas=1):
        self.rank, self.num_replicas = rank, num_replicas
        self.epoch, self.done = 0, 0

    def __len__(self):
        return N_BATCHES // self.num_replicas

    def set_epoch(self, epoch):
        if epoch != self.epoch:
            self.epoch, self.done = epoch, 0

    def __iter__(self):
        epoch = self.epoch
        for k in range(self.done + self.rank, N_BATCHES, self.num_replicas):
            done = k - self.rank + self.num_replicas
            self.epoch, self.done = (epoch, done) if done < N_BATCHES else (epoch + 1, 0)
            yield batch(epoch, k)

    def state_dict(self):
        return {"epoch": self.epoch, "done": self.done}

    def load_state_dict(self, state):
        self.epoch, self.done = state["epoch"], state["done"]


class Stuck(InOrder):
    """Its second batch is of a row that takes forever to read."""

    def __iter__(self):
        yield [0]
        yield [Slow()]


class Slow(int):
    def __int__(self):
        time.sleep(600)
        return 0


def batch(epoch, k):
    return [100 * epoch + 2 * k, 100 * epoch + 2 * k + 1]


def epoch(number):
    return [batch(number, k) for k in range(N_BATCHES)]


def make(**options):
    return lambda rank=0, num_replicas=1: PositionLoader(InOrder(rank, num_replicas), **options)


def no_worker_is_left():
    ends = time.monotonic() + 5
    while multiprocessing.active_children() and time.monotonic() < ends:
        time.sleep(0.02)
    return multiprocessing.active_children() == []


LOADERS = [
    {},
    {"num_workers": 2},
    {"num_workers": 2, "prefetch_factor": 1},
    {"num_workers": 2, "persistent_workers": True},
]


@pytest.mark.parametrize("options", LOADERS)
@pytest.mark.parametrize("stateful", [False, True])
def test_a_loader_hands_out_epoch_after_epoch_and_leaves_no_worker(options, stateful):
    loader = make(**options, stateful=stateful)()
    assert len(loader) == N_BATCHES
    assert [list(loader) for _ in range(2)] == [epoch(0), epoch(1)]
    loader.set_epoch(5)
    assert list(loader) == epoch(5)
    loader.close()
    assert no_worker_is_left()


@pytest.mark.parametrize("options", LOADERS)
@pytest.mark.parametrize("n_steps", [1, 3, 6])
def test_a_stateful_loader_goes_on_where_it_was_stopped(options, n_steps):
    lives = simulate_training(make(**options, stateful=True), [(n_steps, 1), (N_BATCHES, 1)])
    assert lives[0].batches + lives[1].batches == [*epoch(0), *epoch(1)][: n_steps + N_BATCHES]
    assert no_worker_is_left()


@pytest.mark.parametrize("n_steps", range(7))
def test_a_plain_loader_without_workers_goes_on_where_it_was_stopped(n_steps):
    lives = simulate_training(make(), [(n_steps, 1), (N_BATCHES, 1)])
    assert lives[0].batches + lives[1].batches == [*epoch(0), *epoch(1)][: n_steps + N_BATCHES]


@pytest.mark.parametrize(("prefetch_factor", "ahead"), [(1, 2), (2, 4)])
def test_a_plain_loader_with_workers_skips_what_they_fetched_ahead(prefetch_factor, ahead):
    loader = make(num_workers=2, prefetch_factor=prefetch_factor)
    lives = simulate_training(loader, [(1, 1), (None, 1)])
    assert lives[0].batches == epoch(0)[:1]
    assert lives[1].batches == epoch(0)[1 + ahead :]
    assert no_worker_is_left()


def test_every_rank_has_a_loader_of_its_own():
    lives = simulate_training(make(num_workers=1, stateful=True), [(1, 2), (2, 2)])
    assert [life.batches for life in lives] == [epoch(0)[:2], epoch(0)[2:]]
    assert no_worker_is_left()


@pytest.mark.parametrize("n_drawn", [0, 2, 6])
def test_a_loader_goes_where_a_sampler_goes(n_drawn):
    assert_resumes(make(), n_drawn)


def test_a_loader_that_was_closed_opens_again():
    loader = make(num_workers=1)()
    for _ in range(2):
        loader.set_epoch(3)
        assert list(loader) == epoch(3)
        loader.close()
    assert no_worker_is_left()


def test_a_worker_that_does_not_answer_is_given_up():
    with pytest.raises(RuntimeError, match=r"timed out after 0\.5 seconds"):
        simulate_training(lambda rank, n: PositionLoader(Stuck(), num_workers=1, timeout=0.5), [(2, 1)])
    assert no_worker_is_left()


def test_a_stateful_loader_without_torchdata_is_an_error_with_a_remedy(monkeypatch):
    monkeypatch.setitem(sys.modules, "torchdata.stateful_dataloader", None)
    with pytest.raises(
        ImportError, match=r"stateful=True needs torchdata; install viscy-sampling-testkit\[torchdata\]"
    ):
        make(stateful=True)()


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"num_workers": -1}, ValueError, "num_workers must be at least 0, got -1"),
        ({"num_workers": 1.0}, TypeError, "num_workers must be an integer, got 1.0"),
        ({"prefetch_factor": 2}, ValueError, "prefetch_factor"),
        ({"persistent_workers": True}, ValueError, "persistent_workers"),
    ],
)
def test_a_wrong_argument_is_answered(options, error, message):
    with pytest.raises(error, match=message):
        make(**options)()
