"""States of long runs resume with the next batch; states that are large, foreign, or lose their place fail."""

import pytest

from viscy_sampling_testkit import (
    assert_direct_access,
    assert_plain_state,
    assert_refuses_state,
    assert_reloads,
    assert_resumes_repeatedly,
)
from viscy_sampling_testkit.mutants import _epochs as epochs
from viscy_sampling_testkit.mutants import _states as states
from viscy_sampling_testkit.mutants.catalog import CLAIMS
from viscy_sampling_testkit.mutants.reference import ReferenceSampler

CLAIM = CLAIMS["shuffled"]


def make(sampler=ReferenceSampler, **options):
    return lambda rank=0, num_replicas=1: CLAIM.make(sampler, rank, num_replicas, **options)


def test_reference_passes():
    assert_reloads(make(), 3)
    assert_resumes_repeatedly(make(), (2, 3, 1))
    assert_plain_state(make())
    assert_refuses_state(make(), [make(seed=1), make(drop_last=False)])
    assert_direct_access(make(), 24, by_index=True, by_state=True)


@pytest.mark.parametrize(
    ("sampler", "rule"),
    [
        (states.SavingDraws, "saving a state must not change the batches"),
        (states.SavingAdvances, "saving a state must not change the batches"),
        (states.StateForgetsEpoch, "a new sampler must resume a state of the third epoch"),
        (states.StateForgetsLateEpoch, "a new sampler must resume a state of epoch 11"),
        (states.LoadsOnlyWhenNew, "a used sampler must resume a state of the third epoch"),
        (states.LoadedStateAliases, "a new sampler must resume a state of the third epoch"),
    ],
)
def test_state_that_is_lost_fails(sampler, rule, assertion_fails):
    with assertion_fails(rule, "first offending batch: "):
        assert_reloads(make(sampler))


def test_state_that_is_lost_in_a_very_late_epoch_fails(assertion_fails):
    assert_reloads(make(states.StateOfOneByte))
    with assertion_fails("a new sampler must resume a state of epoch 1000", "first offending batch: "):
        assert_reloads(make(states.StateOfOneByte), late=(11, 1000), can_choose=True)


@pytest.mark.parametrize("sampler", [states.StateDiffersByRank, states.SecondResumeCountsTwice])
def test_run_that_loses_its_place_fails(sampler, assertion_fails):
    with assertion_fails(r"attempts of one step on \[2, 3\] ranks and the rest on 1 must be the epoch"):
        assert_resumes_repeatedly(make(sampler), (2, 3, 1))


def test_epoch_after_the_resumed_one_that_is_skipped_fails(assertion_fails):
    with assertion_fails("the epoch after the resumed one must be the next"):
        assert_resumes_repeatedly(make(states.NextEpochLostOnOtherRanks), (2, 1))


def test_epoch_that_is_too_short_for_all_attempts_raises():
    with pytest.raises(ValueError, match="an epoch must have more than 30 batches, got 24"):
        assert_resumes_repeatedly(make(), (30, 1))


@pytest.mark.parametrize(
    ("sampler", "rule"),
    [
        (states.StateOfArrays, "dict of plain values"),
        (states.StateGrows, "a state must be small, however many batches"),
    ],
)
def test_state_that_is_not_plain_fails(sampler, rule, assertion_fails):
    with assertion_fails(rule):
        assert_plain_state(make(sampler))


def test_state_of_another_sampler_that_is_accepted_fails(assertion_fails):
    with assertion_fails("another seed must be refused", "no exception, for sampler 0 of 1", "expected: a ValueError"):
        assert_refuses_state(make(states.StateOfAnySeed), [make(states.StateOfAnySeed, seed=1)])

    class Fails(ReferenceSampler):
        def load_state_dict(self, state):
            raise KeyError("seed")

    with assertion_fails("observed: KeyError: 'seed'"):
        assert_refuses_state(make(Fails), [make(seed=1)])


@pytest.mark.parametrize(
    ("sampler", "name"),
    [(epochs.ReplayWalks, r"batch\(k\)"), (states.ResumesByDrawing, r"load_state_dict\(\) and the first batch")],
)
def test_late_batch_that_costs_more_fails(sampler, name, assertion_fails):
    with assertion_fails(f"{name} must cost the same wherever the batch is", "function calls for batch 22"):
        assert_direct_access(make(sampler), 24, by_index=True, by_state=True)
    with pytest.raises(ValueError, match="an epoch must have at least 8 batches, got 5"):
        assert_direct_access(make(), 5, by_index=True, by_state=False)
