"""Steps: what all ranks draw at once, if each of them has its own slice of one batch."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from itertools import islice
from typing import Any

import numpy as np

from viscy_sampling_testkit.assertions._failure import check_false_alarm, fail, fail_where_different
from viscy_sampling_testkit.assertions._slots import Batches, Labels, codes_by_slot
from viscy_sampling_testkit.assertions.statistical import _judge_slot_ranges


def join_slices(ranks: Sequence[Batches]) -> list[list[int]]:
    """Return the batch of each step: the slices of all ranks, one after another.

    Parameters
    ----------
    ranks : sequence of sequence of sequence of int
        The slices of each rank, as `simulate_ranks` returns them.

    Returns
    -------
    list of list of int
        One batch for each step, as far as all ranks have one.

    Examples
    --------
    >>> join_slices([[[0, 1], [4, 5]], [[2, 3], [6, 7]]])
    [[0, 1, 2, 3], [4, 5, 6, 7]]
    """
    return [[row for part in step for row in part] for step in zip(*ranks, strict=False)]


def assert_slices_join(ranks: Sequence[Batches], batches: Batches) -> None:
    """Assert that the slices of a step are disjoint equal parts of one batch, the same for any number of ranks.

    Parameters
    ----------
    ranks : sequence of sequence of sequence of int
        The slices of each rank, as `simulate_ranks` returns them.
    batches : sequence of sequence of int
        The batches of a single process. The order of their slots is not compared.

    Raises
    ------
    AssertionError
        If ranks have another number of steps than a single process has batches, slices differ in their number of slots,
        or the slices of a step do not hold the rows of its batch, each as often.

    Examples
    --------
    >>> assert_slices_join([[[0, 1]], [[2, 3]]], [[3, 2, 1, 0]])
    """
    steps = [len(slices) for slices in ranks]
    if set(steps) != {len(batches)}:
        fail(
            "each rank must have a slice of every batch",
            observed=f"{steps} slices on ranks 0 to {len(ranks) - 1}",
            expected=f"{len(batches)} on each",
            n=f"{len(batches)} batches of a single process",
        )
    for k, (batch, step) in enumerate(zip(batches, zip(*ranks, strict=True), strict=True)):
        sizes = [len(part) for part in step]
        if len(set(sizes)) != 1:
            fail(
                "all ranks must have equally many slots of a batch",
                observed=f"{sizes} slots on ranks 0 to {len(ranks) - 1}",
                expected=f"{len(batch) / len(ranks):g} on each",
                n=f"{len(batches)} batches",
                first_offending_batch=k,
            )
    rule = f"the slices of a step on {len(ranks)} ranks must be the batch that a single process has"
    fail_where_different(rule, [sorted(batch) for batch in join_slices(ranks)], [sorted(batch) for batch in batches])


def assert_slices_alike(
    ranks: Sequence[Batches], labels: Labels, *, false_alarm: float = 1e-6, seed: int | None = None
) -> None:
    """Assert that a slice does not betray its rank: labels are as frequent on each rank.

    The labels of all steps on each rank are compared with those of the whole batches, given the labels of each batch
    (chi-square, nearly exact for some hundreds of batches). It has power against a label that prefers a rank, such as a
    condition, the leak, or rows of even number.

    Parameters
    ----------
    ranks : sequence of sequence of sequence of int
        The slices of each rank, all of the same size.
    labels : sequence, array, Series or DataFrame
        The label of each row, shape (n_anchors,).
    false_alarm : float, default 1e-6
        Largest probability, up to the approximation, that a sampler that satisfies the law fails.
    seed : int, optional
        Seed of the sampler, for the failure message.

    Raises
    ------
    AssertionError
        If a label is too frequent or too rare on a rank.
    ValueError
        If there are fewer than 2 ranks, labels vary too little within the batches, or `false_alarm` is outside (0, 1).

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> batches = [rng.permutation(40)[:8].tolist() for _ in range(200)]
    >>> assert_slices_alike([[batch[:4] for batch in batches], [batch[4:] for batch in batches]], [0] * 20 + [1] * 20)
    """
    check_false_alarm(false_alarm)
    if len(ranks) < 2:
        raise ValueError(f"there must be at least 2 ranks to compare, got {len(ranks)}")
    slot_codes, names = codes_by_slot(join_slices(ranks), labels)
    size = slot_codes.shape[1]
    _judge_slot_ranges(
        "a slice must not betray its rank by a label",
        slot_codes,
        len(names),
        np.arange(size) * len(ranks) // size,
        false_alarm,
        observed=lambda worst: f"labels deviate most on rank {worst} of {len(ranks)}",
        expected="the label fractions of the batch on each rank",
        seed=seed,
    )


def assert_split_resumes(
    make_sampler: Callable[[int, int], Any], num_replicas: int, resumed_replicas: int, n_steps: int
) -> None:
    """Assert that a run with one batch a step, stopped on one number of ranks, resumes on another one.

    Parameters
    ----------
    make_sampler : callable
        Called as ``make_sampler(rank, num_replicas)``; returns a new sampler with ``state_dict`` and
        ``load_state_dict``, which yields slices.
    num_replicas, resumed_replicas : int
        Numbers of ranks of the stopped and of the resumed run.
    n_steps : int
        Steps before the stop.

    Raises
    ------
    AssertionError
        If a batch differs, is missing, or is repeated, or the state depends on the rank that saves it.
    """
    epoch = [sorted(batch) for batch in make_sampler(0, 1)]
    stopped = [make_sampler(rank, num_replicas) for rank in range(num_replicas)]
    used = join_slices([[list(part) for part in islice(iter(sampler), n_steps)] for sampler in stopped])
    for rank, stopped_rank in {0: stopped[0], num_replicas - 1: stopped[-1]}.items():
        resumed = [make_sampler(r, resumed_replicas) for r in range(resumed_replicas)]
        for sampler in resumed:
            sampler.load_state_dict(copy.deepcopy(stopped_rank.state_dict()))
        rest = join_slices([[list(part) for part in sampler] for sampler in resumed])
        rule = f"{n_steps} steps on {num_replicas} ranks and the rest on {resumed_replicas} must be the epoch's batches"
        fail_where_different(f"{rule} (state of rank {rank})", [sorted(batch) for batch in used + rest], epoch)
