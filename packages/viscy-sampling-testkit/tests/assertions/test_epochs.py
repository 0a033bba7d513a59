"""Iterators draw the epoch that they should, with and without `set_epoch`."""

import pytest

from viscy_sampling_testkit import assert_epoch_of_first_draw, assert_epochs_advance, assert_set_epoch_keeps_state
from viscy_sampling_testkit.mutants import _epochs as epochs
from viscy_sampling_testkit.mutants import _states as states
from viscy_sampling_testkit.mutants.catalog import CLAIMS
from viscy_sampling_testkit.mutants.reference import ReferenceSampler

CLAIM = CLAIMS["short"]


def make(sampler=ReferenceSampler):
    return lambda: CLAIM.make(sampler, 0, 1)


def test_reference_passes():
    assert_epochs_advance(make())
    assert_epoch_of_first_draw(make())
    assert_set_epoch_keeps_state(make())


@pytest.mark.parametrize(
    ("assertion", "sampler", "rule"),
    [
        (assert_epochs_advance, epochs.EpochStays, "iteration 1 of a new sampler must draw epoch 1"),
        (assert_epochs_advance, epochs.EpochsSkip, "iteration 1 of a new sampler must draw epoch 1"),
        (assert_epochs_advance, epochs.AbandonedEpochContinues, "iteration after an abandoned one must draw the next"),
        (assert_epochs_advance, epochs.IteratorsShareCursor, "iterator 0 of two that are drawn from alternately"),
        (assert_epoch_of_first_draw, epochs.EpochFixedAtIter, "must draw the epoch that was set before its first"),
        (assert_set_epoch_keeps_state, epochs.SetEpochRestarts, r"set_epoch\(1\) after loading a state of epoch 1"),
        (assert_set_epoch_keeps_state, epochs.SetEpochContinues, r"set_epoch\(2\) after loading a state of epoch 1"),
        (assert_set_epoch_keeps_state, states.StateIgnoresSetEpoch, r"a state saved after set_epoch\(2\)"),
    ],
)
def test_another_epoch_fails(assertion, sampler, rule, assertion_fails):
    with assertion_fails(rule, "observed: ", "expected: "):
        assertion(make(sampler))
