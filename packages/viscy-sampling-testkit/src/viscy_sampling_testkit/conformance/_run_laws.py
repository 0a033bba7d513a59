"""Laws of runs: how each promise about ranks, epochs, seeds and state is put to its assertion."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import combinations
from typing import Any

import numpy as np

from viscy_sampling_testkit.assertions._slots import factorize
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
from viscy_sampling_testkit.assertions.state import assert_replays, assert_resumes, assert_resumes_elastically
from viscy_sampling_testkit.assertions.statistical import assert_unrelated
from viscy_sampling_testkit.conformance.trial import Sequences, Trial

# Ranks of the run whose cost is compared with a single process, and the ratio of costs that is allowed.
_RANKS_OF_COST = 8
_FACTOR_OF_COST = 3.0
# With fewer batches even equal sequences may not be told from chance.
_BATCHES_TO_COMPARE = 120


def length(trial: Trial) -> None:
    """Hold every rank's length to the number of its batches."""
    for num_replicas in trial.replicas:
        for rank in range(num_replicas):
            with trial.attempt(ranks=num_replicas, rank=rank):
                assert_length(trial.make(rank, num_replicas, trial.seeds[0]))


def deterministic(trial: Trial) -> None:
    """Hold samplers made alike to the same batches."""
    for num_replicas in trial.replicas[:2]:
        for seed in trial.seeds:
            with trial.attempt(ranks=num_replicas, seed=seed):
                assert_deterministic(lambda n=num_replicas, s=seed: trial.make(n - 1, n, s))


def bit_stability(trial: Trial) -> None:
    """Hold the first epoch to its digest."""
    seed = 0 if trial.promises.seeded else None
    with trial.attempt(ranks=1, seed=seed):
        assert_digest(trial.epoch(seed=seed), trial.promises.digest or "")


def epoch_choice(trial: Trial) -> None:
    """Hold `set_epoch` to give the same epoch each time."""
    for seed in trial.seeds:
        with trial.attempt(ranks=1, seed=seed):
            assert_chooses_epochs(lambda s=seed: trial.make(seed=s), range(trial.n_epochs))


def unrelated_epochs(trial: Trial) -> None:
    """Hold any two epochs of one seed to be unrelated, and every second one to the one before it."""
    n_pairs = _n_epochs_to_compare(trial)
    pairs: list[tuple[Sequence[int], Sequence[int]]] = [([a], [b]) for a, b in combinations(range(trial.n_epochs), 2)]
    pairs.append((range(0, 2 * n_pairs, 2), range(1, 2 * n_pairs, 2)))
    false_alarm = trial.false_alarm / (len(pairs) * len(trial.seeds))
    for seed in trial.seeds:
        for first, second in pairs:
            with trial.attempt(ranks=1, seed=seed, epochs=(_span(first), _span(second))):
                _assert_unrelated(trial, (seed, first), (seed, second), false_alarm)


def unrelated_seeds(trial: Trial) -> None:
    """Hold successive seeds to be unrelated, in the same epochs and in those that make up for the difference."""
    n_epochs = _n_epochs_to_compare(trial)
    pairs: list[tuple[Sequence[int], Sequence[int]]] = [([0], [0]), (range(n_epochs), range(n_epochs))]
    if trial.promises.epochs:
        pairs = [*pairs[:1], ([1], [0]), *pairs[1:], (range(1, n_epochs + 1), range(n_epochs))]
    false_alarm = trial.false_alarm / (len(pairs) * len(trial.setting.seeds))
    for seed in trial.setting.seeds:
        for first, second in pairs:
            with trial.attempt(ranks=1, seeds=(seed, seed + 1), epochs=(_span(first), _span(second))):
                _assert_unrelated(trial, (seed, first), (seed + 1, second), false_alarm)


def equal_steps(trial: Trial) -> None:
    """Hold all ranks to equally many batches."""
    for num_replicas in trial.replicas:
        with trial.attempt(ranks=num_replicas, seed=trial.seeds[0]):
            assert_equal_steps(trial.ranks(num_replicas, trial.seeds[0]))


def ranks_interleave(trial: Trial) -> None:
    """Hold ranks to take turns in the batches of a single process."""
    for num_replicas in trial.replicas:
        for seed in trial.seeds:
            with trial.attempt(ranks=num_replicas, seed=seed):
                assert_ranks_interleave(trial.ranks(num_replicas, seed), trial.epoch(seed=seed))


def ranks_disjoint(trial: Trial) -> None:
    """Hold ranks to share no anchor."""
    for num_replicas in trial.replicas:
        for seed in trial.seeds:
            with trial.attempt(ranks=num_replicas, seed=seed):
                assert_disjoint_ranks(trial.ranks(num_replicas, seed))


def ranks_complete(trial: Trial) -> None:
    """Hold ranks to show every anchor, together."""
    for num_replicas in trial.replicas:
        for seed in trial.seeds:
            with trial.attempt(ranks=num_replicas, seed=seed):
                ranks = trial.ranks(num_replicas, seed)
                assert_complete_ranks(ranks, len(trial.promises.table), trial.promises.left_out)


def rank_cost(trial: Trial) -> None:
    """Hold a rank to build its own batches only."""
    seed = trial.seeds[0]
    # Drawn once under guard: what is counted is the sampler alone.
    trial.epoch(seed=seed)
    trial.epoch(rank=0, num_replicas=_RANKS_OF_COST, seed=seed)
    with trial.attempt(ranks=_RANKS_OF_COST, rank=0, seed=seed):
        assert_rank_cost(lambda rank, n: trial.make_bare(rank, n, seed), _RANKS_OF_COST, factor=_FACTOR_OF_COST)


def resume(trial: Trial) -> None:
    """Hold the last of several ranks, stopped at each position, to go on where it was."""
    for num_replicas in trial.replicas[:2]:
        for seed in trial.seeds:
            steps = len(trial.epoch(rank=num_replicas - 1, num_replicas=num_replicas, seed=seed))
            for stop in trial.setting.positions(steps + 1):
                with trial.attempt(ranks=num_replicas, seed=seed, stop=stop):
                    assert_resumes(lambda n=num_replicas, s=seed: trial.make(n - 1, n, s), stop)


def elastic_resume(trial: Trial) -> None:
    """Hold runs stopped on some ranks to go on, on each other number of ranks."""
    seed = trial.seeds[0]
    n_batches = len(trial.epoch(seed=seed))
    pairs = [(a, b) for a in trial.replicas for b in trial.replicas if a != b]
    for before, after in sorted(pairs, key=sum):
        for stop in trial.setting.positions(-(-n_batches // before))[1:]:
            with trial.attempt(ranks=before, resumed_on=after, seed=seed, stop=stop):
                assert_resumes_elastically(trial.maker(seed), before, after, stop)


def replay(trial: Trial) -> None:
    """Hold batches asked for by number to those of the sequence."""
    for seed in trial.seeds:
        wanted = trial.setting.positions(len(trial.epoch(seed=seed)))
        with trial.attempt(ranks=1, seed=seed):
            assert_replays(lambda s=seed: trial.make(seed=s), wanted)


def _n_epochs_to_compare(trial: Trial) -> int:
    """Return how many epochs have enough batches for what they have in common to be told from chance."""
    if trial.promises.epochs is None:
        return 1
    length = len(trial.epoch(seed=trial.seeds[0]))
    return max(1, math.ceil(_BATCHES_TO_COMPARE / max(1, length)))


def _span(epochs: Sequence[int]) -> int | str:
    """Return a short name of some epochs."""
    return epochs[0] if len(epochs) == 1 else f"{epochs[0]} to {epochs[-1]}"


def _assert_unrelated(
    trial: Trial, first: tuple[int | None, Sequence[int]], second: tuple[int | None, Sequence[int]], false_alarm: float
) -> None:
    """Assert that epochs of a seed, one after another, are unrelated to those of another, and note what is found."""
    a, b = ([batch for epoch in epochs for batch in trial.epoch(epoch, seed=seed)] for seed, epochs in (first, second))
    assert_unrelated(a, b, _pool(trial, a + b), false_alarm=false_alarm, seed=first[0])
    n_batches, size, n_anchors = min(len(a), len(b)), trial.promises.batch_size, len(trial.promises.table)
    share = detectable_share(n_batches, size, n_anchors, false_alarm=false_alarm)
    trial.note = f"finds sequences with {share:.0%} of slots in common" if share <= 1 else "finds equal batches only"


def _pool(trial: Trial, batches: Sequences) -> int:
    """Return the number of rows from which as many batches can be drawn as a batch's parts allow, at the least.

    A batch that takes ``n`` slots from each of some cells is one of ``comb(rows, n)`` for each, multiplied; the number
    returned is the largest of rows of which no more batches can be drawn without restriction.
    """
    promises: Any = trial.promises
    cells, names = factorize(promises.labels("group_by", "condition_by"))
    rows = np.bincount(cells)
    if promises.window_hours is not None:
        hours = np.asarray(promises.labels("time_by"), float)
        rows = np.array([_fewest_in_window(hours[cells == cell], promises.window_hours) for cell in range(len(names))])
    size = promises.batch_size
    taken = [np.bincount(cells[batch], minlength=len(rows)).tolist() for batch in batches]
    ways = min(math.prod(max(1, math.comb(m, n)) for m, n in zip(rows.tolist(), row, strict=True)) for row in taken)
    pool = size
    while math.comb(pool + 1, size) <= ways:
        pool += 1
    return pool


def _fewest_in_window(hours: np.ndarray, window: float) -> int:
    hours = np.sort(hours)
    within = np.searchsorted(hours, hours + window, "right") - np.searchsorted(hours, hours - window, "left")
    return int(within.min())
