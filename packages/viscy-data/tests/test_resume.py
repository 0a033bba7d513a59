"""Random access and resume: any batch by its number, and on from any stop, on any number of ranks."""

import itertools
import json
import pickle

import numpy as np
import pytest

from viscy_data import FlexibleBatchSampler
from viscy_sampling_testkit import make_anchors, spawn_training

TABLE = make_anchors(1030, seed=5)
OPTIONS = {"batch_size": 50, "leaky": 0.1, "temporal_enrichment": True, "seed": 3}
WHOLE = list(FlexibleBatchSampler(TABLE, **OPTIONS))


def sampler(**options):
    return FlexibleBatchSampler(TABLE, **{**OPTIONS, **options})


def test_every_batch_is_found_by_its_number():
    fresh = sampler()
    assert [fresh.batch(k, epoch=0) for k in reversed(range(20))] == WHOLE[::-1]


def test_a_batch_does_not_depend_on_what_was_drawn():
    drawn = sampler()
    next(iter(drawn))
    assert drawn.batch(7, epoch=2) == sampler().batch(7, epoch=2)


def test_the_epoch_of_a_batch_is_by_default_the_current_one():
    current = sampler()
    assert current.batch(3) == WHOLE[3]
    current.set_epoch(4)
    assert current.batch(3) == sampler().batch(3, epoch=4)
    iterator = iter(current)
    next(iterator)
    assert current.batch(3) == sampler().batch(3, epoch=4)


def test_random_access_does_not_move_the_sampler():
    moved = sampler()
    moved.batch(9, epoch=6)
    assert list(moved) == WHOLE


def test_the_global_sequence_goes_on_beyond_the_epoch():
    batches = [sampler().batch(k) for k in range(40)]
    assert len({tuple(batch) for batch in batches}) == 40
    assert {len(batch) for batch in batches} == {50}


def test_only_the_last_batch_of_the_epoch_is_short():
    lengths = [len(sampler(drop_last=False).batch(k)) for k in range(45)]
    assert lengths == [50] * 20 + [30] + [50] * 24


def test_state_is_small_and_plain():
    state = sampler().state_dict()
    assert json.loads(json.dumps(state)) == state
    assert len(pickle.dumps(state)) < 2000


@pytest.mark.parametrize("n_drawn", range(20))
def test_a_stop_after_any_batch_is_resumed_with_the_next(n_drawn):
    stopped = sampler()
    before = list(itertools.islice(iter(stopped), n_drawn))
    resumed = sampler()
    resumed.load_state_dict(stopped.state_dict())
    assert before + list(resumed) == WHOLE


@pytest.mark.parametrize(("n_before", "n_after"), [(1, 2), (2, 1), (2, 3), (4, 4), (3, 5)])
@pytest.mark.parametrize("n_steps", [0, 1, 3])
def test_a_run_goes_on_on_another_number_of_ranks(n_before, n_after, n_steps):
    ranks = [sampler(num_replicas=n_before, rank=rank) for rank in range(n_before)]
    drawn = [list(itertools.islice(iter(rank), n_steps)) for rank in ranks]
    states = [rank.state_dict() for rank in ranks]
    assert all(state == states[0] for state in states)
    after = [sampler(num_replicas=n_after, rank=rank) for rank in range(n_after)]
    for rank in after:
        rank.load_state_dict(states[0])
    rest = [list(rank) for rank in after]
    before = [batch for step in zip(*drawn, strict=True) for batch in step]
    sequence = before + [batch for step in zip(*rest, strict=True) for batch in step]
    assert len({len(batches) for batches in rest}) == 1
    assert sequence[:20] == WHOLE
    assert sequence[20:] == [sampler().batch(k) for k in range(20, len(sequence))]


def make_sampler(rank, num_replicas):
    return sampler(rank=rank, num_replicas=num_replicas)


@pytest.mark.slow
def test_a_run_whose_processes_are_killed_goes_on_with_another_number_of_them():
    killed, resumed = spawn_training(make_sampler, [(7, 2), (None, 1)], state_format="json", deadline=240)
    assert killed.batches + resumed.batches == WHOLE


def test_a_second_stop_in_one_epoch_is_resumed_too():
    sequence, state = [], None
    for n_ranks, n_steps in ((2, 3), (3, 2), (1, 8)):
        ranks = [sampler(num_replicas=n_ranks, rank=rank) for rank in range(n_ranks)]
        for rank in ranks:
            if state:
                rank.load_state_dict(state)
        steps = [list(itertools.islice(iter(rank), n_steps)) for rank in ranks]
        sequence += [batch for step in zip(*steps, strict=True) for batch in step]
        state = ranks[0].state_dict()
    assert sequence == WHOLE
    assert (state["epoch"], state["position"]) == (1, 0)


def test_the_epoch_after_a_resumed_one_is_the_next():
    resumed = sampler()
    resumed.load_state_dict({**sampler().state_dict(), "position": 18})
    assert list(resumed) == WHOLE[18:]
    assert list(resumed) == [sampler().batch(k, epoch=1) for k in range(20)]


def test_len_stays_that_of_a_whole_epoch():
    resumed = sampler()
    resumed.load_state_dict({**sampler().state_dict(), "position": 18})
    assert len(resumed) == 20


def test_set_epoch_to_the_restored_epoch_keeps_the_position():
    resumed = sampler()
    resumed.load_state_dict({**sampler().state_dict(), "position": 18})
    resumed.set_epoch(0)
    assert list(resumed) == WHOLE[18:]


def test_set_epoch_to_another_epoch_starts_that_one():
    resumed = sampler()
    resumed.load_state_dict({**sampler().state_dict(), "position": 18})
    resumed.set_epoch(1)
    assert list(resumed) == [sampler().batch(k, epoch=1) for k in range(20)]


def test_state_after_set_epoch_is_the_start_of_that_epoch():
    chosen = sampler()
    next(iter(chosen))
    chosen.set_epoch(7)
    assert (chosen.state_dict()["epoch"], chosen.state_dict()["position"]) == (7, 0)


@pytest.mark.parametrize("even_batches", [True, False])
def test_state_at_the_end_of_an_epoch_is_the_start_of_the_next_on_every_rank(even_batches):
    for rank in range(3):
        done = sampler(num_replicas=3, rank=rank, even_batches=even_batches)
        list(done)
        assert (done.state_dict()["epoch"], done.state_dict()["position"]) == (1, 0)


def test_a_position_beyond_the_epoch_is_the_start_of_the_next():
    resumed = sampler()
    resumed.load_state_dict({**sampler().state_dict(), "position": 21})
    assert next(iter(resumed)) == sampler().batch(0, epoch=1)


def test_ranks_and_evenness_may_change_with_a_resume():
    resumed = sampler(num_replicas=7, rank=6, even_batches=False)
    resumed.load_state_dict({**sampler().state_dict(), "position": 7})
    assert list(resumed) == [WHOLE[13]]


OTHERS = {
    "batch_size": 49,
    "seed": 4,
    "leaky": 0.2,
    "experiment_weights": "sqrt",
    "condition_ratio": {"uninfected": 2, "infected": 1},
    "temporal_window_hours": 3.0,
    "drop_last": False,
    "temporal_global_fraction": 0.4,
}


@pytest.mark.parametrize("name", OTHERS)
def test_the_state_of_other_options_is_refused_by_name(name):
    with pytest.raises(ValueError, match=f"but {name} differs"):
        sampler().load_state_dict(sampler(**{name: OTHERS[name]}).state_dict())


def test_equal_options_in_other_words_are_no_difference():
    table = TABLE.assign(plate=np.arange(len(TABLE)) % 2)
    by_plate = {"batch_size": 50, "experiment_by": "plate"}
    one = FlexibleBatchSampler(table, experiment_weights={np.int64(0): 1, np.int64(1): 2}, **by_plate)
    FlexibleBatchSampler(table, experiment_weights={0: 1, 1: 2}, **by_plate).load_state_dict(one.state_dict())
    sampler(experiment_weights="proportional").load_state_dict(sampler().state_dict())


def test_the_order_of_a_mapping_is_no_difference():
    one, other = {"uninfected": 2, "infected": 1}, {"infected": 1, "uninfected": 2.0}
    sampler(condition_ratio=one).load_state_dict(sampler(condition_ratio=other).state_dict())


def test_the_state_of_another_table_is_refused():
    changed = TABLE.copy()
    changed.loc[changed.index[500], "hours_post_infection"] += 0.5
    for other in (TABLE.iloc[:-1], TABLE.iloc[::-1], changed):
        with pytest.raises(ValueError, match="but valid_anchors differs"):
            sampler().load_state_dict(FlexibleBatchSampler(other, **OPTIONS).state_dict())


NOT_STATES = [
    (None, TypeError, "must be a mapping, got NoneType"),
    ({}, ValueError, "must be one that FlexibleBatchSampler.state_dict"),
    ({"epoch": 0, "position": 0}, ValueError, "must be one that"),
    ({**sampler().state_dict(), "fingerprint": None}, ValueError, "must be one that"),
    ({**sampler().state_dict(), "version": 0}, ValueError, "and version 0"),
    ({**sampler().state_dict(), "position": -1}, ValueError, "position in state_dict must be at least 0"),
    ({**sampler().state_dict(), "epoch": 0.5}, TypeError, "epoch in state_dict must be an integer"),
]


@pytest.mark.parametrize(("state", "error", "message"), NOT_STATES)
def test_what_is_no_state_is_refused(state, error, message):
    with pytest.raises(error, match=message):
        sampler().load_state_dict(state)
