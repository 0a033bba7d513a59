"""Random access and resume: any batch by its number, and continuing after any stop, on any number of ranks."""

import itertools
import json
import pickle

import numpy as np
import pytest
import torch

from viscy_data import FlexibleBatchSampler
from viscy_sampling_testkit import make_anchors

TABLE = make_anchors(1030, seed=5)
OPTIONS = {"batch_size": 50, "leaky": 0.1, "temporal_enrichment": True, "seed": 3}
EPOCH = list(FlexibleBatchSampler(TABLE, **OPTIONS))


def make_sampler(**options):
    return FlexibleBatchSampler(TABLE, **{**OPTIONS, **options})


def test_every_batch_is_found_by_its_number():
    fresh = make_sampler()
    assert [fresh.batch(k, epoch=0) for k in reversed(range(20))] == EPOCH[::-1]


def test_a_batch_does_not_depend_on_the_batches_drawn_before():
    used = make_sampler()
    next(iter(used))
    assert used.batch(7, epoch=2) == make_sampler().batch(7, epoch=2)


def test_the_epoch_of_a_batch_is_by_default_the_current_one():
    current = make_sampler()
    assert current.batch(3) == EPOCH[3]
    current.set_epoch(4)
    assert current.batch(3) == make_sampler().batch(3, epoch=4)
    iterator = iter(current)
    next(iterator)
    assert current.batch(3) == make_sampler().batch(3, epoch=4)


def test_random_access_does_not_move_the_sampler():
    moved = make_sampler()
    moved.batch(9, epoch=6)
    assert list(moved) == EPOCH


def test_the_global_sequence_continues_beyond_the_epoch():
    batches = [make_sampler().batch(k) for k in range(40)]
    assert len({tuple(batch) for batch in batches}) == 40
    assert {len(batch) for batch in batches} == {50}


def test_only_the_last_batch_of_the_epoch_is_short():
    lengths = [len(make_sampler(drop_last=False).batch(k)) for k in range(45)]
    assert lengths == [50] * 20 + [30] + [50] * 24


def test_a_state_is_small_and_can_be_written_as_json():
    state = make_sampler().state_dict()
    assert json.loads(json.dumps(state)) == state
    assert len(pickle.dumps(state)) < 2000


@pytest.mark.parametrize("n_drawn", range(20))
def test_a_run_stopped_after_any_batch_resumes_with_the_next(n_drawn):
    stopped = make_sampler()
    before = list(itertools.islice(iter(stopped), n_drawn))
    resumed = make_sampler()
    resumed.load_state_dict(stopped.state_dict())
    assert before + list(resumed) == EPOCH


@pytest.mark.parametrize(("n_before", "n_after"), [(1, 2), (2, 1), (2, 3), (4, 4), (3, 5)])
@pytest.mark.parametrize("n_steps", [0, 1, 3])
def test_a_run_resumes_on_another_number_of_ranks(n_before, n_after, n_steps):
    ranks = [make_sampler(num_replicas=n_before, rank=rank) for rank in range(n_before)]
    drawn = [list(itertools.islice(iter(rank), n_steps)) for rank in ranks]
    states = [rank.state_dict() for rank in ranks]
    assert all(state == states[0] for state in states)
    after = [make_sampler(num_replicas=n_after, rank=rank) for rank in range(n_after)]
    for rank in after:
        rank.load_state_dict(states[0])
    rest = [list(rank) for rank in after]
    before = [batch for step in zip(*drawn, strict=True) for batch in step]
    sequence = before + [batch for step in zip(*rest, strict=True) for batch in step]
    assert len({len(batches) for batches in rest}) == 1
    assert sequence[:20] == EPOCH
    assert sequence[20:] == [make_sampler().batch(k) for k in range(20, len(sequence))]


def test_a_run_resumes_after_a_second_stop_in_one_epoch():
    sequence, state = [], None
    for n_ranks, n_steps in ((2, 3), (3, 2), (1, 8)):
        ranks = [make_sampler(num_replicas=n_ranks, rank=rank) for rank in range(n_ranks)]
        for rank in ranks:
            if state:
                rank.load_state_dict(state)
        steps = [list(itertools.islice(iter(rank), n_steps)) for rank in ranks]
        sequence += [batch for step in zip(*steps, strict=True) for batch in step]
        state = ranks[0].state_dict()
    assert sequence == EPOCH
    assert (state["epoch"], state["position"]) == (1, 0)


def test_the_epoch_after_a_resumed_one_is_the_next():
    resumed = make_sampler()
    resumed.load_state_dict({**make_sampler().state_dict(), "position": 18})
    assert list(resumed) == EPOCH[18:]
    assert list(resumed) == [make_sampler().batch(k, epoch=1) for k in range(20)]


def test_the_length_of_a_resumed_sampler_is_that_of_a_complete_epoch():
    resumed = make_sampler()
    resumed.load_state_dict({**make_sampler().state_dict(), "position": 18})
    assert len(resumed) == 20


def test_set_epoch_to_the_restored_epoch_keeps_the_position():
    resumed = make_sampler()
    resumed.load_state_dict({**make_sampler().state_dict(), "position": 18})
    resumed.set_epoch(0)
    assert list(resumed) == EPOCH[18:]


def test_set_epoch_to_another_epoch_starts_that_one():
    resumed = make_sampler()
    resumed.load_state_dict({**make_sampler().state_dict(), "position": 18})
    resumed.set_epoch(1)
    assert list(resumed) == [make_sampler().batch(k, epoch=1) for k in range(20)]


def test_the_state_after_set_epoch_is_the_start_of_that_epoch():
    chosen = make_sampler()
    next(iter(chosen))
    chosen.set_epoch(7)
    assert (chosen.state_dict()["epoch"], chosen.state_dict()["position"]) == (7, 0)


@pytest.mark.parametrize("even_batches", [True, False])
def test_the_state_at_the_end_of_an_epoch_is_the_start_of_the_next_on_every_rank(even_batches):
    for rank in range(3):
        finished = make_sampler(num_replicas=3, rank=rank, even_batches=even_batches)
        list(finished)
        assert (finished.state_dict()["epoch"], finished.state_dict()["position"]) == (1, 0)


def test_a_position_beyond_the_epoch_is_the_start_of_the_next():
    resumed = make_sampler()
    resumed.load_state_dict({**make_sampler().state_dict(), "position": 21})
    assert next(iter(resumed)) == make_sampler().batch(0, epoch=1)


def test_ranks_and_even_batches_may_change_when_a_run_is_resumed():
    resumed = make_sampler(num_replicas=7, rank=6, even_batches=False)
    resumed.load_state_dict({**make_sampler().state_dict(), "position": 7})
    assert list(resumed) == [EPOCH[13]]


OTHER_OPTIONS = {
    "batch_size": 49,
    "seed": 4,
    "leaky": 0.2,
    "experiment_weights": "sqrt",
    "condition_ratio": {"uninfected": 2, "infected": 1},
    "temporal_window_hours": 3.0,
    "drop_last": False,
    "temporal_global_fraction": 0.4,
}


@pytest.mark.parametrize("name", OTHER_OPTIONS)
def test_a_state_of_other_options_raises_an_error_that_names_the_option(name):
    with pytest.raises(ValueError, match=f"but {name} differs"):
        make_sampler().load_state_dict(make_sampler(**{name: OTHER_OPTIONS[name]}).state_dict())


def test_equivalent_options_have_the_same_fingerprint():
    table = TABLE.assign(plate=np.arange(len(TABLE)) % 2)
    by_plate = {"batch_size": 50, "experiment_by": "plate"}
    one = FlexibleBatchSampler(table, experiment_weights={np.int64(0): 1, np.int64(1): 2}, **by_plate)
    FlexibleBatchSampler(table, experiment_weights={0: 1, 1: 2}, **by_plate).load_state_dict(one.state_dict())
    make_sampler(experiment_weights="proportional").load_state_dict(make_sampler().state_dict())


def test_the_order_of_a_mapping_does_not_change_the_fingerprint():
    one, other = {"uninfected": 2, "infected": 1}, {"infected": 1, "uninfected": 2.0}
    make_sampler(condition_ratio=one).load_state_dict(make_sampler(condition_ratio=other).state_dict())


def test_a_state_of_another_table_raises_an_error():
    changed = TABLE.copy()
    changed.loc[changed.index[500], "hours_post_infection"] += 0.5
    for table in (TABLE.iloc[:-1], TABLE.iloc[::-1], changed):
        with pytest.raises(ValueError, match="but valid_anchors differs"):
            make_sampler().load_state_dict(FlexibleBatchSampler(table, **OPTIONS).state_dict())


INVALID_STATES = [
    (None, TypeError, "must be a mapping, got NoneType"),
    ({**make_sampler().state_dict(), "version": torch.ones(3)}, ValueError, "must be one that FlexibleBatchSampler"),
    ({**make_sampler().state_dict(), "version": True}, ValueError, "must be one that FlexibleBatchSampler"),
    (
        {
            **make_sampler().state_dict(),
            "fingerprint": {**make_sampler().state_dict()["fingerprint"], "seed": torch.ones(3)},
        },
        ValueError,
        "but seed differs",
    ),
    ({}, ValueError, "must be one that FlexibleBatchSampler.state_dict"),
    ({"epoch": 0, "position": 0}, ValueError, "must be one that"),
    ({**make_sampler().state_dict(), "fingerprint": None}, ValueError, "must be one that"),
    ({**make_sampler().state_dict(), "version": 0}, ValueError, "and version 0"),
    ({**make_sampler().state_dict(), "position": -1}, ValueError, "position in state_dict must be at least 0"),
    ({**make_sampler().state_dict(), "epoch": 0.5}, TypeError, "epoch in state_dict must be an integer"),
]


@pytest.mark.parametrize(("state", "error", "message"), INVALID_STATES)
def test_an_invalid_state_raises_an_error(state, error, message):
    with pytest.raises(error, match=message):
        make_sampler().load_state_dict(state)
