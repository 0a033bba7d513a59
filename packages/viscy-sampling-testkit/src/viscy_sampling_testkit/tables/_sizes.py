"""Sizes: how many rows each part of a table has, as integers in proportion to weights, and the argument checks."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from typing import Any

import numpy as np


def check_count(name: str, value: int, at_least: int = 1) -> None:
    """Raise unless `value` is an integer of at least `at_least`."""
    if isinstance(value, bool) or not isinstance(value, (int, np.integer)):
        raise TypeError(f"{name} must be an integer, got {value!r}")
    if value < at_least:
        raise ValueError(f"{name} must be at least {at_least}, got {value}")


def parse_weights(name: str, given: Sequence[Hashable] | Mapping[Any, float] | Mapping[str, float]) -> np.ndarray:
    """Return the relative weights of distinct labels, shape (n_labels,)."""
    if isinstance(given, str):
        raise TypeError(f"{name} must be a sequence or a mapping of labels, got the string {given!r}; put it in a list")
    if len(given) == 0:
        raise ValueError(f"{name} must name at least one label, got none")
    if not isinstance(given, Mapping):
        if len(set(given)) < len(given):
            raise ValueError(f"{name} must name each label once, got {list(given)!r}")
        return np.ones(len(given))
    weights = np.array(list(given.values()), float)
    if not (np.isfinite(weights) & (weights > 0)).all():
        raise ValueError(f"{name} must have positive, finite weights, got {dict(given)!r}; omit labels without rows")
    return weights


def _apportion(n: int, weights: np.ndarray) -> np.ndarray:
    """Split n into integers in proportion to weights, by the largest-remainder method."""
    quotas = n * weights / weights.sum()
    counts = np.floor(quotas).astype(int)
    # Round so that remainders that differ only by floating-point error are ties, which go to the first parts.
    remainders = np.round(quotas - counts, 9)
    counts[np.argsort(-remainders, kind="stable")[: n - counts.sum()]] += 1
    return counts


def apportion_to_all(n: int, weights: np.ndarray) -> np.ndarray:
    """Split n as `_apportion` does, but give each part at least one if n is large enough."""
    counts = _apportion(n, weights)
    if n >= len(counts):
        for empty in np.flatnonzero(counts == 0):
            counts[counts.argmax()] -= 1
            counts[empty] = 1
    return counts


def size_strata(n: int, experiments: np.ndarray, conditions: np.ndarray) -> np.ndarray:
    """Return the number of rows of each stratum, shape (n_experiments, n_conditions).

    The row sums and the column sums are `n` apportioned to the weights of `experiments` and of `conditions`.
    """
    remaining = apportion_to_all(n, conditions)
    sizes = np.zeros((len(experiments), len(conditions)), int)
    for i, size in enumerate(apportion_to_all(n, experiments)):
        if size > 0:
            # No count can exceed the remainder of its condition, because size is at most the sum of the remainders.
            sizes[i] = _apportion(size, remaining.astype(float))
            remaining = remaining - sizes[i]
    return sizes
