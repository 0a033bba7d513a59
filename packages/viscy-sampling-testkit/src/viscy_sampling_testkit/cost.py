"""Cost: what a rank does and holds to yield its batches, counted and not timed."""

from __future__ import annotations

import sys
import tracemalloc
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from viscy_sampling_testkit._report import fail

# What an iterator and its batch take anyway, in bytes; differences below it say nothing.
_FEW_BYTES = 64 * 1024


def assert_rank_cost(
    make_sampler: Callable[[int, int], Iterable[Sequence[int]]], num_replicas: int = 8, *, factor: float = 3.0
) -> None:
    """Assert that a batch costs a rank of many about what it costs a single process: it builds its own batches only.

    Counted are calls of functions, of Python and of C, for one epoch, per batch of the rank's own; and the most bytes
    that an epoch holds at once. Counts do not depend on the load of the machine. What is done once for an epoch weighs
    more where a rank has few batches, so give an epoch of some tens of batches. A rank that builds the batches of all
    makes `num_replicas` times the calls, and is found if `factor` is well below that. What is done inside one call,
    however much, counts as one; what the making of a sampler takes is not counted.

    Parameters
    ----------
    make_sampler : callable
        Called as ``make_sampler(rank, num_replicas)``; returns the sampler of that rank.
    num_replicas : int, default 8
        Number of ranks of which the first is compared with a single process.
    factor : float, default 3.0
        Largest ratio allowed, of calls for a batch and of bytes.

    Raises
    ------
    AssertionError
        If the rank makes more calls for a batch, or holds more bytes.
    ValueError
        If `num_replicas` is not larger than `factor`, or there are too few batches for all ranks.
    """
    if not 1 <= factor < num_replicas:
        raise ValueError(f"num_replicas must be larger than the factor, {factor:g}, got {num_replicas!r}")
    # The first epochs also do what is done once in a process.
    n_alone, n_own = _exhaust(make_sampler(0, 1)), _exhaust(make_sampler(0, num_replicas))
    if n_alone < 2 * num_replicas or n_own == 0:
        raise ValueError(
            f"there must be 2 batches or more for each of {num_replicas} ranks, got {n_alone} in all; give more rows"
        )
    for what, measured, a_batch, slack in (
        ("function calls for a batch", _calls, True, 0),
        ("bytes held at once", _peak_bytes, False, _FEW_BYTES),
    ):
        expected = measured(make_sampler(0, 1)) / (n_alone if a_batch else 1)
        observed = measured(make_sampler(0, num_replicas)) / (n_own if a_batch else 1)
        if observed > factor * expected + slack:
            fail(
                f"a rank of {num_replicas} must not cost more {what} than a single process",
                observed=f"{observed:.4g} {what}",
                expected=f"{expected:.4g} {what}",
                bound=f"{factor:g} times as many" + (f" and {slack}" if slack else ""),
                n=f"{n_own} batches of rank 0 of {num_replicas}, {n_alone} of a single process",
            )


def _exhaust(sampler: Iterable[Sequence[int]]) -> int:
    return sum(1 for _ in sampler)


def _calls(sampler: Iterable[Sequence[int]]) -> int:
    """Return how many functions, of Python or C, one epoch calls."""
    counted = 0

    def count(_frame: Any, event: str, _argument: Any) -> None:
        nonlocal counted
        counted += event in ("call", "c_call")

    before = sys.getprofile()
    sys.setprofile(count)
    try:
        _exhaust(sampler)
    finally:
        sys.setprofile(before)
    return counted


def _peak_bytes(sampler: Iterable[Sequence[int]]) -> int:
    """Return the most bytes that one epoch holds at once, beyond what was there before."""
    traced_before = tracemalloc.is_tracing()
    if not traced_before:
        tracemalloc.start()
    try:
        tracemalloc.reset_peak()
        held = tracemalloc.get_traced_memory()[0]
        _exhaust(sampler)
        return tracemalloc.get_traced_memory()[1] - held
    finally:
        if not traced_before:
            tracemalloc.stop()
