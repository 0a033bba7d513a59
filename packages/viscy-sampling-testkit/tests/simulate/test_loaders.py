"""A loader yields the batches of its sampler, and resumes from the state that its kind saves."""

import multiprocessing
import sys
import time

import pytest

from viscy_sampling_testkit import PositionLoader, assert_resumes, simulate_training

pytestmark = pytest.mark.filterwarnings("ignore:'set_vital' is deprecated")

N_BATCHES = 6


class InOrder:
    """A correct sampler: batches of two rows in order, with other rows in each epoch."""

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


class Hangs(InOrder):
    """The row of its second batch takes forever to read."""

    def __iter__(self):
        yield [0]
        yield [Endless()]


class Endless(int):
    def __int__(self):
        time.sleep(3600)
        return 0


def batch(epoch, k):
    return [100 * epoch + 2 * k, 100 * epoch + 2 * k + 1]


def epoch(number):
    return [batch(number, k) for k in range(N_BATCHES)]


def make(**options):
    """Return a factory of loaders, whose time limit leaves room for a busy machine."""
    return lambda rank=0, num_replicas=1: PositionLoader(InOrder(rank, num_replicas), timeout=600.0, **options)


@pytest.fixture
def no_worker_is_left(wait_until):
    """Wait for the end of all workers after the test; tests of other packages may have left processes of their own."""
    earlier = set(multiprocessing.active_children())
    yield
    wait_until(lambda: set(multiprocessing.active_children()) <= earlier, "the end of all workers")


LOADERS = [
    {},
    {"num_workers": 2},
    {"num_workers": 2, "prefetch_factor": 1},
    {"num_workers": 2, "persistent_workers": True},
]


@pytest.mark.usefixtures("no_worker_is_left")
@pytest.mark.parametrize("options", LOADERS)
@pytest.mark.parametrize("stateful", [False, True])
def test_loader_yields_epoch_after_epoch_and_leaves_no_worker(options, stateful):
    loader = make(**options, stateful=stateful)()
    assert len(loader) == N_BATCHES
    assert [list(loader) for _ in range(2)] == [epoch(0), epoch(1)]
    loader.set_epoch(5)
    assert list(loader) == epoch(5)
    loader.close()


@pytest.mark.usefixtures("no_worker_is_left")
@pytest.mark.parametrize("options", LOADERS)
@pytest.mark.parametrize("n_steps", [1, 3, 6])
def test_stateful_loader_resumes_with_the_next_batch(options, n_steps):
    attempts = simulate_training(make(**options, stateful=True), [(n_steps, 1), (N_BATCHES, 1)])
    assert attempts[0].batches + attempts[1].batches == [*epoch(0), *epoch(1)][: n_steps + N_BATCHES]


@pytest.mark.parametrize("n_steps", range(7))
def test_plain_loader_without_workers_resumes_with_the_next_batch(n_steps):
    attempts = simulate_training(make(), [(n_steps, 1), (N_BATCHES, 1)])
    assert attempts[0].batches + attempts[1].batches == [*epoch(0), *epoch(1)][: n_steps + N_BATCHES]


@pytest.mark.usefixtures("no_worker_is_left")
@pytest.mark.parametrize(("prefetch_factor", "ahead"), [(1, 2), (2, 4)])
def test_plain_loader_with_workers_skips_the_prefetched_batches(prefetch_factor, ahead):
    loader = make(num_workers=2, prefetch_factor=prefetch_factor)
    attempts = simulate_training(loader, [(1, 1), (None, 1)])
    assert attempts[0].batches == epoch(0)[:1]
    assert attempts[1].batches == epoch(0)[1 + ahead :]


@pytest.mark.usefixtures("no_worker_is_left")
def test_every_rank_has_its_own_loader():
    attempts = simulate_training(make(num_workers=1, stateful=True), [(1, 2), (2, 2)])
    assert [attempt.batches for attempt in attempts] == [epoch(0)[:2], epoch(0)[2:]]


@pytest.mark.parametrize("n_drawn", [0, 2, 6])
def test_loader_can_replace_a_sampler(n_drawn):
    assert_resumes(make(), n_drawn)


@pytest.mark.usefixtures("no_worker_is_left")
def test_closed_loader_opens_again():
    loader = make(num_workers=1)()
    for _ in range(2):
        loader.set_epoch(3)
        assert list(loader) == epoch(3)
        loader.close()


@pytest.mark.slow
@pytest.mark.usefixtures("no_worker_is_left")
def test_worker_that_hangs_times_out():
    with pytest.raises(RuntimeError, match=r"timed out after 0\.5 seconds"):
        simulate_training(lambda rank, n: PositionLoader(Hangs(), num_workers=1, timeout=0.5), [(2, 1)])


def test_stateful_loader_without_torchdata_raises_with_a_remedy(monkeypatch):
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
def test_invalid_argument_raises(options, error, message):
    with pytest.raises(error, match=message):
        make(**options)()
