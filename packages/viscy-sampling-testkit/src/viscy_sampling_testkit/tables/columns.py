"""The columns of a table: dtypes, indexes and labels that code written for plain ones misreads."""

from __future__ import annotations

import importlib
from typing import Literal, get_args

import numpy as np
import pandas as pd

from viscy_sampling_testkit.tables._sizes import apportion_to_all, check_count
from viscy_sampling_testkit.tables.anchors import fill_strata, make_anchors, take_labels

IndexKind = Literal["duplicate", "shuffled", "text", "dates", "levels"]
CollisionKind = Literal["types", "separators"]


def make_unused_levels(n_anchors: int = 1000, *, seed: int = 0) -> pd.DataFrame:
    """Make a table whose labels are categoricals in a custom order, with unused levels.

    Parameters
    ----------
    n_anchors : int, default 1000
        Number of rows.
    seed : int, default 0
        Random seed.

    Returns
    -------
    pandas.DataFrame
        Shape (n_anchors, 7), the columns of `make_anchors`. The first and the last level of ``experiment`` and of
        ``condition`` are unused.

    Raises
    ------
    TypeError
        If `n_anchors` is not an integer.
    ValueError
        If `n_anchors` is less than 1, or `seed` is negative.

    Examples
    --------
    >>> make_unused_levels(100)["condition"].cat.categories.tolist()
    ['first unused', 'uninfected', 'infected', 'last unused']
    """
    anchors = make_anchors(n_anchors, seed=seed)
    for column in ("experiment", "condition"):
        codes, found = pd.factorize(anchors[column], sort=True)
        levels = ["first unused", *found[::-1], "last unused"]
        anchors[column] = pd.Categorical.from_codes(len(found) - codes, categories=levels)
    return anchors


def make_nullable_dtypes(n_anchors: int = 1000, *, seed: int = 0) -> pd.DataFrame:
    """Make a table of pandas' nullable dtypes, without missing values.

    Parameters
    ----------
    n_anchors : int, default 1000
        Number of rows.
    seed : int, default 0
        Random seed.

    Returns
    -------
    pandas.DataFrame
        Shape (n_anchors, 7), the columns of `make_anchors`: ``experiment`` is a ``string`` stored by
        Python, ``condition`` an ``Int64`` of 0 and 1, ``hours_post_infection`` a ``Float64``, ``track_id`` and ``t``
        an ``Int64``.

    Raises
    ------
    TypeError
        If `n_anchors` is not an integer.
    ValueError
        If `n_anchors` is less than 1, or `seed` is negative.

    Examples
    --------
    >>> make_nullable_dtypes(100)["condition"].dtype
    Int64Dtype()
    """
    dtypes = {"experiment": pd.StringDtype("python"), "hours_post_infection": "Float64"}
    dtypes |= dict.fromkeys(("condition", "track_id", "t"), "Int64")
    return make_anchors(n_anchors, conditions=[0, 1], seed=seed).astype(dtypes)


def make_arrow_dtypes(n_anchors: int = 1000, *, seed: int = 0) -> pd.DataFrame:
    """Make a table whose columns are stored by Arrow, like one read from a Parquet file.

    Parameters
    ----------
    n_anchors : int, default 1000
        Number of rows.
    seed : int, default 0
        Random seed.

    Returns
    -------
    pandas.DataFrame
        Shape (n_anchors, 7), the columns of `make_anchors`. ``condition`` is the pandas string dtype stored by
        Arrow; all other columns have a `pandas.ArrowDtype`.

    Raises
    ------
    ImportError
        If pyarrow is not installed.
    TypeError
        If `n_anchors` is not an integer.
    ValueError
        If `n_anchors` is less than 1, or `seed` is negative.
    """
    try:
        pa = importlib.import_module("pyarrow")
    except ImportError as error:
        raise ImportError("make_arrow_dtypes needs pyarrow; install it with `pip install pyarrow`") from error
    anchors = make_anchors(n_anchors, seed=seed)
    dtypes = {"experiment": pd.ArrowDtype(pa.string()), "condition": pd.StringDtype("pyarrow")}
    dtypes |= dict.fromkeys(("hours_post_infection", "y", "x"), pd.ArrowDtype(pa.float64()))
    dtypes |= dict.fromkeys(("track_id", "t"), pd.ArrowDtype(pa.int64()))
    return anchors.astype(dtypes)


def make_odd_index(n_anchors: int = 1000, *, kind: IndexKind = "duplicate", seed: int = 0) -> pd.DataFrame:
    """Make a table whose index differs from its row numbers.

    Parameters
    ----------
    n_anchors : int, default 1000
        Number of rows.
    kind : {"duplicate", "shuffled", "text", "dates", "levels"}, default "duplicate"
        ``"duplicate"``: seven integers that repeat. ``"shuffled"``: the integers from 0 in another order, as after
        sorting the table. ``"text"``: ``cell 0``, ``cell 1`` and so on. ``"dates"``: times of one day. ``"levels"``:
        two levels, (experiment, t), with repeated labels.
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
        If `n_anchors` is less than 1, `kind` is unknown, or `seed` is negative.

    Examples
    --------
    >>> make_odd_index(100, kind="text").index[-1]
    'cell 99'
    """
    _check_kind(kind, IndexKind)
    anchors = make_anchors(n_anchors, seed=seed)
    index = pd.RangeIndex(n_anchors)
    match kind:
        case "duplicate":
            index = index % 7
        case "shuffled":
            index = pd.Index(np.random.default_rng([seed, 3]).permutation(n_anchors))
        case "text":
            index = "cell " + index.astype(str)
        case "dates":
            index = pd.Timestamp("2026-01-01") + pd.to_timedelta(index, unit="s")
        case "levels":
            index = pd.MultiIndex.from_frame(anchors[["experiment", "t"]])
    return anchors.set_axis(index, axis=0)


def make_colliding_keys(n_anchors: int = 1000, *, kind: CollisionKind = "types", seed: int = 0) -> pd.DataFrame:
    """Make a table whose labels are distinct values with the same text.

    A sampler that converts its keys to text, or joins the parts of a key with a separator, confuses two groups.

    Parameters
    ----------
    n_anchors : int, default 1000
        Number of rows.
    kind : {"types", "separators"}, default "types"
        ``"types"``: integers and strings, such as ``1`` and ``"1"``, in ``experiment`` and in ``condition``.
        ``"separators"``: pairs of experiment and condition such as ``("a|b", "c")`` and ``("a", "b|c")``, with ``|``
        and with ``_``.
    seed : int, default 0
        Random seed.

    Returns
    -------
    pandas.DataFrame
        Shape (n_anchors, 7), the columns of `make_anchors`. The pairs of experiment and condition are equally frequent.

    Raises
    ------
    TypeError
        If `n_anchors` is not an integer.
    ValueError
        If `n_anchors` is less than 1, `kind` is unknown, or `seed` is negative.

    Examples
    --------
    >>> sorted(map(repr, make_colliding_keys(100)["condition"].unique()))
    ["'1'", '1']
    """
    _check_kind(kind, CollisionKind)
    check_count("n_anchors", n_anchors)
    if kind == "types":
        pairs = [(experiment, condition) for experiment in (20, "20") for condition in (1, "1")]
    else:
        pairs = [("a|b", "c"), ("a", "b|c"), ("a_b", "c"), ("a", "b_c")]
    sizes = apportion_to_all(n_anchors, np.ones(len(pairs)))[:, None]
    anchors = fill_strata(sizes, range(len(pairs)), ["none"], seed=seed)
    pair = anchors["experiment"].to_numpy()
    experiments, conditions = zip(*pairs, strict=True)
    return anchors.assign(experiment=take_labels(experiments, pair), condition=take_labels(conditions, pair))


def _check_kind(kind: str, kinds: object) -> None:
    if kind not in get_args(kinds):
        raise ValueError(f"kind must be one of {', '.join(map(repr, get_args(kinds)))}, got {kind!r}")
