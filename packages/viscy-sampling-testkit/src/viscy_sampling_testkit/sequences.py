"""A law of whole sequences: what the batches of several ranks, epochs or runs have to do with each other."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from itertools import chain, islice
from typing import Any

import numpy as np

from viscy_sampling_testkit._report import fail
from viscy_sampling_testkit._slots import Batches


def assert_same_batches(a: Batches, b: Batches) -> None:
    """Assert that two sequences hold the same batches, in the same order, slot for slot.

    Parameters
    ----------
    a, b : sequence of sequence of int
        Shapes (n_batches, batch_size).

    Raises
    ------
    AssertionError
        If they differ; the message names the first batch and slot that do.
    """
    _same("the two sequences must be the same", list(a), list(b))


def assert_equal_steps(ranks: Sequence[Batches]) -> None:
    """Assert that all ranks have the same number of batches; otherwise collective operations hang.

    Parameters
    ----------
    ranks : sequence of sequence of sequence of int
        The batches of each rank, as `simulate_ranks` returns them.

    Raises
    ------
    AssertionError
        If the numbers differ.
    """
    steps = [len(batches) for batches in ranks]
    if len(set(steps)) != 1:
        fail(
            "all ranks must have equally many batches",
            observed=f"{steps} batches on ranks 0 to {len(ranks) - 1}" if ranks else "no ranks",
            expected=f"{max(steps)} on each" if ranks else "at least 1 rank",
            n=f"{sum(steps)} batches",
            first_offending_batch=min(steps) if ranks else None,
        )


def assert_ranks_interleave(ranks: Sequence[Batches], whole: Batches) -> None:
    """Assert that rank r of R has batches r, r + R, r + 2R, ... of the sequence of a single process.

    They are compared as far as `whole` goes, and it must be covered: ranks may go on after its end (to have equally
    many batches) but may not stop before it.

    Parameters
    ----------
    ranks : sequence of sequence of sequence of int
        The batches of each rank.
    whole : sequence of sequence of int
        The batches of a single process.

    Raises
    ------
    AssertionError
        If a batch differs or is missing.
    """
    for k, batch in enumerate(whole):
        step, rank = divmod(k, len(ranks))
        got = list(ranks[rank][step]) if step < len(ranks[rank]) else None
        if got != list(batch):
            fail(
                f"rank {rank} of {len(ranks)} must have batch {k} of the whole sequence as its batch {step}",
                observed="no batch" if got is None else got,
                expected=list(batch),
                n=f"{len(whole)} batches of the whole, {[len(own) for own in ranks]} on the ranks",
                first_offending_batch=k,
            )


def assert_disjoint_ranks(ranks: Sequence[Batches]) -> None:
    """Assert that no anchor comes on two ranks.

    Only for samplers that promise it: within one epoch, each anchor once. Leak slots, oversampling, and batches beyond
    the end of the epoch break the promise by design.

    Parameters
    ----------
    ranks : sequence of sequence of sequence of int
        The batches of each rank.

    Raises
    ------
    AssertionError
        If an anchor is shared.
    """
    flat = [np.fromiter(chain.from_iterable(batches), np.int64) for batches in ranks]
    owners = np.repeat(np.arange(len(flat)), [len(own) for own in flat])
    positions = np.concatenate([*flat, np.empty(0, np.int64)])
    pairs = np.unique(np.stack([positions, owners]), axis=1)
    twice = np.flatnonzero(pairs[0, 1:] == pairs[0, :-1])
    if twice.size:
        position, first, second = pairs[0, twice[0]], pairs[1, twice[0]], pairs[1, twice[0] + 1]
        fail(
            "no anchor may come on two ranks",
            observed=f"position {position} on ranks {first} and {second}; {len(set(pairs[0, twice]))} anchors shared",
            expected="each anchor on one rank",
            n=f"{sum(len(batches) for batches in ranks)} batches",
            first_offending_batch=next(k for k, batch in enumerate(ranks[second]) if position in batch),
        )


def assert_resumes(make_sampler: Callable[[], Any], n_drawn: int) -> None:
    """Assert that a sampler stopped after some batches is continued by a fresh one that loads its state.

    The two together must equal an uninterrupted epoch, and what follows must be what follows an uninterrupted one. A
    state taken after the last batch must yield the next epoch in full. The first sampler draws one more batch before
    its state is copied, so that a state that changes with its sampler is found out.

    Parameters
    ----------
    make_sampler : callable
        Returns a new sampler, with ``state_dict`` and ``load_state_dict``, of the same table and options each time.
    n_drawn : int
        Number of batches before the stop, from 0 to the length of the epoch.

    Raises
    ------
    AssertionError
        If a batch differs, is missing, or comes twice.
    ValueError
        If `n_drawn` is outside its range.
    """
    uninterrupted = make_sampler()
    epoch, following, third = (_batches(uninterrupted) for _ in range(3))
    if not 0 <= n_drawn <= len(epoch):
        raise ValueError(f"n_drawn must be in [0, {len(epoch)}], the batches of an epoch, got {n_drawn!r}")
    stopped = make_sampler()
    drawing = iter(stopped)
    drawn = [list(batch) for batch in islice(drawing, n_drawn)]
    state = stopped.state_dict()
    next(drawing, None)
    resumed = make_sampler()
    resumed.load_state_dict(copy.deepcopy(state))
    rest = _batches(resumed)
    if n_drawn == len(epoch):
        _same("a state of the epoch's end must resume with the next epoch", rest, following)
        _same("the epoch after the resumed one must follow", _batches(resumed), third)
    else:
        _same(f"batches drawn before and after a stop at {n_drawn} must be the epoch's", drawn + rest, epoch)
        _same("the epoch after the resumed one must be the next", _batches(resumed), following)


def _batches(sampler: Any) -> list[list[int]]:
    return [list(batch) for batch in sampler]


def _same(rule: str, observed: Sequence[Sequence[int]], expected: Sequence[Sequence[int]]) -> None:
    """Fail at the first batch in which two sequences differ, or at the end of the shorter one."""
    pairs = enumerate(zip(observed, expected, strict=False))
    k = next((k for k, (a, b) in pairs if list(a) != list(b)), min(len(observed), len(expected)))
    if k == len(observed) == len(expected):
        return
    fail(
        rule,
        observed=list(observed[k]) if k < len(observed) else "no batch",
        expected=list(expected[k]) if k < len(expected) else "no batch",
        n=f"{len(observed)} batches observed, {len(expected)} expected",
        first_offending_batch=k,
    )
