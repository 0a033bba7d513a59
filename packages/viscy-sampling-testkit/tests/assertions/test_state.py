"""Samplers that resume on other numbers of ranks and give access to single batches, and mistakes in doing so."""

import numpy as np
import pytest

from viscy_sampling_testkit import assert_length_stays, assert_replays, assert_resumes_elastically

N_BATCHES = 11


class GlobalSampler:
    """A correct sampler: its state is a position in the global sequence."""

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


class CountsOwnSteps(GlobalSampler):
    """Its state is the number of its own steps, which means another batch on another number of ranks."""

    def state_dict(self):
        return {"position": self.position // self.num_replicas}

    def load_state_dict(self, state):
        self.position = state["position"] * self.num_replicas


class CountsRequests(GlobalSampler):
    """Batch k depends on the number of earlier requests."""

    n_requests = 0

    def batch(self, k):
        self.n_requests += 1
        return super().batch(k if self.n_requests <= N_BATCHES else k + 1)


class MovesCursor(GlobalSampler):
    """Requesting a batch moves the cursor to it."""

    def batch(self, k):
        self.position = max(self.position, k)
        return super().batch(k)


@pytest.mark.parametrize("ranks", [(1, 1), (1, 3), (2, 1), (3, 2), (4, 7)])
def test_position_in_the_global_sequence_resumes_on_any_number_of_ranks(ranks):
    for n_steps in range((N_BATCHES - 1) // ranks[0] + 1):
        assert_resumes_elastically(GlobalSampler, *ranks, n_steps)


def test_number_of_own_steps_fails_on_another_number_of_ranks(assertion_fails):
    assert_resumes_elastically(CountsOwnSteps, 2, 2, 3)
    with assertion_fails(
        "3 steps on 2 ranks and the rest on 3 must be", "observed: ", "expected: ", "offending batch: 6"
    ):
        assert_resumes_elastically(CountsOwnSteps, 2, 3, 3)


def test_one_step_too_many_fails(assertion_fails):
    class OneStepMore(GlobalSampler):
        def __iter__(self):
            yield from super().__iter__()
            yield self.batch(N_BATCHES + self.rank)

    with assertion_fails(
        "no more than fill the last step", "expected: 11 batches", "fewer than 2 more", "offending batch: 12"
    ):
        assert_resumes_elastically(lambda r, n: (OneStepMore if n > 1 else GlobalSampler)(r, n), 1, 2, 3)


def test_stop_at_the_end_of_the_epoch_raises():
    with pytest.raises(ValueError, match=r"n_steps must be in \[0, 5\], so that batches remain, got 6"):
        assert_resumes_elastically(GlobalSampler, 2, 1, 6)


def test_batches_that_are_functions_of_their_index_pass():
    assert_replays(GlobalSampler)
    assert_replays(GlobalSampler, [0, 7])
    assert_replays(GlobalSampler, batch=lambda sampler, k: tuple(sampler.batch(k)))


@pytest.mark.parametrize(
    ("sampler", "lines"),
    [
        (CountsRequests, ["batch 0 requested by index", "at the second request", "first offending batch: 0"]),
        (MovesCursor, ["requesting batches by index must not change the sequence", "first offending batch: 0"]),
    ],
)
def test_batches_that_depend_on_earlier_requests_fail(sampler, lines, assertion_fails):
    with assertion_fails(*lines):
        assert_replays(sampler)


def test_index_outside_the_epoch_raises():
    with pytest.raises(ValueError, match=r"positions must be in \[0, 11\), the batches of an epoch, got \[3, 11\]"):
        assert_replays(GlobalSampler, [11, 3])


def test_length_that_counts_the_rest_fails(assertion_fails):
    class Sized(GlobalSampler):
        def __len__(self):
            return N_BATCHES

    class Rest(GlobalSampler):
        def __len__(self):
            return N_BATCHES - self.position

    assert_length_stays(Sized)
    with assertion_fails("length of a sampler must not change", "10 after a state was loaded", "11 at all times"):
        assert_length_stays(Rest)
