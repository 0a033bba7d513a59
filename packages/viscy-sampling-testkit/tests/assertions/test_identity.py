"""Batches stay as they are, copies equal their original, and drawing leaves the global generators alone."""

import random

import numpy as np
import pytest
import torch

from viscy_sampling_testkit import assert_batches_stay, assert_copies, assert_leaves_no_trace
from viscy_sampling_testkit.mutants import _states as states
from viscy_sampling_testkit.mutants.catalog import CLAIMS
from viscy_sampling_testkit.mutants.reference import ReferenceSampler

CLAIM = CLAIMS["short"]


def make(sampler=ReferenceSampler):
    return lambda: CLAIM.make(sampler, 0, 1, seed=3)


def test_batches_of_the_reference_stay_and_its_copies_are_where_it_is():
    assert_batches_stay(make())
    assert_copies(make())
    assert_leaves_no_trace(make())


def test_tuples_and_random_batches_stay():
    rng = np.random.default_rng(0)
    assert_batches_stay(lambda: [(0, 1), (2, 3)])
    assert_batches_stay(lambda: iter(rng.permutation(40).reshape(-1, 4).tolist()))


@pytest.mark.parametrize(
    ("sampler", "rule"),
    [
        (states.OneListForAll, "a batch must not change after it was yielded"),
        (states.TwoListsInTurn, "a batch must not change after it was yielded"),
        (states.CachesBatches, "changing a requested batch must not change others"),
    ],
)
def test_batch_that_changes_fails(sampler, rule, assertion_fails):
    with assertion_fails(rule, "first offending batch: "):
        assert_batches_stay(make(sampler))


def test_buffer_that_is_read_again_fails(assertion_fails):
    class ReadsItsBatches:
        def __iter__(self):
            batch = [1, 2]
            for _ in range(3):
                yield batch
                batch = [row + 1 for row in batch]

    with assertion_fails("changing a batch must not change the batches after it", r"observed: \[1, 1\]"):
        assert_batches_stay(ReadsItsBatches)


@pytest.mark.parametrize(
    ("sampler", "rule"),
    [
        (states.CopyStartsAgain, "a copy by deepcopy of a sampler after an epoch must be where it is"),
        (states.CopySharesCursor, "drawing from a copy by deepcopy must not change the original"),
        (states.CopyForgetsSeed, "a copy by deepcopy of a sampler that is new must be where it is"),
        (states.CannotBePickled, "it must be possible to copy a sampler by pickle"),
    ],
)
def test_copy_that_differs_fails(sampler, rule, assertion_fails):
    with assertion_fails(rule):
        assert_copies(make(sampler))


def test_sampler_of_a_local_class_is_copied_by_deepcopy_only():
    class Local(ReferenceSampler):
        pass

    assert_copies(make(Local))


@pytest.mark.parametrize(
    ("name", "draw"),
    [
        ("random", random.random),
        ("NumPy", lambda: np.random.random()),  # noqa: NPY002
        ("torch", lambda: torch.rand(1)),
        ("NumPy", lambda: np.random.seed(0)),  # noqa: NPY002
    ],
)
def test_generator_that_is_used_fails_and_is_restored(name, draw, assertion_fails):
    def draws():
        draw()
        yield [0, 1]

    before = random.getstate(), torch.get_rng_state()
    with assertion_fails("must not change the global random generators", f"another state of {name}"):
        assert_leaves_no_trace(draws)
    assert random.getstate() == before[0]
    assert torch.equal(torch.get_rng_state(), before[1])
