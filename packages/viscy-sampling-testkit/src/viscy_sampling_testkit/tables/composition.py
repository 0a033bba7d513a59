"""The composition of a table: the number of anchors of each experiment and each condition."""

from __future__ import annotations

from collections.abc import Hashable, Sequence

import numpy as np
import pandas as pd

from viscy_sampling_testkit.tables._sizes import apportion_to_all, check_count, parse_weights
from viscy_sampling_testkit.tables.anchors import fill_strata, make_anchors

_LARGEST_TINY_GROUP = 3


def make_balanced(
    n_anchors: int = 1000,
    *,
    n_experiments: int = 2,
    conditions: Sequence[Hashable] = ("uninfected", "infected"),
    seed: int = 0,
) -> pd.DataFrame:
    """Make a table whose strata (experiment x condition) differ by at most one row.

    Parameters
    ----------
    n_anchors : int, default 1000
        Number of rows.
    n_experiments : int, default 2
        Number of experiments, named ``exp0``, ``exp1`` and so on.
    conditions : sequence, default ("uninfected", "infected")
        Labels of the conditions.
    seed : int, default 0
        Random seed.

    Returns
    -------
    pandas.DataFrame
        Shape (n_anchors, 7), the columns of `make_anchors`.

    Raises
    ------
    TypeError
        If a count is not an integer, or `conditions` is a string.
    ValueError
        If a count is less than 1, `seed` is negative, or `conditions` is empty or repeats a label.

    Examples
    --------
    >>> make_balanced(40).value_counts(["experiment", "condition"]).tolist()
    [10, 10, 10, 10]
    """
    check_count("n_anchors", n_anchors)
    check_count("n_experiments", n_experiments)
    n_strata = n_experiments * len(parse_weights("conditions", conditions))
    sizes = apportion_to_all(n_anchors, np.ones(n_strata)).reshape(n_experiments, -1)
    return fill_strata(sizes, _number("exp", n_experiments), list(conditions), seed=seed)


def make_skewed(
    n_anchors: int = 1000, *, n_conditions: int = 2, ratio: float = 99.0, n_experiments: int = 2, seed: int = 0
) -> pd.DataFrame:
    """Make a table whose first condition is many times as frequent as its last condition.

    The frequency falls by the same factor from each condition to the next. Every condition has a row if there are
    enough rows. The experiments have the same size.

    Parameters
    ----------
    n_anchors : int, default 1000
        Number of rows.
    n_conditions : int, default 2
        Number of conditions, named ``condition0``, ``condition1`` and so on; may be thousands.
    ratio : float, default 99.0
        Frequency of the first condition divided by that of the last.
    n_experiments : int, default 2
        Number of experiments, named ``exp0``, ``exp1`` and so on.
    seed : int, default 0
        Random seed.

    Returns
    -------
    pandas.DataFrame
        Shape (n_anchors, 7), the columns of `make_anchors`.

    Raises
    ------
    TypeError
        If a count is not an integer.
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
    conditions = dict(zip(_number("condition", n_conditions), weights.tolist(), strict=True))
    return make_anchors(n_anchors, n_experiments=n_experiments, conditions=conditions, seed=seed)


def make_tiny_groups(n_anchors: int = 1000, *, n_tiny: int = 4, seed: int = 0) -> pd.DataFrame:
    """Make a table of one large experiment and several tiny ones of one to three rows.

    A tiny experiment of one row has one condition only. A batch of any usual size has to repeat rows of a tiny
    experiment.

    Parameters
    ----------
    n_anchors : int, default 1000
        Number of rows.
    n_tiny : int, default 4
        Number of tiny experiments, named ``tiny0``, ``tiny1`` and so on, of 1, 2, 3, 1, 2, ... rows; all other rows
        belong to the experiment ``large``.
    seed : int, default 0
        Random seed.

    Returns
    -------
    pandas.DataFrame
        Shape (n_anchors, 7), the columns of `make_anchors`; the conditions are ``uninfected`` and ``infected``.

    Raises
    ------
    TypeError
        If a count is not an integer.
    ValueError
        If a count is less than 1, `seed` is negative, or `n_anchors` leaves fewer than two rows for the large
        experiment.

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
    # Each experiment is split into two conditions; the extra row of an odd size alternates between them.
    more, less = -(-sizes // 2), sizes // 2
    is_odd = np.arange(len(sizes)) % 2 == 1
    strata = np.stack([np.where(is_odd, less, more), np.where(is_odd, more, less)], axis=1)
    return fill_strata(strata, ["large", *_number("tiny", n_tiny)], ["uninfected", "infected"], seed=seed)


def make_missing_conditions(
    n_anchors: int = 1000,
    *,
    n_experiments: int = 3,
    conditions: Sequence[Hashable] = ("uninfected", "infected", "treated"),
    seed: int = 0,
) -> pd.DataFrame:
    """Make a table in which only the first experiment has all conditions.

    The other experiments alternate: one lacks a single condition, the next has only a single condition. Experiments
    have the same size, and so do the conditions within an experiment.

    Parameters
    ----------
    n_anchors : int, default 1000
        Number of rows.
    n_experiments : int, default 3
        Number of experiments, named ``exp0``, ``exp1`` and so on; at least two.
    conditions : sequence, default ("uninfected", "infected", "treated")
        Labels of the conditions; at least two.
    seed : int, default 0
        Random seed.

    Returns
    -------
    pandas.DataFrame
        Shape (n_anchors, 7), the columns of `make_anchors`.

    Raises
    ------
    TypeError
        If a count is not an integer, or `conditions` is a string.
    ValueError
        If `n_anchors` is less than 1, `n_experiments` or the number of conditions is less than 2, `conditions` repeats
        a label, or `seed` is negative.

    Examples
    --------
    >>> anchors = make_missing_conditions(90)
    >>> anchors.groupby("experiment")["condition"].nunique().to_dict()
    {'exp0': 3, 'exp1': 2, 'exp2': 1}
    """
    check_count("n_anchors", n_anchors)
    check_count("n_experiments", n_experiments, at_least=2)
    n_conditions = len(parse_weights("conditions", conditions))
    if n_conditions < 2:
        raise ValueError(
            f"conditions must name at least two labels, so that one can be missing, got {list(conditions)!r}; add one"
        )
    experiment = np.arange(n_experiments)[:, None]
    is_selected = experiment % n_conditions == np.arange(n_conditions)
    is_present = np.where(experiment % 2 == 1, ~is_selected, is_selected) | (experiment == 0)
    strata = np.zeros(is_present.shape, int)
    for row, size, present in zip(strata, apportion_to_all(n_anchors, np.ones(n_experiments)), is_present, strict=True):
        row[present] = apportion_to_all(size, np.ones(present.sum()))
    return fill_strata(strata, _number("exp", n_experiments), list(conditions), seed=seed)


def _number(prefix: str, n: int) -> list[str]:
    return [f"{prefix}{i}" for i in range(n)]
