"""Keys: distinct seeds and epochs give distinct batches, however far apart they are."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from itertools import islice
from typing import Any

from viscy_sampling_testkit.assertions._failure import check_false_alarm, fail


def assert_distinct_keys(
    make_sampler: Callable[[int], Any],
    seeds: Iterable[int],
    epochs: Iterable[int] = (0,),
    *,
    chance: float = 0.0,
    n_batches: int = 8,
    false_alarm: float = 1e-6,
) -> None:
    """Assert that no batches of a seed and epoch occur in another seed or epoch.

    The first batches of every epoch of every seed are compared as sets, whatever their index: one by one, or, if single
    batches may coincide by chance, in runs of as many batches as are too unlikely to coincide. The assertion detects
    every pair of seeds and epochs with the same key: seeds that are truncated, reduced modulo a number, rounded, added
    to the epoch, and so on.

    Parameters
    ----------
    make_sampler : callable
        Called as ``make_sampler(seed)``; returns a new sampler.
    seeds : iterable of int
        Seeds, such as 0, 2, 256 and 2**32.
    epochs : iterable of int, default (0,)
        Epochs to choose with ``set_epoch``; if there is only epoch 0, the method is not needed.
    chance : float, default 0.0
        Probability that two unrelated batches are equal, at most; it is added up over all pairs.
    n_batches : int, default 8
        Number of batches to draw of each seed and epoch.
    false_alarm : float, default 1e-6
        Largest probability that a correct sampler fails.

    Raises
    ------
    AssertionError
        If two seeds or epochs have a batch, or a run of batches, in common.
    ValueError
        If even runs of `n_batches` coincide by chance with a probability above `false_alarm`.

    Examples
    --------
    >>> def make_sampler(seed):
    ...     return [[seed, seed + 1]]
    >>> assert_distinct_keys(make_sampler, [0, 10, 20])
    """
    check_false_alarm(false_alarm)
    chosen, numbers = list(dict.fromkeys(seeds)), list(dict.fromkeys(epochs))
    n = len(chosen) * len(numbers) * n_batches
    length = next((r for r in range(1, n_batches + 1) if n * n / 2 * chance**r <= false_alarm), None)
    if length is None:
        raise ValueError(
            f"{n_batches} batches must be unlikely to coincide, got a probability of {chance:.2g} for one; give a "
            "larger table or larger batches"
        )
    owners: dict[tuple[frozenset[int], ...], tuple[int, int]] = {}
    for seed in chosen:
        sampler = make_sampler(seed)
        for epoch in numbers:
            for run in _runs(_first(sampler, epoch, numbers, n_batches), length):
                owner = owners.setdefault(run, (seed, epoch))
                if owner != (seed, epoch):
                    fail(
                        "different seeds and epochs must not share a batch",
                        observed=f"seed {owner[0]} in epoch {owner[1]} and seed {seed} in epoch {epoch} share "
                        + ("a batch" if length == 1 else f"{length} successive batches"),
                        expected="nothing in common",
                        n=f"{len(chosen)} seeds, {len(numbers)} epochs, {n_batches} batches of each",
                        p_value=f"at most {n * n / 2 * chance**length:.2g}",
                    )


def _runs(batches: Sequence[Sequence[int]], length: int) -> list[tuple[frozenset[int], ...]]:
    """Return all runs of so many successive batches; all batches, if they are fewer."""
    sets = [frozenset(batch) for batch in batches]
    return [tuple(sets[k : k + length]) for k in range(max(1, len(sets) - length + 1))]


def _first(sampler: Any, epoch: int, numbers: Sequence[int], n_batches: int) -> list[list[int]]:
    if list(numbers) != [0]:
        sampler.set_epoch(epoch)
    return [list(batch) for batch in islice(sampler, n_batches)]
