"""The last step is completed with fresh batches, which can be requested by index; repeated ones fail."""

import pytest

from viscy_sampling_testkit import assert_fresh_padding, assert_replays_beyond, assert_replays_epochs
from viscy_sampling_testkit.mutants import _epochs as epochs
from viscy_sampling_testkit.mutants.catalog import CLAIMS
from viscy_sampling_testkit.mutants.reference import ReferenceSampler

CLAIM = CLAIMS["shuffled"]
EPOCH = [[0, 1], [2, 3], [4, 5]]


def make(sampler=ReferenceSampler):
    return lambda: CLAIM.make(sampler, 0, 1)


@pytest.mark.parametrize("padding", [[1, 0], [5, 4]])
def test_padding_that_repeats_a_batch_fails(padding, assertion_fails):
    ranks = [[EPOCH[0], EPOCH[2]], [EPOCH[1], padding]]
    with assertion_fails("completed with fresh batches", "batch 3 of the sequence repeats a batch of the epoch"):
        assert_fresh_padding(ranks, EPOCH)
    assert_fresh_padding(ranks, EPOCH, ordered=True)


def test_padding_that_repeats_itself_or_another_epoch_or_differs_fails(assertion_fails):
    ranks = [[EPOCH[k], *([[0, 5]] if k else [])] for k in range(3)]
    with assertion_fails("repeats batch 3"):
        assert_fresh_padding([[EPOCH[0], [6, 7]], [EPOCH[1], [6, 7]], [EPOCH[2], [6, 7]]], EPOCH)
    with assertion_fails("repeats a batch of another epoch"):
        assert_fresh_padding(ranks[:2], EPOCH[:2], [[0, 5]])
    with assertion_fails("2 ranks must have the batches that other numbers of ranks have"):
        assert_fresh_padding(ranks[:2], EPOCH[:2], expected=[[1, 4]])


def test_reference_replays_beyond_the_end_and_in_any_epoch():
    sampler = make()()
    padding = [sampler.batch(sampler.total + i) for i in range(3)]
    assert_replays_beyond(make(), padding, sampler.total)
    assert_replays_epochs(make())


@pytest.mark.parametrize("sampler", [epochs.ReplayStartsAgainBeyondTheEnd, epochs.SequenceRepeats])
def test_sequence_that_repeats_fails(sampler, assertion_fails):
    with assertion_fails("must be fresh", r"batch \d+ repeats batch \d+"):
        assert_replays_beyond(make(sampler), [], make()().total)


def test_batch_beyond_the_end_that_differs_fails(assertion_fails):
    with assertion_fails("batches after the end of an epoch must be those that ranks draw"):
        assert_replays_beyond(make(), [[0, 1]], make()().total)


@pytest.mark.parametrize(
    ("sampler", "rule"),
    [
        (epochs.ReplayIgnoresEpoch, r"batch\(0, epoch=1\) must be that batch"),
        (epochs.ReplayDependsOnIteration, r"batch\(0, epoch=0\) must be that batch, also while"),
        (epochs.ReplayDisturbsIteration, "requests must not change what an iterator draws"),
    ],
)
def test_replay_of_another_batch_fails(sampler, rule, assertion_fails):
    with assertion_fails(rule):
        assert_replays_epochs(make(sampler))
