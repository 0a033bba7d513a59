"""Runs that are interrupted and gone on with: the batches not yet trained on, in order, none twice.

A plain loop, with loaders and without, in one process and in real ones that are killed.
"""

import pytest

from viscy_data import FlexibleBatchSampler
from viscy_sampling_testkit import PositionLoader, make_anchors, simulate_training, spawn_training

TABLE = make_anchors(1000, seed=8)
N_BATCHES = 20

# torchdata 0.11 calls what newer releases of torch deprecate
pytestmark = pytest.mark.filterwarnings("ignore:'set_vital' is deprecated")


def sampler(rank=0, num_replicas=1):
    return FlexibleBatchSampler(
        TABLE, 50, leaky=0.1, temporal_enrichment=True, rank=rank, num_replicas=num_replicas, seed=5
    )


def loading(num_workers, **options):
    """Return what makes the loader of a rank."""
    return lambda rank, num_replicas: PositionLoader(sampler(rank, num_replicas), num_workers=num_workers, **options)


def expected_of(lives):
    """Return the batches that lives train on if none is lost or comes twice: those of the global sequence, in order.

    The last step of an epoch may go beyond its end, with as many batches as there are ranks.
    """
    whole, epoch, position, batches = sampler(), 0, 0, []
    for life in lives:
        for _ in life.steps:
            batches += [whole.batch(position + rank, epoch) for rank in range(life.num_replicas)]
            position += life.num_replicas
            if position >= N_BATCHES:
                epoch, position = epoch + 1, 0
    return batches


def trained_on(lives):
    return [batch for life in lives for batch in life.batches]


STOPS = {
    "in the middle": [(7, 1), (None, 1)],
    "at the last batch": [(N_BATCHES, 1), (3, 1)],
    "in the second epoch": [(27, 1), (5, 1)],
    "a second time in one epoch": [(7, 1), (4, 1), (None, 1)],
    "more ranks": [(7, 1), (2, 3), (None, 3)],
    "fewer ranks": [(3, 4), (2, 2), (None, 1)],
    "fewer and more, in the second epoch": [(12, 2), (3, 5), (1, 1), (None, 2)],
    "at once": [(0, 2), (0, 3), (None, 1)],
}


@pytest.mark.parametrize("stops", STOPS.values(), ids=STOPS.keys())
@pytest.mark.parametrize("set_epoch", [False, True])
@pytest.mark.parametrize("state_format", ["pickle", "json"])
def test_a_plain_loop_goes_on_with_any_number_of_ranks(stops, set_epoch, state_format):
    lives = simulate_training(sampler, stops, set_epoch=set_epoch, state_format=state_format)
    assert trained_on(lives) == expected_of(lives)


@pytest.mark.parametrize("num_workers", [0, 2])
@pytest.mark.parametrize(
    "name", ["in the middle", "at the last batch", "in the second epoch", "a second time in one epoch"]
)
def test_a_stateful_loader_goes_on_on_as_many_ranks(num_workers, name):
    lives = simulate_training(loading(num_workers, stateful=True), STOPS[name])
    assert trained_on(lives) == expected_of(lives)


@pytest.mark.parametrize("name", ["more ranks", "fewer and more, in the second epoch"])
def test_a_plain_loader_without_workers_goes_on_with_any_number_of_ranks(name):
    lives = simulate_training(loading(0), STOPS[name])
    assert trained_on(lives) == expected_of(lives)


def test_steps_after_the_last_checkpoint_are_trained_on_again_and_no_others():
    first, second = simulate_training(sampler, [(8, 2), (None, 2)], checkpoint_every=3)
    assert first.n_saved == 6
    assert first.saved + second.batches == [sampler().batch(k) for k in range(N_BATCHES)]


@pytest.mark.slow
def test_killed_processes_go_on_as_others_on_more_ranks_and_fewer():
    lives = spawn_training(sampler, [(4, 2), (1, 3), (None, 2)], set_epoch=True, deadline=240)
    assert trained_on(lives) == expected_of(lives)
    assert [life.num_replicas for life in lives] == [2, 3, 2]
