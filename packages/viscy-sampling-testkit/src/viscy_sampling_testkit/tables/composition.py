"""The composition of a table: how many anchors each experiment and each condition has."""

from __future__ import annotations

from collections.abc import Hashable, Sequence

import numpy as np
import pandas as pd

from viscy_sampling_testkit.tables._sizes import apportion_to_all, check_count, weights_of
from viscy_sampling_testkit.tables.anchors import anchors_of_cells, make_anchors

_LARGEST_TINY_GROUP = 3


def make_balanced(
    n_anchors: int = 1000,
    *,
    n_experiments: int = 2,
    conditions: Sequence[Hashable] = ("uninfected", "infected"),
    seed: int = 0,
) -> pd.DataFrame:
    """Make a table in which every condition has equally many rows in every experiment, to within one.

    Parameters
    ----------
    n_anchors : int, default 1000
        Number of rows.
    n_experiments : int, default 2
        Number of experiments, named ``exp0``, ``exp1`` and so on.
    conditions : sequence, default ("uninfected", "infected")
        Labels of the conditions.
    seed : int, default 0
        Seed of everything random.

    Returns
    -------
    pandas.DataFrame
        Shape (n_anchors, 7), the columns of `make_anchors`.

    Raises
    ------
    TypeError
        If a count is no integer, or `conditions` a string.
    ValueError
        If a count is less than 1, `seed` is negative, or there is no condition or one twice.

    Examples
    --------
    >>> make_balanced(40).value_counts(["experiment", "condition"]).tolist()
    [10, 10, 10, 10]
    """
    check_count("n_anchors", n_anchors)
    check_count("n_experiments", n_experiments)
    n_cells = n_experiments * len(weights_of("conditions", conditions))
    cells = apportion_to_all(n_anchors, np.ones(n_cells)).reshape(n_experiments, -1)
    return anchors_of_cells(cells, _names("exp", n_experiments), list(conditions), seed=seed)


def make_skewed(
    n_anchors: int = 1000, *, n_conditions: int = 2, ratio: float = 99.0, n_experiments: int = 2, seed: int = 0
) -> pd.DataFrame:
    """Make a table whose first condition is many times as frequent as its last one.

    From one condition to the next the frequency falls by the same factor. Every condition has a row if there are enough
    rows; the experiments are equally large.

    Parameters
    ----------
    n_anchors : int, default 1000
        Number of rows.
    n_conditions : int, default 2
        Number of conditions, named ``condition0``, ``condition1`` and so on; thousands are fine.
    ratio : float, default 99.0
        How often the first condition comes for each time that the last one comes.
    n_experiments : int, default 2
        Number of experiments, named ``exp0``, ``exp1`` and so on.
    seed : int, default 0
        Seed of everything random.

    Returns
    -------
    pandas.DataFrame
        Shape (n_anchors, 7), the columns of `make_anchors`.

    Raises
    ------
    TypeError
        If a count is no integer.
    ValueError
        If a count or `ratio` is less than 1, `ratio` is not finite, or `seed` is negative.

    Examples
    --------
    >>> make_skewed(1000)["condition"].value_counts().to_dict()
    {'condition0': 990, 'condition1': 10}
    """
    check_count("n_conditions", n_conditions)
    if not 1 <= ratio < np.inf:
        raise ValueError(f"ratio must be at least 1 and finite, got {ratio!r}")
    weights = ratio ** -np.linspace(0.0, 1.0, n_conditions)
    conditions = dict(zip(_names("condition", n_conditions), weights.tolist(), strict=True))
    return make_anchors(n_anchors, n_experiments=n_experiments, conditions=conditions, seed=seed)


def make_tiny_groups(n_anchors: int = 1000, *, n_tiny: int = 4, seed: int = 0) -> pd.DataFrame:
    """Make a table of one large experiment and of tiny ones, which have one to three rows.

    A tiny experiment of one row has one condition only. A batch of any usual size draws with replacement from the tiny
    ones.

    Parameters
    ----------
    n_anchors : int, default 1000
        Number of rows.
    n_tiny : int, default 4
        Number of tiny experiments, named ``tiny0``, ``tiny1`` and so on, of 1, 2, 3, 1, 2, ... rows; all other rows are
        of the experiment ``large``.
    seed : int, default 0
        Seed of everything random.

    Returns
    -------
    pandas.DataFrame
        Shape (n_anchors, 7), the columns of `make_anchors`; the conditions are ``uninfected`` and ``infected``.

    Raises
    ------
    TypeError
        If a count is no integer.
    ValueError
        If a count is less than 1, `seed` is negative, or `n_anchors` leaves the large experiment less than two rows.

    Examples
    --------
    >>> make_tiny_groups(100).groupby("experiment").size().to_dict()
    {'large': 93, 'tiny0': 1, 'tiny1': 2, 'tiny2': 3, 'tiny3': 1}
    """
    check_count("n_anchors", n_anchors)
    check_count("n_tiny", n_tiny)
    tiny = 1 + np.arange(n_tiny) % _LARGEST_TINY_GROUP
    if n_anchors < tiny.sum() + 2:
        needs = f"{tiny.sum()} rows in {n_tiny} tiny groups and 2 in the large one"
        raise ValueError(f"n_anchors must be at least {tiny.sum() + 2}, for {needs}, got {n_anchors}")
    sizes = np.array([n_anchors - tiny.sum(), *tiny])
    # Two parts of each size; which condition has the odd row takes turns.
    more, less = -(-sizes // 2), sizes // 2
    odd = np.arange(len(sizes)) % 2 == 1
    cells = np.stack([np.where(odd, less, more), np.where(odd, more, less)], axis=1)
    return anchors_of_cells(cells, ["large", *_names("tiny", n_tiny)], ["uninfected", "infected"], seed=seed)


def make_missing_conditions(
    n_anchors: int = 1000,
    *,
    n_experiments: int = 3,
    conditions: Sequence[Hashable] = ("uninfected", "infected", "treated"),
    seed: int = 0,
) -> pd.DataFrame:
    """Make a table in which only the first experiment has all conditions.

    Of the others, every second one lacks one condition and every second one has no more than one. Experiments are
    equally large, and within an experiment the conditions that it has are.

    Parameters
    ----------
    n_anchors : int, default 1000
        Number of rows.
    n_experiments : int, default 3
        Number of experiments, named ``exp0``, ``exp1`` and so on; at least two.
    conditions : sequence, default ("uninfected", "infected", "treated")
        Labels of the conditions; at least two.
    seed : int, default 0
        Seed of everything random.

    Returns
    -------
    pandas.DataFrame
        Shape (n_anchors, 7), the columns of `make_anchors`.

    Raises
    ------
    TypeError
        If a count is no integer, or `conditions` a string.
    ValueError
        If `n_anchors` is less than 1, `n_experiments` or the number of conditions less than 2, a condition comes twice,
        or `seed` is negative.

    Examples
    --------
    >>> anchors = make_missing_conditions(90)
    >>> anchors.groupby("experiment")["condition"].nunique().to_dict()
    {'exp0': 3, 'exp1': 2, 'exp2': 1}
    """
    check_count("n_anchors", n_anchors)
    check_count("n_experiments", n_experiments, at_least=2)
    n_conditions = len(weights_of("conditions", conditions))
    if n_conditions < 2:
        raise ValueError(f"conditions must name at least two labels, got {list(conditions)!r}; one cannot be missing")
    experiment = np.arange(n_experiments)[:, None]
    is_turn = experiment % n_conditions == np.arange(n_conditions)
    held = np.where(experiment % 2 == 1, ~is_turn, is_turn) | (experiment == 0)
    sizes = apportion_to_all(n_anchors, np.ones(n_experiments))
    cells = np.zeros(held.shape, int)
    for own, size, has in zip(cells, sizes, held, strict=True):
        own[has] = apportion_to_all(size, np.ones(has.sum()))
    return anchors_of_cells(cells, _names("exp", n_experiments), list(conditions), seed=seed)


def _names(prefix: str, n: int) -> list[str]:
    return [f"{prefix}{i}" for i in range(n)]
