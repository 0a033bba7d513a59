"""Interrupted training: a resumed run trains on the batches not yet used, in order, none of them twice.

A plain training loop, with a data loader and without, simulated in one process and run in real ones that are killed.
`test_integrations.py` and `test_lightning.py` do the same with torchdata and Lightning.
"""

import pytest

from viscy_data import FlexibleBatchSampler
from viscy_sampling_testkit import PositionLoader, make_anchors, simulate_training, spawn_training

TABLE = make_anchors(1000, seed=8)
N_BATCHES = 20


def make_sampler(rank=0, num_replicas=1):
    return FlexibleBatchSampler(
        TABLE, 50, leaky=0.1, temporal_enrichment=True, rank=rank, num_replicas=num_replicas, seed=5
    )


def make_loader(rank, num_replicas):
    return PositionLoader(make_sampler(rank, num_replicas), num_workers=0)


def assert_trains_on_the_global_sequence(attempts):
    """Assert that all attempts together train on the batches of the global sequence, in order.

    The last step of an epoch may go beyond its end, since it has as many batches as there are ranks.
    """
    sampler, epoch, position, expected = make_sampler(), 0, 0, []
    for attempt in attempts:
        for _ in attempt.steps:
            expected += [sampler.batch(position + rank, epoch) for rank in range(attempt.num_replicas)]
            position += attempt.num_replicas
            if position >= N_BATCHES:
                epoch, position = epoch + 1, 0
    assert [batch for attempt in attempts for batch in attempt.batches] == expected


STOPS = {
    "in the middle": [(7, 1), (None, 1)],
    "at the last batch": [(N_BATCHES, 1), (3, 1)],
    "in the second epoch": [(27, 1), (5, 1)],
    "a second time in one epoch": [(7, 1), (4, 1), (None, 1)],
    "more ranks": [(7, 1), (2, 3), (None, 3)],
    "fewer ranks": [(3, 4), (2, 2), (None, 1)],
    "fewer and more, in the second epoch": [(12, 2), (3, 5), (1, 1), (None, 2)],
    "before the first batch": [(0, 2), (0, 3), (None, 1)],
}


@pytest.mark.parametrize("stops", STOPS.values(), ids=STOPS.keys())
@pytest.mark.parametrize("set_epoch", [False, True])
@pytest.mark.parametrize("state_format", ["pickle", "json"])
def test_a_plain_loop_resumes_on_any_number_of_ranks(stops, set_epoch, state_format):
    assert_trains_on_the_global_sequence(
        simulate_training(make_sampler, stops, set_epoch=set_epoch, state_format=state_format)
    )


@pytest.mark.parametrize("stops", ["more ranks", "fewer and more, in the second epoch"])
def test_a_plain_data_loader_without_workers_resumes_on_any_number_of_ranks(stops):
    assert_trains_on_the_global_sequence(simulate_training(make_loader, STOPS[stops]))


def test_only_the_steps_after_the_last_checkpoint_are_repeated():
    first, second = simulate_training(make_sampler, [(8, 2), (None, 2)], checkpoint_every=3)
    assert first.n_saved == 6
    assert first.saved + second.batches == [make_sampler().batch(k) for k in range(N_BATCHES)]


@pytest.mark.weekly
@pytest.mark.slow
def test_a_run_whose_processes_are_killed_resumes_on_more_and_on_fewer_of_them():
    attempts = spawn_training(
        make_sampler, [(4, 2), (1, 3), (None, 2)], set_epoch=True, state_format="json", deadline=1800.0
    )
    assert_trains_on_the_global_sequence(attempts)
    assert [attempt.num_replicas for attempt in attempts] == [2, 3, 2]
