"""Cost: what a rank does and holds to yield its batches, counted and not timed."""

from __future__ import annotations

import sys
import tracemalloc
from collections.abc import Callable, Iterable, Sequence
from itertools import islice
from typing import Any

from viscy_sampling_testkit.assertions._failure import fail

# What an iterator and its batch take anyway, in bytes; differences below it say nothing.
_FEW_BYTES = 64 * 1024
# Most that the epoch of a rank may cost of that of a single process; the rest is left for what each rank must do once.
_PART_OF_EPOCH = 0.85


def assert_rank_cost(
    make_sampler: Callable[[int, int], Iterable[Sequence[int]]], num_replicas: int = 8, *, factor: float = 3.0
) -> None:
    """Assert that a rank of many builds its own batches only: what others have costs it nothing.

    Counted are calls of functions, of Python and of C, and the most bytes that an epoch holds at once; counts do not
    depend on the load of the machine. Three of them are bounded, so that each way to build too much is found:

    - the calls for all batches of the rank, against those for as many first batches of a single process: a rank that
      builds what it passes over makes `num_replicas` times as many;
    - the calls for its epoch, against 0.85 of those for the whole epoch: a rank that builds all batches ahead makes
      nearly as many;
    - the bytes that its epoch holds, against those that the whole epoch does.

    What is done once for an epoch weighs much where that is short: give an epoch of some tens of batches. What is done
    inside one call, however much, counts as one, and what the making of a sampler takes is not counted.

    Parameters
    ----------
    make_sampler : callable
        Called as ``make_sampler(rank, num_replicas)``; returns the sampler of that rank.
    num_replicas : int, default 8
        Number of ranks of which the first is compared with a single process.
    factor : float, default 3.0
        Largest ratio allowed, of calls for the same number of batches and of bytes.

    Raises
    ------
    AssertionError
        If the rank makes more calls, or holds more bytes.
    ValueError
        If `num_replicas` is not larger than `factor`, or there are too few batches for all ranks.
    """
    if not 1 <= factor < num_replicas:
        raise ValueError(f"num_replicas must be larger than the factor, {factor:g}, got {num_replicas!r}")
    # The first epochs also do what is done once in a process.
    n_alone, n_own = (sum(1 for _ in make_sampler(0, n)) for n in (1, num_replicas))
    if n_alone < 2 * num_replicas or n_own == 0:
        raise ValueError(
            f"there must be 2 batches or more for each of {num_replicas} ranks, got {n_alone} in all; give more rows"
        )
    own_calls = _calls(make_sampler(0, num_replicas))
    as_many, all_calls = _calls(make_sampler(0, 1), n_own), _calls(make_sampler(0, 1))
    own_bytes, all_bytes = _peak_bytes(make_sampler(0, num_replicas)), _peak_bytes(make_sampler(0, 1))
    batches = f"{n_own} batches" if n_own > 1 else "its batch"
    for what, observed, expected, most, bound in (
        (f"function calls for {batches}", own_calls, as_many, factor * as_many, f"{factor:g} times as many"),
        ("function calls for its epoch", own_calls, all_calls, _PART_OF_EPOCH * all_calls, f"{_PART_OF_EPOCH} of that"),
        ("bytes", own_bytes, all_bytes, factor * all_bytes + _FEW_BYTES, f"{factor:g} times as many and {_FEW_BYTES}"),
    ):
        if observed > most:
            fail(
                "a rank must build its own batches only",
                observed=f"{observed} {what}",
                expected=f"{expected} in a single process",
                bound=bound,
                n=f"{n_own} batches of rank 0 of {num_replicas}, {n_alone} of a single process",
            )


def _calls(sampler: Iterable[Sequence[int]], n_batches: int | None = None) -> int:
    """Return how many functions, of Python or C, are called for the first batches of an epoch, or for all."""
    counted = 0

    def count(_frame: Any, event: str, _argument: Any) -> None:
        nonlocal counted
        counted += event in ("call", "c_call")

    before = sys.getprofile()
    sys.setprofile(count)
    try:
        for _ in islice(sampler, n_batches):
            pass
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
        for _ in sampler:
            pass
        return tracemalloc.get_traced_memory()[1] - held
    finally:
        if not traced_before:
            tracemalloc.stop()
