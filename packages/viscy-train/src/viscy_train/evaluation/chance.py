"""Chance: what a probe scores if the labels say nothing: the same probe after its labels were permuted.

Labels are permuted fairly. Cells of a field of view share their illumination and frames of a track their cell, so whole
units change labels: all cells of a position get the label of another position, of the same experiment if that allows
enough arrangements. Labels that change within a unit are shifted along its rows instead, which keeps their runs.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import lgamma, log
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

N_PERMUTED = 199
"""Number of permutations: the smallest p is 0.005."""
# With fewer arrangements within the experiments, units of all experiments change labels.
_ENOUGH_ARRANGEMENTS = 100
_SIGNIFICANT = 0.05


@dataclass(frozen=True, kw_only=True)
class Chance:
    """The accuracy of a probe of permuted labels.

    Parameters
    ----------
    low, high : float
        The interval that contains 95 % of the accuracies.
    p : float
        The share of the labelings, the true one included, of which the accuracy is at least that of the true one.
    n_arrangements : float
        Number of different labelings that a permutation may give.
    """

    low: float
    high: float
    p: float
    n_arrangements: float

    @property
    def explains(self) -> bool:
        """Whether the accuracy of the true labels is indistinguishable from chance (p of 0.05 or more)."""
        return self.p >= _SIGNIFICANT

    def __str__(self) -> str:
        return f"{self.low:.0%} to {self.high:.0%}"


def measure_chance(
    score: Callable[[NDArray[np.int64]], float],
    labels: NDArray[np.int64],
    units: NDArray[np.int64],
    strata: NDArray[np.int64],
    seed: int,
) -> Chance | None:
    """Return what a score of labels is if they are permuted.

    Parameters
    ----------
    score : callable
        Takes labels, and returns the score of the same rows with these.
    labels : numpy.ndarray
        The true labels, numbers from 0, shape (n_rows,).
    units : numpy.ndarray
        The unit of each row, such as its position, shape (n_rows,).
    strata : numpy.ndarray
        What a unit is part of, such as its experiment, shape (n_rows,).
    seed : int
        Seed of the permutations.

    Returns
    -------
    Chance, optional
        None if all labelings are the same.
    """
    rng = np.random.default_rng([seed, 4])
    permute, n_arrangements = _permutation(labels, units, strata)
    if n_arrangements < 2:
        return None
    observed = score(labels)
    permuted = np.array([score(permute(rng)) for _ in range(N_PERMUTED)])
    low, high = np.percentile(permuted, [2.5, 97.5])
    # Scores of equal labelings may differ in the last digits.
    p = (1 + int((permuted >= observed - 1e-9).sum())) / (1 + N_PERMUTED)
    return Chance(low=float(low), high=float(high), p=p, n_arrangements=n_arrangements)


def _permutation(
    labels: NDArray[np.int64], units: NDArray[np.int64], strata: NDArray[np.int64]
) -> tuple[Callable[[np.random.Generator], NDArray[np.int64]], float]:
    """Return a function that permutes the labels, and how many labelings it may give."""
    _, first, of_row = np.unique(units, return_index=True, return_inverse=True)
    of_unit = labels[first]
    if not (of_unit[of_row] == labels).all():
        order = np.lexsort((np.arange(len(labels)), strata, units))
        return lambda rng: _shift(labels, order, units[order], rng), float(len(labels))
    blocks = [np.flatnonzero(strata[first] == stratum) for stratum in np.unique(strata)]
    if _count(of_unit, blocks) < _ENOUGH_ARRANGEMENTS:
        blocks = [np.arange(len(of_unit))]

    def permute(rng: np.random.Generator) -> NDArray[np.int64]:
        changed = of_unit.copy()
        for block in blocks:
            changed[block] = rng.permutation(of_unit[block])
        return changed[of_row]

    return permute, _count(of_unit, blocks)


def _count(labels: NDArray[np.int64], blocks: list[NDArray[np.int64]]) -> float:
    """Return the number of ways to arrange the labels within each block."""
    total = 0.0
    for block in blocks:
        counts = np.unique(labels[block], return_counts=True)[1]
        total += lgamma(len(block) + 1) - sum(lgamma(number + 1) for number in counts)
    return float(np.rint(np.exp(total))) if total < log(1e15) else 1e15


def _shift(
    labels: NDArray[np.int64], order: NDArray[np.int64], units: NDArray[np.int64], rng: np.random.Generator
) -> NDArray[np.int64]:
    """Rotate the labels of the rows of each unit by a random number of places."""
    shifted = labels.copy()
    starts = np.flatnonzero(np.diff(units, prepend=units[0] - 1))
    for rows in np.split(order, starts[1:]):
        shifted[rows] = np.roll(labels[rows], rng.integers(len(rows)))
    return shifted
