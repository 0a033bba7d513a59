"""Each assertion about ranks and resuming accepts a correct sampler and rejects one with the corresponding mistake."""

import random
from typing import ClassVar

import numpy as np
import pytest
import torch

from viscy_sampling_testkit import (
    assert_chooses_epochs,
    assert_complete_ranks,
    assert_deterministic,
    assert_digest,
    assert_disjoint_ranks,
    assert_equal_steps,
    assert_length,
    assert_ranks_interleave,
    assert_resumes,
    assert_same_batches,
    digest_of,
    interleave,
    simulate_ranks,
)

SEEDS = range(20)
N_BATCHES = 7


class ShuffledSampler:
    """A correct sampler: shuffled batches on every rank, resumable in mid-epoch."""

    def __init__(self, rank=0, num_replicas=1, seed=0):
        self.rank, self.num_replicas, self.seed = rank, num_replicas, seed
        self.epoch, self.step = 0, 0

    def batches(self, epoch):
        order = np.random.default_rng([self.seed, epoch]).permutation(4 * N_BATCHES)
        return order.reshape(N_BATCHES, 4).tolist()[self.rank :: self.num_replicas]

    def __len__(self):
        return len(self.batches(0))

    def __iter__(self):
        epoch, start = self.epoch, self.step
        for step, batch in enumerate(self.batches(epoch)[start:], start + 1):
            self.epoch, self.step = divmod(epoch * len(self) + step, len(self))
            yield batch

    def state_dict(self):
        return {"epoch": self.epoch, "step": self.step}

    def load_state_dict(self, state):
        self.epoch, self.step = state["epoch"], state["step"]


class RestartsEpoch(ShuffledSampler):
    """Loads the epoch but not the step."""

    def load_state_dict(self, state):
        self.epoch = state["epoch"]


class StaysAtTheEnd(ShuffledSampler):
    """A state saved at the end of an epoch resumes as an epoch without batches."""

    def state_dict(self):
        return {"epoch": self.epoch - 1, "step": len(self)} if self.epoch and not self.step else super().state_dict()


class LiveState(ShuffledSampler):
    """Its state changes after it was saved."""

    def __iter__(self):
        self.state = {}
        for batch in super().__iter__():
            self.state.update(super().state_dict())
            yield batch

    def state_dict(self):
        return self.state


class RepeatsEpoch(ShuffledSampler):
    """Yields a resumed epoch again and again."""

    loaded_epoch = None

    def load_state_dict(self, state):
        super().load_state_dict(state)
        self.loaded_epoch = state["epoch"]

    def batches(self, epoch):
        return super().batches(epoch if self.loaded_epoch is None else self.loaded_epoch)


def global_batches(seed=0):
    return ShuffledSampler(seed=seed).batches(0)


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("num_replicas", [1, 2, 3, 7])
def test_ranks_that_share_a_sequence_pass(seed, num_replicas):
    ranks = simulate_ranks(lambda rank, n: ShuffledSampler(rank, n, seed), num_replicas)
    assert_ranks_interleave(ranks, global_batches(seed))
    assert_disjoint_ranks(ranks)
    assert_same_batches(interleave(ranks), global_batches(seed))


@pytest.mark.parametrize("batches", [[], [[1, 2]]])
def test_equal_sequences_pass(batches):
    assert_same_batches(batches, [tuple(batch) for batch in batches])


def test_first_difference_is_named(assertion_fails):
    with assertion_fails(
        r"observed: \[3, 4\]", r"expected: \[4, 3\]", "2 batches observed, 2 expected", "offending batch: 1"
    ):
        assert_same_batches([[1, 2], [3, 4]], [[1, 2], [4, 3]])
    with assertion_fails(
        r"observed: no batch", r"expected: \[3\]", "1 batches observed, 2 expected", "offending batch: 1"
    ):
        assert_same_batches([[1]], [[1], [3]])
    with assertion_fails(r"observed: \[3\]", "expected: no batch"):
        assert_same_batches([[1], [3]], [[1]])


def test_ranks_with_the_same_number_of_batches_pass():
    assert_equal_steps([[[1], [2]], [[3], [4]]])
    assert_equal_steps([[], []])


def test_rank_with_fewer_batches_fails(assertion_fails):
    ranks = simulate_ranks(ShuffledSampler, 2)
    with assertion_fails(
        r"same number", r"observed: \[4, 3\] batches on ranks 0 to 1", "expected: 4", "n: 7", "batch: 3"
    ):
        assert_equal_steps(ranks)
    with assertion_fails("no ranks", "at least 1 rank"):
        assert_equal_steps([])


def test_ranks_can_continue_after_the_global_sequence():
    ranks = simulate_ranks(ShuffledSampler, 2)
    ranks[1].append([0, 1, 2, 3])
    assert_equal_steps(ranks)
    assert_ranks_interleave(ranks, global_batches())


def test_rank_that_stops_before_the_end_fails(assertion_fails):
    ranks = simulate_ranks(ShuffledSampler, 2)
    ranks[0].pop()
    with assertion_fails("batch 3 of rank 0 of 2 must be batch 6 of", "no batch", r"\[3, 3\] on the ranks", "batch: 6"):
        assert_ranks_interleave(ranks, global_batches())


def test_contiguous_blocks_of_the_sequence_do_not_interleave(assertion_fails):
    with assertion_fails(
        "batch 0 of rank 1 of 2 must be batch 1 of", "n: 7 batches in the global", "offending batch: 1"
    ):
        assert_ranks_interleave([global_batches()[:4], global_batches()[4:]], global_batches())


def test_ranks_that_draw_independently_share_anchors(assertion_fails):
    ranks = [ShuffledSampler(seed=rank).batches(0) for rank in range(3)]
    with assertion_fails(
        r"observed: position 0 on ranks 0 and 1; 28 anchors shared", "n: 21 batches", "first offending batch: "
    ):
        assert_disjoint_ranks(ranks)


def test_anchor_repeated_on_one_rank_is_not_shared(assertion_fails):
    assert_disjoint_ranks([[[1, 2], [1, 2]], [[3]], []])
    with assertion_fails("position 3 on ranks 1 and 2; 1 anchors", "first offending batch: 1"):
        assert_disjoint_ranks([[[1, 2]], [[3]], [[4], [5, 3]]])


@pytest.mark.parametrize("n_drawn", range(N_BATCHES + 1))
def test_sampler_that_resumes_passes(n_drawn):
    for seed in SEEDS:
        assert_resumes(lambda seed=seed: ShuffledSampler(seed=seed), n_drawn)


@pytest.mark.parametrize(
    ("sampler", "n_drawn", "lines"),
    [
        (RestartsEpoch, 3, ["before and after a stop at 3", "10 batches observed, 7 expected", "batch: 3"]),
        (StaysAtTheEnd, 7, ["end of an epoch must resume with the next epoch", "observed: no batch", "batch: 0"]),
        (LiveState, 3, ["before and after a stop at 3", "6 batches observed, 7 expected", "batch: 3"]),
        (RepeatsEpoch, 3, ["the epoch after the resumed one must be the next", "first offending batch: 0"]),
        (RepeatsEpoch, 7, ["the second epoch after resuming must follow", "first offending batch: 0"]),
    ],
)
def test_sampler_that_resumes_wrongly_fails(sampler, n_drawn, lines, assertion_fails):
    with assertion_fails(*lines):
        assert_resumes(sampler, n_drawn)


@pytest.mark.parametrize("n_drawn", [-1, N_BATCHES + 1])
def test_stop_outside_the_epoch_raises(n_drawn):
    with pytest.raises(ValueError, match=r"n_drawn must be in \[0, 7\], the batches of an epoch, got"):
        assert_resumes(ShuffledSampler, n_drawn)


@pytest.mark.parametrize("num_replicas", [1, 2, 3])
def test_ranks_that_contain_every_anchor_pass(num_replicas):
    ranks = simulate_ranks(ShuffledSampler, num_replicas)
    assert_complete_ranks(ranks, 4 * N_BATCHES)
    assert_complete_ranks(ranks, 4 * N_BATCHES + 3, left_out=3)


def test_ranks_that_leave_anchors_out_fail(assertion_fails):
    ranks = simulate_ranks(ShuffledSampler, 2)
    missing = sorted(ranks[1].pop())
    with assertion_fails(
        f"observed: 4 of 28 anchors on no rank, such as .{missing[0]}, {missing[1]}", "at most 3", "n: 6 bat"
    ):
        assert_complete_ranks(ranks, 4 * N_BATCHES, left_out=3)
    with pytest.raises(ValueError, match="left_out must be at least 0 anchors, got -1"):
        assert_complete_ranks(ranks, 28, left_out=-1)


@pytest.mark.parametrize("seed", SEEDS)
def test_seeded_sampler_is_deterministic(seed):
    assert_deterministic(lambda: ShuffledSampler(seed=seed))


@pytest.mark.parametrize(
    "draw",
    [
        lambda: random.randrange(10**6),
        lambda: int(np.random.randint(10**6)),  # noqa: NPY002
        lambda: int(torch.randint(10**6, ())),
    ],
    ids=["random", "numpy", "torch"],
)
def test_sampler_that_draws_from_a_global_generator_fails(draw, assertion_fails):
    with assertion_fails(
        "same arguments must yield the same batches\n", "observed: ", "n: 6 batches observed, 6 expected"
    ):
        assert_deterministic(lambda: [[draw()] for _ in range(3)])


def test_samplers_that_share_a_state_fail(assertion_fails):
    class SharesCursor(ShuffledSampler):
        cursor: ClassVar = [0]

        def __iter__(self):
            self.cursor[0] = 0
            for _ in range(N_BATCHES):
                self.cursor[0] += 1
                yield self.batches(0)[self.cursor[0] % N_BATCHES]

    with assertion_fails("the same batches when iterated alternately", "first offending batch: 2"):
        assert_deterministic(SharesCursor)


def test_global_states_are_restored():
    before = random.getstate(), np.random.get_state()[1].tolist(), torch.get_rng_state().tolist()  # noqa: NPY002
    assert_deterministic(ShuffledSampler)
    assert before == (random.getstate(), np.random.get_state()[1].tolist(), torch.get_rng_state().tolist())  # noqa: NPY002


def test_recorded_digest_must_match_bit_for_bit(assertion_fails):
    assert_digest(global_batches(), digest_of([tuple(np.array(batch)) for batch in global_batches()]))
    swapped = [batch[::-1] for batch in global_batches()]
    with assertion_fails(
        "match the recorded ones bit for bit",
        f"digest {digest_of(swapped)}",
        f"expected: digest {digest_of(global_batches())}",
    ):
        assert_digest(swapped, digest_of(global_batches()))
    with assertion_fails("n: 6 batches"):
        assert_digest(global_batches()[1:], digest_of(global_batches()))
    with assertion_fails("n: 0 batches"):
        assert_digest([], digest_of(global_batches()))


class ChoosesEpochs(ShuffledSampler):
    """A sampler whose epoch can be set."""

    def set_epoch(self, epoch):
        self.epoch, self.step = epoch, 0


def test_sampler_returns_to_an_epoch_that_is_set():
    assert_chooses_epochs(ChoosesEpochs)
    assert_chooses_epochs(ChoosesEpochs, (3, 0, 2))


def test_sampler_that_adds_to_the_epoch_that_is_set_fails(assertion_fails):
    class AddsToEpoch(ChoosesEpochs):
        def set_epoch(self, epoch):
            super().set_epoch(self.epoch + epoch)

    with assertion_fails(
        r"set_epoch\(1\) must give the same epoch, regardless", "observed: ", "first offending batch: 0"
    ):
        assert_chooses_epochs(AddsToEpoch)


def test_length_that_is_not_the_number_of_batches_fails(assertion_fails):
    assert_length(ShuffledSampler())
    assert_length([])

    class CountsAllRanks(ShuffledSampler):
        def __len__(self):
            return N_BATCHES

    with assertion_fails("the length must be", "observed: length 7", "expected: length 4", "n: 4 batches", "batch: 4"):
        assert_length(CountsAllRanks(0, 2))
