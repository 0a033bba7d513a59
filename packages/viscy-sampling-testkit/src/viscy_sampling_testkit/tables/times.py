"""The times of a table: unevenly spaced frames, times that all differ, very few times, or a few bursts."""

from __future__ import annotations

import numpy as np
import pandas as pd

from viscy_sampling_testkit.tables._sizes import check_count
from viscy_sampling_testkit.tables.anchors import jitter_times, make_anchors

_N_TIMEPOINTS = 48


def make_irregular_times(
    n_anchors: int = 1000, *, n_timepoints: int = _N_TIMEPOINTS, n_experiments: int = 2, seed: int = 0
) -> pd.DataFrame:
    """Make a table whose frames are unevenly spaced and differ between experiments.

    The time from one frame to the next is half an hour on average and exponentially distributed.

    Parameters
    ----------
    n_anchors : int, default 1000
        Number of rows.
    n_timepoints : int, default 48
        Number of frames per experiment.
    n_experiments : int, default 2
        Number of experiments; no two share a time.
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
        If a count is less than 1, or `seed` is negative.

    Examples
    --------
    >>> make_irregular_times(500, n_timepoints=5)["hours_post_infection"].nunique()
    10
    """
    anchors = make_anchors(n_anchors, n_experiments=n_experiments, n_timepoints=n_timepoints, seed=seed)
    gaps = np.random.default_rng([seed, 2]).exponential(0.5, (n_experiments, n_timepoints))
    experiment = pd.factorize(anchors["experiment"])[0]
    return anchors.assign(hours_post_infection=gaps.cumsum(axis=1)[experiment, anchors["t"]])


def make_continuous_times(n_anchors: int = 1000, *, seed: int = 0) -> pd.DataFrame:
    """Make a table in which no two rows have the same time, as if the time of each image were recorded.

    Parameters
    ----------
    n_anchors : int, default 1000
        Number of rows.
    seed : int, default 0
        Random seed.

    Returns
    -------
    pandas.DataFrame
        Shape (n_anchors, 7), the columns of `make_anchors`.

    Raises
    ------
    TypeError
        If `n_anchors` is not an integer.
    ValueError
        If `n_anchors` is less than 1, or `seed` is negative.

    Examples
    --------
    >>> make_continuous_times(500)["hours_post_infection"].nunique()
    500
    """
    return make_anchors(n_anchors, regular_times=False, seed=seed)


def make_duplicate_times(n_anchors: int = 1000, *, n_times: int = 1, seed: int = 0) -> pd.DataFrame:
    """Make a table with very few distinct times, twelve hours apart; only one by default.

    Parameters
    ----------
    n_anchors : int, default 1000
        Number of rows.
    n_times : int, default 1
        Number of distinct times, the first at 12 hours; a small table may lack some.
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
        If a count is less than 1, or `seed` is negative.

    Examples
    --------
    >>> sorted(make_duplicate_times(500, n_times=2)["hours_post_infection"].unique().tolist())
    [12.0, 24.0]
    """
    check_count("n_times", n_times)
    n_timepoints = max(n_times, _N_TIMEPOINTS)
    anchors = make_anchors(n_anchors, n_timepoints=n_timepoints, seed=seed)
    return anchors.assign(hours_post_infection=12.0 * (1 + anchors["t"] * n_times // n_timepoints))


def make_bursts(n_anchors: int = 1000, *, n_bursts: int = 3, seed: int = 0) -> pd.DataFrame:
    """Make a table whose times all differ and fall into bursts of twelve minutes, two days apart.

    A temporal window of an hour or two contains exactly one burst.

    Parameters
    ----------
    n_anchors : int, default 1000
        Number of rows.
    n_bursts : int, default 3
        Number of bursts, the first at 2 hours; a small table may lack some.
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
        If a count is less than 1, or `seed` is negative.

    Examples
    --------
    >>> make_bursts(500)["hours_post_infection"].floordiv(48).value_counts(sort=False).sort_index().index.tolist()
    [0.0, 1.0, 2.0]
    """
    check_count("n_bursts", n_bursts)
    n_timepoints = n_bursts * -(-_N_TIMEPOINTS // n_bursts)
    anchors = make_anchors(n_anchors, n_timepoints=n_timepoints, seed=seed)
    burst = anchors["t"] * n_bursts // n_timepoints
    elapsed = jitter_times(anchors["t"], seed) * n_bursts / n_timepoints - burst
    return anchors.assign(hours_post_infection=2.0 + 48.0 * burst + 0.2 * elapsed)
