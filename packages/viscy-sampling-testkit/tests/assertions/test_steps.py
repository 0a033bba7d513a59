"""The slices of a step are one batch, whatever the number of ranks, and do not betray their ranks."""

import numpy as np
import pytest

from viscy_sampling_testkit import assert_slices_alike, assert_slices_join, assert_split_resumes, join_slices

LABELS = ["a"] * 40 + ["b"] * 40


def make_slices(seed, num_replicas, arrange=list, n_batches=300):
    """Return the slices of each rank of batches of eight rows."""
    rng = np.random.default_rng(seed)
    batches = [arrange(rng.permutation(80)[:8].tolist()) for _ in range(n_batches)]
    size = 8 // num_replicas
    return [[batch[rank * size : (rank + 1) * size] for batch in batches] for rank in range(num_replicas)], batches


@pytest.mark.parametrize("num_replicas", [1, 2, 4, 8])
def test_slices_of_batches_join(num_replicas):
    ranks, batches = make_slices(0, num_replicas)
    assert join_slices(ranks) == batches
    assert_slices_join(ranks[::-1], batches)


@pytest.mark.parametrize(
    ("ranks", "patterns"),
    [
        ([[[0, 1]], [[1, 2]]], ["must be the batch that a single process has", r"observed: \[0, 1, 1, 2\]"]),
        ([[[0, 1, 2]], [[3]]], ["equally many slots", r"\[3, 1\] slots", "2 on each", "batch: 0"]),
        ([[[0, 1], [4, 5]], [[2, 3]]], ["a slice of every batch", r"\[2, 1\] slices", "1 on each"]),
    ],
)
def test_slices_that_do_not_make_up_a_batch_fail(ranks, patterns, assertion_fails):
    with assertion_fails(*patterns):
        assert_slices_join(ranks, [[0, 1, 2, 3]])


@pytest.mark.parametrize("seed", range(20))
def test_slices_in_random_order_are_alike(seed):
    assert_slices_alike(make_slices(seed, 4)[0], LABELS, seed=seed)


def test_slices_that_are_sorted_betray_their_rank(assertion_fails):
    with assertion_fails("must not betray its rank", "labels deviate most on rank [03] of 4", "chi-square"):
        assert_slices_alike(make_slices(0, 4, sorted)[0], LABELS)


def test_slices_need_two_ranks():
    with pytest.raises(ValueError, match="at least 2 ranks to compare, got 1"):
        assert_slices_alike(make_slices(0, 1)[0], LABELS)


class Split:
    """Four batches of four rows; a state counts `unit` for each step."""

    def __init__(self, rank, num_replicas, unit=1):
        self.part = slice(rank * 4 // num_replicas, (rank + 1) * 4 // num_replicas)
        self.position, self.unit = 0, unit

    def __iter__(self):
        while self.position < 4:
            self.position += 1
            yield [4 * self.position + i for i in range(4)][self.part]

    def state_dict(self):
        return {"position": self.position * self.unit}

    def load_state_dict(self, state):
        self.position = state["position"]


def test_split_run_resumes_on_other_numbers_of_ranks(assertion_fails):
    assert_split_resumes(Split, 2, 4, 1)
    with assertion_fails("1 steps on 2 ranks and the rest on 4", "state of rank 0", r"observed: \[12, 13, 14, 15\]"):
        assert_split_resumes(lambda rank, n: Split(rank, n, unit=2), 2, 4, 1)
