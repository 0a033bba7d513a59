"""How many rows each part of a table has: whole numbers from weights, and the checks of what is asked for."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from typing import Any

import numpy as np


def check_count(name: str, value: int, at_least: int = 1) -> None:
    """Refuse what is no integer, or too small a one."""
    if isinstance(value, bool) or not isinstance(value, (int, np.integer)):
        raise TypeError(f"{name} must be an integer, got {value!r}")
    if value < at_least:
        raise ValueError(f"{name} must be at least {at_least}, got {value}")


def weights_of(name: str, given: Sequence[Hashable] | Mapping[Any, float] | Mapping[str, float]) -> np.ndarray:
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
        raise ValueError(f"{name} must have positive, finite weights, got {dict(given)!r}; leave out what has no rows")
    return weights


def _apportion(n: int, weights: np.ndarray) -> np.ndarray:
    """Split n into whole numbers in proportion to weights, by largest remainders."""
    quotas = n * weights / weights.sum()
    counts = np.floor(quotas).astype(int)
    # Rounded, so that remainders equal but for floating point noise are ties, which go to the first.
    remainders = np.round(quotas - counts, 9)
    counts[np.argsort(-remainders, kind="stable")[: n - counts.sum()]] += 1
    return counts


def apportion_to_all(n: int, weights: np.ndarray) -> np.ndarray:
    """Split n as `_apportion` does, and give each part at least one where n allows."""
    counts = _apportion(n, weights)
    if n >= len(counts):
        for empty in np.flatnonzero(counts == 0):
            counts[counts.argmax()] -= 1
            counts[empty] = 1
    return counts


def cells_of(n: int, experiments: np.ndarray, conditions: np.ndarray) -> np.ndarray:
    """Return the number of rows of each (experiment, condition); sums over either are the apportioned counts."""
    left = apportion_to_all(n, conditions)
    cells = np.zeros((len(experiments), len(conditions)), int)
    for i, size in enumerate(apportion_to_all(n, experiments)):
        if size > 0:
            # No part can exceed what is left of its condition: size is at most the sum of what is left.
            cells[i] = _apportion(size, left.astype(float))
            left = left - cells[i]
    return cells
