"""Laws of runs: how each claim about ranks, epochs, seeds and state is checked with its assertion."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import combinations
from typing import Any

import numpy as np

from viscy_sampling_testkit.assertions._slots import count_within, factorize
from viscy_sampling_testkit.assertions.cost import assert_rank_cost
from viscy_sampling_testkit.assertions.power import detectable_share
from viscy_sampling_testkit.assertions.sequences import (
    assert_chooses_epochs,
    assert_complete_ranks,
    assert_deterministic,
    assert_digest,
    assert_disjoint_ranks,
    assert_equal_steps,
    assert_length,
    assert_ranks_interleave,
)
from viscy_sampling_testkit.assertions.state import (
    assert_length_stays,
    assert_replays,
    assert_resumes,
    assert_resumes_elastically,
)
from viscy_sampling_testkit.assertions.statistical import assert_unrelated
from viscy_sampling_testkit.assertions.steps import assert_split_resumes
from viscy_sampling_testkit.conformance.trial import Sequences, Trial

# Number of ranks whose cost is compared with a single process, and the largest allowed ratio of costs.
_RANKS_OF_COST = 8
_FACTOR_OF_COST = 3.0
# With fewer batches, even equal sequences may not be distinguishable from chance.
_BATCHES_TO_COMPARE = 120


def length(trial: Trial) -> None:
    """Check that the length of every rank is the number of its batches."""
    for num_replicas in trial.replicas:
        for rank in range(num_replicas):
            with trial.example(ranks=num_replicas, rank=rank):
                assert_length(trial.make(rank, num_replicas, trial.seeds[0]))


def length_stays(trial: Trial) -> None:
    """Check that the length does not depend on what was drawn or loaded."""
    for num_replicas in trial.replicas[:2]:
        with trial.example(ranks=num_replicas):
            assert_length_stays(lambda n=num_replicas: trial.make(n - 1, n, trial.seeds[0]))


def deterministic(trial: Trial) -> None:
    """Check that samplers with the same arguments yield the same batches."""
    for num_replicas in trial.replicas[:2]:
        for seed in trial.seeds:
            with trial.example(ranks=num_replicas, seed=seed):
                assert_deterministic(lambda n=num_replicas, s=seed: trial.make(n - 1, n, s))


def bit_stability(trial: Trial) -> None:
    """Check the digest of the first epoch."""
    seed = 0 if trial.promises.seeded else None
    with trial.example(ranks=1, seed=seed):
        assert_digest(trial.epoch(seed=seed), trial.promises.digest or "")


def epoch_choice(trial: Trial) -> None:
    """Check that `set_epoch` gives the same epoch each time."""
    for seed in trial.seeds:
        with trial.example(ranks=1, seed=seed):
            assert_chooses_epochs(lambda s=seed: trial.make(seed=s), range(trial.n_epochs))


def unrelated_epochs(trial: Trial) -> None:
    """Check that any two epochs of a seed are unrelated, and the even epochs together to the odd ones."""
    n_pairs = _n_epochs_to_compare(trial)
    pairs: list[tuple[Sequence[int], Sequence[int]]] = [([a], [b]) for a, b in combinations(range(trial.n_epochs), 2)]
    pairs.append((range(0, 2 * n_pairs, 2), range(1, 2 * n_pairs, 2)))
    false_alarm = trial.false_alarm / (len(pairs) * len(trial.seeds))
    for seed in trial.seeds:
        for first, second in pairs:
            with trial.example(ranks=1, seed=seed, epochs=(_span(first), _span(second))):
                _assert_unrelated(trial, (seed, first), (seed, second), false_alarm)


def unrelated_seeds(trial: Trial) -> None:
    """Check that successive seeds are unrelated, in equal epochs and in epochs that compensate for the difference."""
    n_epochs = _n_epochs_to_compare(trial)
    pairs: list[tuple[Sequence[int], Sequence[int]]] = [([0], [0]), (range(n_epochs), range(n_epochs))]
    if trial.promises.epochs:
        pairs = [*pairs[:1], ([1], [0]), *pairs[1:], (range(1, n_epochs + 1), range(n_epochs))]
    false_alarm = trial.false_alarm / (len(pairs) * len(trial.setting.seeds))
    for seed in trial.setting.seeds:
        for first, second in pairs:
            with trial.example(ranks=1, seeds=(seed, seed + 1), epochs=(_span(first), _span(second))):
                _assert_unrelated(trial, (seed, first), (seed + 1, second), false_alarm)


def equal_steps(trial: Trial) -> None:
    """Check that all ranks have the same number of batches."""
    for num_replicas in trial.replicas:
        with trial.example(ranks=num_replicas, seed=trial.seeds[0]):
            assert_equal_steps(trial.ranks(num_replicas, trial.seeds[0]))


def ranks_interleave(trial: Trial) -> None:
    """Check that ranks interleave the batches of a single process."""
    for num_replicas in trial.replicas:
        for seed in trial.seeds:
            with trial.example(ranks=num_replicas, seed=seed):
                assert_ranks_interleave(trial.ranks(num_replicas, seed), trial.epoch(seed=seed))


def ranks_disjoint(trial: Trial) -> None:
    """Check that no anchor occurs on two ranks."""
    for num_replicas in trial.replicas:
        for seed in trial.seeds:
            with trial.example(ranks=num_replicas, seed=seed):
                assert_disjoint_ranks(trial.ranks(num_replicas, seed))


def ranks_complete(trial: Trial) -> None:
    """Check that all ranks together contain every anchor."""
    for num_replicas in trial.replicas:
        for seed in trial.seeds:
            with trial.example(ranks=num_replicas, seed=seed):
                ranks = trial.ranks(num_replicas, seed)
                assert_complete_ranks(ranks, len(trial.promises.table), trial.promises.left_out)


def rank_cost(trial: Trial) -> None:
    """Check that a rank builds its own batches only."""
    seed = trial.seeds[0]
    # Draw once from guarded samplers, so that exceptions become failures; the cost is counted without the guard.
    trial.epoch(seed=seed)
    trial.epoch(rank=0, num_replicas=_RANKS_OF_COST, seed=seed)
    with trial.example(ranks=_RANKS_OF_COST, rank=0, seed=seed):
        assert_rank_cost(lambda rank, n: trial.make_unguarded(rank, n, seed), _RANKS_OF_COST, factor=_FACTOR_OF_COST)


def resume(trial: Trial) -> None:
    """Check that the last of several ranks resumes after each stop."""
    for num_replicas in trial.replicas[:2]:
        for seed in trial.seeds:
            steps = len(trial.epoch(rank=num_replicas - 1, num_replicas=num_replicas, seed=seed))
            for stop in trial.setting.positions(steps + 1):
                with trial.example(ranks=num_replicas, seed=seed, stop=stop):
                    assert_resumes(lambda n=num_replicas, s=seed: trial.make(n - 1, n, s), stop)


def elastic_resume(trial: Trial) -> None:
    """Check that a run stopped on one number of ranks resumes on every other one."""
    seed, split = trial.seeds[0], trial.promises.ranks == "split"
    assertion = assert_split_resumes if split else assert_resumes_elastically
    n_batches = len(trial.epoch(seed=seed))
    pairs = [(a, b) for a in trial.replicas for b in trial.replicas if a != b]
    for before, after in sorted(pairs, key=sum):
        for stop in trial.setting.positions(n_batches if split else -(-n_batches // before))[1:]:
            with trial.example(ranks=before, resumed_on=after, seed=seed, stop=stop):
                assertion(lambda rank, n: trial.make(rank, n, seed), before, after, stop)


def replay(trial: Trial) -> None:
    """Check that batches requested by index are those of the sequence."""
    for seed in trial.seeds:
        indexes = trial.setting.positions(len(trial.epoch(seed=seed)))
        with trial.example(ranks=1, seed=seed):
            assert_replays(lambda s=seed: trial.make(seed=s), indexes)


def _n_epochs_to_compare(trial: Trial) -> int:
    """Return how many epochs have enough batches to distinguish what they have in common from chance."""
    if trial.promises.epochs is None:
        return 1
    length = len(trial.epoch(seed=trial.seeds[0]))
    return max(1, math.ceil(_BATCHES_TO_COMPARE / max(1, length)))


def _span(epochs: Sequence[int]) -> int | str:
    """Return a short name for a range of epochs."""
    return epochs[0] if len(epochs) == 1 else f"{epochs[0]} to {epochs[-1]}"


def _assert_unrelated(
    trial: Trial, first: tuple[int | None, Sequence[int]], second: tuple[int | None, Sequence[int]], false_alarm: float
) -> None:
    """Assert that epochs of a seed are unrelated to epochs of another seed, and note what the assertion detects."""
    a, b = ([batch for epoch in epochs for batch in trial.epoch(epoch, seed=seed)] for seed, epochs in (first, second))
    assert_unrelated(a, b, smallest_pool(trial, a + b), false_alarm=false_alarm, seed=first[0])
    n_batches, size, n_anchors = min(len(a), len(b)), trial.promises.batch_size, len(trial.promises.table)
    share = detectable_share(n_batches, size, n_anchors, false_alarm=false_alarm)
    trial.note = f"detects sequences with {share:.0%} common slots" if share <= 1 else "detects equal batches only"


def smallest_pool(trial: Trial, batches: Sequences) -> int:
    """Return the size of an unrestricted pool that has at most as many possible batches as the restricted sampler.

    A batch that fills ``n`` slots from a stratum of ``m`` rows is one of ``comb(m, n)`` possible ones, and these
    numbers multiply over strata. With locality, only the choice of complete runs is counted. The result is the largest
    number of rows from which no more batches can be drawn without restriction, for the batch with the fewest
    possibilities.
    """
    promises: Any = trial.promises
    strata, names = factorize(promises.labels("group_by", "condition_by"))
    rows = np.bincount(strata)
    if promises.window_hours is not None:
        hours, window = np.asarray(promises.labels("time_by"), float), promises.window_hours
        in_strata = [hours[strata == stratum] for stratum in range(len(names))]
        rows = np.array([count_within(times, times, window).min() for times in in_strata])
    size, n_together = promises.batch_size, promises.locality or 1
    filled = [np.bincount(strata[batch], minlength=len(rows)).tolist() for batch in batches]
    ways = min(
        math.prod(max(1, _count_ways(m, n, n_together)) for m, n in zip(rows.tolist(), row, strict=True))
        for row in filled
    )
    pool = size
    while math.comb(pool + 1, size) <= ways:
        pool += 1
    return pool


def _count_ways(n_rows: int, n_slots: int, n_together: int) -> int:
    """Return in how many ways at least rows can be drawn for slots, if so many of them are drawn together."""
    return math.comb(n_rows // n_together, min(n_slots, max(1, n_slots // n_together)))
