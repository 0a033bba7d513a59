"""Cost: the function calls and the memory that a rank needs to yield its batches, counted rather than timed."""

from __future__ import annotations

import sys
import tracemalloc
from collections.abc import Callable, Iterable, Sequence
from itertools import islice
from typing import Any

from viscy_sampling_testkit.assertions._failure import fail

# What any iterator and its batch may occupy, in bytes; smaller differences are ignored.
_FEW_BYTES = 64 * 1024
# Largest cost of a rank's epoch relative to that of a single process; generous, because each rank has setup costs.
_PART_OF_EPOCH = 0.85


def assert_rank_cost(
    make_sampler: Callable[[int, int], Iterable[Sequence[int]]], num_replicas: int = 8, *, factor: float = 3.0
) -> None:
    """Assert that a rank of many builds its own batches only, at no cost for the batches of other ranks.

    The assertion counts calls of Python and C functions, and the peak number of bytes that an epoch holds. Counts do
    not depend on the load of the machine. Three of them are bounded, so that each way to build too much is detected:

    - the calls for all batches of the rank, compared with those for as many batches of a single process: a rank that
      builds the batches that it skips makes `num_replicas` times as many calls;
    - the calls for the rank's epoch, compared with 0.85 of those for the epoch of a single process: a rank that builds
      all batches in advance makes nearly as many calls;
    - the bytes that the rank's epoch holds, compared with those of the epoch of a single process.

    The setup of an epoch dominates if the epoch is short, so use an epoch of several tens of batches. Any amount of
    work inside one call counts as one call, and the construction of the sampler is not counted.

    Parameters
    ----------
    make_sampler : callable
        Called as ``make_sampler(rank, num_replicas)``; returns the sampler of that rank.
    num_replicas : int, default 8
        Number of ranks; rank 0 is compared with a single process.
    factor : float, default 3.0
        Largest allowed ratio of calls for the same number of batches, and of bytes.

    Raises
    ------
    AssertionError
        If the rank makes more calls or holds more bytes.
    ValueError
        If `num_replicas` is not larger than `factor`, or there are too few batches for all ranks.
    """
    if not 1 <= factor < num_replicas:
        raise ValueError(f"num_replicas must be larger than the factor, {factor:g}, got {num_replicas!r}")
    # These first epochs also do the work that happens once per process.
    n_alone, n_own = (sum(1 for _ in make_sampler(0, n)) for n in (1, num_replicas))
    if n_alone < 2 * num_replicas or n_own == 0:
        raise ValueError(
            f"an epoch must have at least 2 batches for each of {num_replicas} ranks, got {n_alone}; give more rows"
        )
    own_calls = _calls(make_sampler(0, num_replicas))
    as_many, all_calls = _calls(make_sampler(0, 1), n_own), _calls(make_sampler(0, 1))
    own_bytes, all_bytes = _peak_bytes(make_sampler(0, num_replicas)), _peak_bytes(make_sampler(0, 1))
    batches = f"{n_own} batches" if n_own > 1 else "its batch"
    for what, observed, expected, most, bound in (
        (f"function calls for {batches}", own_calls, as_many, factor * as_many, f"{factor:g} times as many"),
        ("function calls for its epoch", own_calls, all_calls, _PART_OF_EPOCH * all_calls, f"{_PART_OF_EPOCH} of that"),
        ("bytes", own_bytes, all_bytes, factor * all_bytes + _FEW_BYTES, f"{factor:g} times as many plus {_FEW_BYTES}"),
    ):
        if observed > most:
            fail(
                "a rank must build its own batches only",
                observed=f"{observed} {what}",
                expected=f"{expected} in a single process",
                bound=bound,
                n=f"{n_own} batches on rank 0 of {num_replicas}, {n_alone} in a single process",
            )


def _calls(sampler: Iterable[Sequence[int]], n_batches: int | None = None) -> int:
    """Count the calls of Python and C functions for the first `n_batches` of an epoch, by default for all."""
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
    """Return the peak number of bytes that one epoch holds, in addition to what was held before."""
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
