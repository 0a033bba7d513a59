"""A law of sequences: how the batches of several ranks, epochs or runs relate to each other."""

from __future__ import annotations

import hashlib
import json
import random
from collections.abc import Callable, Generator, Iterable, Sequence
from contextlib import contextmanager
from itertools import chain
from typing import Any

import numpy as np
import torch

from viscy_sampling_testkit.assertions._failure import fail, fail_where_different
from viscy_sampling_testkit.assertions._slots import Batches


def assert_same_batches(a: Batches, b: Batches) -> None:
    """Assert that two sequences have the same batches in the same order, slot for slot.

    Parameters
    ----------
    a, b : sequence of sequence of int
        Shapes (n_batches, batch_size).

    Raises
    ------
    AssertionError
        If they differ; the message gives the first different batch.
    """
    fail_where_different("the two sequences must be the same", list(a), list(b))


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
            "all ranks must have the same number of batches",
            observed=f"{steps} batches on ranks 0 to {len(ranks) - 1}" if ranks else "no ranks",
            expected=f"{max(steps)} on each" if ranks else "at least 1 rank",
            n=f"{sum(steps)} batches",
            first_offending_batch=min(steps) if ranks else None,
        )


def assert_ranks_interleave(ranks: Sequence[Batches], global_batches: Batches) -> None:
    """Assert that rank r of R has batches r, r + R, r + 2R, ... of the global sequence.

    The ranks must cover all of `global_batches`. They may continue beyond its end, to have the same number of batches.

    Parameters
    ----------
    ranks : sequence of sequence of sequence of int
        The batches of each rank.
    global_batches : sequence of sequence of int
        The global sequence: the batches of a single process.

    Raises
    ------
    AssertionError
        If a batch differs or is missing.
    """
    for k, batch in enumerate(global_batches):
        step, rank = divmod(k, len(ranks))
        got = list(ranks[rank][step]) if step < len(ranks[rank]) else None
        if got != list(batch):
            fail(
                f"batch {step} of rank {rank} of {len(ranks)} must be batch {k} of the global sequence",
                observed="no batch" if got is None else got,
                expected=list(batch),
                n=f"{len(global_batches)} batches in the global sequence, {[len(own) for own in ranks]} on the ranks",
                first_offending_batch=k,
            )


def assert_disjoint_ranks(ranks: Sequence[Batches]) -> None:
    """Assert that no anchor occurs on two ranks.

    Only for samplers that claim it: within one epoch, each anchor occurs once. Leak slots, oversampling, and batches
    beyond the end of the epoch repeat anchors by design.

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
            "an anchor must not occur on two ranks",
            observed=f"position {position} on ranks {first} and {second}; {len(set(pairs[0, twice]))} anchors shared",
            expected="each anchor on one rank",
            n=f"{sum(len(batches) for batches in ranks)} batches",
            first_offending_batch=next(k for k, batch in enumerate(ranks[second]) if position in batch),
        )


def assert_complete_ranks(ranks: Sequence[Batches], n_anchors: int, left_out: int = 0) -> None:
    """Assert that all ranks together contain every anchor of the table, except for some that may be left out.

    For samplers that claim a complete epoch; ``drop_last`` leaves out the anchors that do not fill a batch.

    Parameters
    ----------
    ranks : sequence of sequence of sequence of int
        The batches of each rank in one epoch.
    n_anchors : int
        Number of rows of the table.
    left_out : int, default 0
        Largest number of anchors that may be on no rank.

    Raises
    ------
    AssertionError
        If more anchors are left out.
    ValueError
        If `left_out` is negative.
    """
    if left_out < 0:
        raise ValueError(f"left_out must be at least 0 anchors, got {left_out!r}")
    shown = set(chain.from_iterable(chain.from_iterable(ranks)))
    missing = [position for position in range(n_anchors) if position not in shown]
    if len(missing) > left_out:
        fail(
            "all ranks together must contain every anchor",
            observed=f"{len(missing)} of {n_anchors} anchors on no rank, such as {missing[:5]}",
            expected=f"each anchor on one of {len(ranks)} ranks",
            bound=f"at most {left_out} anchors left out",
            n=f"{sum(map(len, ranks))} batches",
        )


def assert_deterministic(make_sampler: Callable[[], Iterable[Sequence[int]]], n_epochs: int = 2) -> None:
    """Assert that samplers with the same arguments yield the same batches, whatever else happens in the process.

    Each sampler runs with different global states of the generators of `random`, NumPy and torch, which are restored
    afterwards. A third and a fourth sampler are iterated alternately, batch by batch, which exposes state that samplers
    share.

    Parameters
    ----------
    make_sampler : callable
        Returns a new sampler with the same table and options each time.
    n_epochs : int, default 2
        Number of epochs to draw from each sampler.

    Raises
    ------
    AssertionError
        If a batch differs.
    """
    with preserved_global_states():
        seed_global_generators(1)
        first = _draw_epochs(make_sampler(), n_epochs)
        seed_global_generators(2)
        second = _draw_epochs(make_sampler(), n_epochs)
        fail_where_different("samplers with the same arguments must yield the same batches", second, first)
        third, fourth = make_sampler(), make_sampler()
        pairs = []
        for _ in range(n_epochs):
            for pair in zip(third, fourth, strict=False):
                seed_global_generators(3)
                pairs.append(pair)
    rule = "samplers with the same arguments must yield the same batches when iterated alternately"
    fail_where_different(rule, [list(a) for a, _ in pairs], first)
    fail_where_different(rule, [list(b) for _, b in pairs], first)


def assert_length(sampler: Any) -> None:
    """Assert that the length of a sampler is the number of batches that it yields.

    Parameters
    ----------
    sampler : sized iterable
        Iterated once, after its length was read.

    Raises
    ------
    AssertionError
        If it yields more or fewer batches.
    """
    length, n_batches = len(sampler), sum(1 for _ in sampler)
    if length != n_batches:
        fail(
            "the length must be the number of batches",
            observed=f"length {length}",
            expected=f"length {n_batches}",
            n=f"{n_batches} batches",
            first_offending_batch=min(length, n_batches),
        )


def assert_chooses_epochs(make_sampler: Callable[[], Any], epochs: Sequence[int] = (0, 1)) -> None:
    """Assert that ``set_epoch`` alone determines the next epoch, regardless of the epochs drawn before.

    Parameters
    ----------
    make_sampler : callable
        Returns a new sampler with ``set_epoch``, with the same table and options each time.
    epochs : sequence of int, default (0, 1)
        The epochs to choose, each of them twice.

    Raises
    ------
    AssertionError
        If an epoch differs from that of a new sampler.
    """
    expected = [_draw_chosen_epoch(make_sampler(), epoch) for epoch in epochs]
    sampler = make_sampler()
    for _ in range(2):
        for epoch, batches in zip(epochs, expected, strict=True):
            rule = f"set_epoch({epoch}) must give the same epoch, regardless of the epochs drawn before"
            fail_where_different(rule, _draw_chosen_epoch(sampler, epoch), batches)


def digest_of(batches: Batches) -> str:
    """Return a digest of batches: 16 hexadecimal digits that are the same on every platform.

    Parameters
    ----------
    batches : sequence of sequence of int
        Shape (n_batches, batch_size).

    Returns
    -------
    str
        The start of the SHA-256 of the batches as JSON. Order counts, of batches and of slots.

    Examples
    --------
    >>> digest_of([[0, 1], [2, 3]])
    '72b51f0d1a57e54e'
    """
    plain = [[int(position) for position in batch] for batch in batches]
    return hashlib.sha256(json.dumps(plain).encode()).hexdigest()[:16]


def assert_digest(batches: Batches, expected: str) -> None:
    """Assert that batches match a recorded digest bit for bit.

    Parameters
    ----------
    batches : sequence of sequence of int
        Shape (n_batches, batch_size).
    expected : str
        The recorded result of `digest_of`.

    Raises
    ------
    AssertionError
        If the digest differs.
    """
    observed = digest_of(batches)
    if observed != expected:
        fail(
            "batches must match the recorded ones bit for bit",
            observed=f"digest {observed}, batch 0 is {list(batches[0])}" if batches else f"digest {observed}",
            expected=f"digest {expected}",
            n=f"{len(batches)} batches",
        )


def _draw_chosen_epoch(sampler: Any, epoch: int) -> list[list[int]]:
    sampler.set_epoch(epoch)
    return _draw_epochs(sampler, 1)


def _draw_epochs(sampler: Iterable[Sequence[int]], n_epochs: int) -> list[list[int]]:
    """Return the batches of several epochs, one after another."""
    return [list(batch) for _ in range(n_epochs) for batch in sampler]


def seed_global_generators(seed: int) -> None:
    """Seed the generators of `random`, NumPy and torch."""
    random.seed(seed)
    # The assertion tests whether samplers depend on NumPy's global state.
    np.random.seed(seed)  # noqa: NPY002
    torch.manual_seed(seed)


@contextmanager
def preserved_global_states() -> Generator[None]:
    """Restore the states of all global generators at the end of the context."""
    before = random.getstate(), np.random.get_state(), torch.get_rng_state()  # noqa: NPY002
    try:
        yield
    finally:
        random.setstate(before[0])
        np.random.set_state(before[1])  # noqa: NPY002
        torch.set_rng_state(before[2])
