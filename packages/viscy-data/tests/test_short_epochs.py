"""Short epochs: `epoch_batches` batches each, and one round over the table together."""

import itertools

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from viscy_data import FlexibleBatchSampler


def make_anchors(n=3000, seed=0):
    rng = np.random.default_rng(seed)
    return pd.DataFrame(
        {
            "experiment": rng.choice(list("abc"), n, p=[0.6, 0.3, 0.1]),
            "condition": rng.choice(["infected", "mock"], n, p=[0.3, 0.7]),
            "hours_post_infection": rng.integers(0, 20, n) * 0.5,
        }
    )


def draw_epochs(sampler, n_epochs):
    sampler.set_epoch(0)
    return [list(sampler) for _ in range(n_epochs)]


def test_an_epoch_has_as_many_batches_as_stated():
    sampler = FlexibleBatchSampler(make_anchors(), batch_size=32, epoch_batches=7, drop_last=False)
    assert len(sampler) == sampler.planned().n_batches == 7
    assert [len(batch) for batch in sampler] == [32] * 7
    assert [len(batch) for batch in sampler] == [32] * 7


@pytest.mark.parametrize("epoch_batches", [1, 4, 30, 93, 200])
@pytest.mark.parametrize("condition_balanced", [True, False])
def test_the_epochs_of_a_round_draw_a_stratum_without_replacement(epoch_batches, condition_balanced):
    anchors = make_anchors()
    sampler = FlexibleBatchSampler(
        anchors, batch_size=32, epoch_batches=epoch_batches, condition_balanced=condition_balanced
    )
    n_epochs = -(-(len(anchors) // 32) // epoch_batches)
    batches = itertools.chain.from_iterable(draw_epochs(sampler, n_epochs))
    drawn = np.bincount(np.concatenate([*batches]), minlength=len(anchors))
    by = ["experiment", "condition"] if condition_balanced else ["experiment"]
    for counts in pd.Series(drawn).groupby([anchors[column] for column in by]):
        assert np.ptp(counts[1]) <= 1


def test_a_table_is_covered_in_as_many_epochs_as_one_pass_takes():
    anchors = make_anchors(3200)
    options = {"batch_size": 32, "experiment_aware": False, "condition_balanced": False}
    sampler = FlexibleBatchSampler(anchors, **options, epoch_batches=10)
    assert len({row for epoch in draw_epochs(sampler, 10) for batch in epoch for row in batch}) == 3200
    plain = FlexibleBatchSampler(anchors, **options)
    # the first tenth of ten unrelated shuffles
    seen = len({row for epoch in draw_epochs(plain, 10) for batch in epoch[:10] for row in batch})
    assert 0.6 < seen / 3200 < 0.7


@settings(deadline=None, max_examples=20)
@given(st.integers(1, 60), st.integers(0, 5))
def test_groups_have_their_share_of_every_epoch_and_of_every_round(epoch_batches, seed):
    anchors = make_anchors(1500)
    sampler = FlexibleBatchSampler(anchors, batch_size=30, epoch_batches=epoch_batches, seed=seed)
    n_epochs = -(-50 // epoch_batches)
    group = anchors["experiment"].to_numpy()
    counts = np.array(
        [
            [sum(group[batch[0]] == label for batch in epoch) for label in "abc"]
            for epoch in draw_epochs(sampler, 2 * n_epochs)
        ]
    )
    share = sampler.planned().group_shares.to_numpy()
    assert (np.abs(counts - epoch_batches * share) < 1).all()
    for one_round in (counts[:n_epochs], counts[n_epochs:]):
        assert (np.abs(one_round.sum(axis=0) - n_epochs * epoch_batches * share) < 1).all()


def test_rounds_differ():
    sampler = FlexibleBatchSampler(make_anchors(320), batch_size=32, epoch_batches=5)
    first, second = (draw_epochs(sampler, 4)[i : i + 2] for i in (0, 2))
    rows = [[sorted(batch) for epoch in one_round for batch in epoch] for one_round in (first, second)]
    assert not any(batch in rows[1] for batch in rows[0])


def test_batches_that_complete_a_step_belong_to_no_epoch_of_the_round():
    sampler = FlexibleBatchSampler(make_anchors(), batch_size=32, epoch_batches=10)
    epochs = draw_epochs(sampler, 10)
    beyond = [sampler.batch(10 + k, epoch=epoch) for epoch in range(10) for k in range(12)]
    rows = [frozenset(batch) for batch in itertools.chain(*epochs, beyond)]
    assert len(set(rows)) == len(rows)


def test_ranks_share_the_batches_of_a_short_epoch():
    options = {"batch_size": 32, "epoch_batches": 7}
    whole = FlexibleBatchSampler(make_anchors(), **options)
    ranks = [FlexibleBatchSampler(make_anchors(), **options, num_replicas=3, rank=rank) for rank in range(3)]
    for epoch in range(3):
        steps = list(zip(*ranks, strict=True))
        assert len(steps) == 3
        assert [batch for step in steps for batch in step] == [whole.batch(k, epoch=epoch) for k in range(9)]


def test_a_state_of_a_short_epoch_resumes():
    options = {"batch_size": 32, "epoch_batches": 7}
    sampler = FlexibleBatchSampler(make_anchors(), **options)
    list(sampler)
    batches = iter(sampler)
    drawn = [next(batches) for _ in range(4)]
    resumed = FlexibleBatchSampler(make_anchors(), **options)
    resumed.load_state_dict(sampler.state_dict())
    assert drawn + list(resumed) == [sampler.batch(k, epoch=1) for k in range(7)]


@pytest.mark.parametrize(
    ("value", "error"),
    [(0, ValueError), (-1, ValueError), (2**30 + 1, ValueError), (2.5, TypeError), (True, TypeError)],
)
def test_the_number_of_batches_must_be_a_positive_integer(value, error):
    with pytest.raises(error, match="epoch_batches must be"):
        FlexibleBatchSampler(make_anchors(), batch_size=32, epoch_batches=value)


def test_an_epoch_may_be_very_long():
    sampler = FlexibleBatchSampler(make_anchors(), batch_size=32, epoch_batches=2**30)
    assert len(sampler) == 2**30
    for k in (0, 12345, 2**29, 2**30 - 1, 2**31):
        assert len(set(sampler.batch(k))) == 32


def test_a_batch_larger_than_the_table_is_an_error():
    with pytest.raises(ValueError, match="batch_size must be at most the number of anchors with epoch_batches"):
        FlexibleBatchSampler(make_anchors(20), batch_size=32, epoch_batches=2, drop_last=False)
