"""A sampler that is resumed on other ranks, or asked for single batches, and each way of doing that wrong."""

import numpy as np
import pytest

from viscy_sampling_testkit import assert_replays, assert_resumes_elastically

N_BATCHES = 11


class GlobalSampler:
    """A right sampler: its state is a position in the sequence of a single process."""

    def __init__(self, rank=0, num_replicas=1):
        self.rank, self.num_replicas, self.position = rank, num_replicas, 0

    def batch(self, k):
        return np.random.default_rng([3, k]).integers(1000, size=4).tolist()

    def __iter__(self):
        for first in range(self.position, N_BATCHES, self.num_replicas):
            self.position = first + self.num_replicas
            yield self.batch(first + self.rank)

    def state_dict(self):
        return {"position": self.position}

    def load_state_dict(self, state):
        self.position = state["position"]


class CountsItsOwn(GlobalSampler):
    """Its state is the number of its own batches, which means another place on other ranks."""

    def state_dict(self):
        return {"position": self.position // self.num_replicas}

    def load_state_dict(self, state):
        self.position = state["position"] * self.num_replicas


class ForgetsAShift(GlobalSampler):
    """What batch k is depends on how often it was asked."""

    asked = 0

    def batch(self, k):
        self.asked += 1
        return super().batch(k + (self.asked > N_BATCHES))


class MovesOn(GlobalSampler):
    """Asked for a batch, it goes there."""

    def batch(self, k):
        self.position = max(self.position, k)
        return super().batch(k)


def fails(*lines):
    """Return a context in which an assertion must fail with each of these lines in its message."""
    return pytest.raises(AssertionError, match="(?s)" + ".*".join(lines))


@pytest.mark.parametrize("ranks", [(1, 1), (1, 3), (2, 1), (3, 2), (4, 7)])
def test_a_position_in_the_whole_sequence_resumes_on_any_ranks(ranks):
    for n_steps in range((N_BATCHES - 1) // ranks[0] + 1):
        assert_resumes_elastically(GlobalSampler, *ranks, n_steps)


def test_a_position_of_the_ranks_own_is_found_on_other_ranks():
    assert_resumes_elastically(CountsItsOwn, 2, 2, 3)
    with fails("3 steps on 2 ranks and the rest on 3 must be", "observed: ", "expected: ", "offending batch: 6"):
        assert_resumes_elastically(CountsItsOwn, 2, 3, 3)


def test_a_step_more_than_the_epoch_has_is_found():
    class OneStepMore(GlobalSampler):
        def __iter__(self):
            yield from super().__iter__()
            yield self.batch(N_BATCHES + self.rank)

    with fails("no more than fill the last step", "expected: 11 batches", "fewer than 2 more", "offending batch: 12"):
        assert_resumes_elastically(lambda r, n: (OneStepMore if n > 1 else GlobalSampler)(r, n), 1, 2, 3)


def test_a_stop_at_the_end_leaves_nothing_to_compare():
    with pytest.raises(ValueError, match=r"n_steps must be in \[0, 5\], so that batches are left, got 6"):
        assert_resumes_elastically(GlobalSampler, 2, 1, 6)


def test_batches_that_are_functions_of_their_number_replay():
    assert_replays(GlobalSampler)
    assert_replays(GlobalSampler, [0, 7])
    assert_replays(GlobalSampler, batch=lambda sampler, k: tuple(sampler.batch(k)))


@pytest.mark.parametrize(
    ("sampler", "lines"),
    [
        (ForgetsAShift, ["batch 0 asked for by its number", "when asked the second time", "first offending batch: 0"]),
        (MovesOn, ["the sequence must not change when batches are asked for", "first offending batch: 0"]),
    ],
)
def test_batches_that_depend_on_what_was_asked_are_found(sampler, lines):
    with fails(*lines):
        assert_replays(sampler)


def test_a_number_outside_the_epoch_is_refused():
    with pytest.raises(ValueError, match=r"positions must be in \[0, 11\), the batches of an epoch, got \[3, 11\]"):
        assert_replays(GlobalSampler, [11, 3])
