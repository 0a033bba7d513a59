"""A law of whole sequences: what the batches of several ranks, epochs or runs have to do with each other."""

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


def assert_complete_ranks(ranks: Sequence[Batches], n_anchors: int, left_out: int = 0) -> None:
    """Assert that all ranks together show every anchor of the table, but for some that may be left out.

    For samplers that promise a whole epoch: of ``drop_last`` the anchors that do not fill a batch are left out.

    Parameters
    ----------
    ranks : sequence of sequence of sequence of int
        The batches of each rank in one epoch.
    n_anchors : int
        Number of rows of the table.
    left_out : int, default 0
        Most anchors that may come on no rank.

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
            "all ranks together must show every anchor",
            observed=f"{len(missing)} of {n_anchors} anchors on no rank, such as {missing[:5]}",
            expected=f"each anchor on one of {len(ranks)} ranks",
            bound=f"at most {left_out} anchors left out",
            n=f"{sum(map(len, ranks))} batches",
        )


def assert_deterministic(make_sampler: Callable[[], Iterable[Sequence[int]]], n_epochs: int = 2) -> None:
    """Assert that samplers made alike yield the same batches, whatever else happens in the process.

    Each is drawn with other global states of the generators of `random`, NumPy and torch, which are put back
    afterwards. The third and the fourth sampler are drawn in turns, batch by batch, so that a state which samplers
    share is found out.

    Parameters
    ----------
    make_sampler : callable
        Returns a new sampler of the same table and options each time.
    n_epochs : int, default 2
        Number of times that each sampler is iterated.

    Raises
    ------
    AssertionError
        If a batch differs.
    """
    with _global_states() as stir:
        stir(1)
        first = _epochs(make_sampler(), n_epochs)
        stir(2)
        second = _epochs(make_sampler(), n_epochs)
        fail_where_different("samplers made alike must yield the same batches", second, first)
        third, fourth = make_sampler(), make_sampler()
        pairs = [pair for _ in range(n_epochs) for pair in zip(third, fourth, strict=False) if stir(3) is None]
    in_turns = "samplers made alike must yield the same batches when drawn in turns"
    fail_where_different(in_turns, [list(a) for a, _ in pairs], first)
    fail_where_different(in_turns, [list(b) for _, b in pairs], first)


def assert_length(sampler: Any) -> None:
    """Assert that the length of a sampler is the number of batches that it yields.

    Parameters
    ----------
    sampler : sized iterable
        Iterated once, after it was asked for its length.

    Raises
    ------
    AssertionError
        If it yields more batches, or fewer.
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
    """Assert that ``set_epoch`` alone decides which epoch comes next, whatever was drawn before, and each time anew.

    Parameters
    ----------
    make_sampler : callable
        Returns a new sampler, with ``set_epoch``, of the same table and options each time.
    epochs : sequence of int, default (0, 1)
        The epochs that are chosen, each after all others.

    Raises
    ------
    AssertionError
        If an epoch is another one the second time.
    """
    expected = [_chosen(make_sampler(), epoch) for epoch in epochs]
    sampler = make_sampler()
    for _ in range(2):
        for epoch, batches in zip(epochs, expected, strict=True):
            rule = f"set_epoch({epoch}) must give the same epoch, whatever was drawn before"
            fail_where_different(rule, _chosen(sampler, epoch), batches)


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
    """Assert that batches are, bit for bit, those of a recorded digest.

    Parameters
    ----------
    batches : sequence of sequence of int
        Shape (n_batches, batch_size).
    expected : str
        What `digest_of` returned for them when they were recorded.

    Raises
    ------
    AssertionError
        If the digest is another one.
    """
    observed = digest_of(batches)
    if observed != expected:
        fail(
            "batches must be those that were recorded, bit for bit",
            observed=f"digest {observed}, batch 0 is {list(batches[0])}" if batches else f"digest {observed}",
            expected=f"digest {expected}",
            n=f"{len(batches)} batches",
        )


def _chosen(sampler: Any, epoch: int) -> list[list[int]]:
    sampler.set_epoch(epoch)
    return _epochs(sampler, 1)


def _epochs(sampler: Iterable[Sequence[int]], n_epochs: int) -> list[list[int]]:
    """Return the batches of several epochs, one after another."""
    return [list(batch) for _ in range(n_epochs) for batch in sampler]


@contextmanager
def _global_states() -> Generator[Callable[[int], None]]:
    """Hand out a function that seeds all global generators; put their states back at the end."""
    # The global state of NumPy is what is tested here.
    before = random.getstate(), np.random.get_state(), torch.get_rng_state()  # noqa: NPY002

    def stir(seed: int) -> None:
        random.seed(seed)
        np.random.seed(seed)  # noqa: NPY002
        torch.manual_seed(seed)

    try:
        yield stir
    finally:
        random.setstate(before[0])
        np.random.set_state(before[1])  # noqa: NPY002
        torch.set_rng_state(before[2])
