"""Hypothesis strategies: small tables with the traits that samplers mishandle, and sampler options valid for them.

This module needs ``viscy-sampling-testkit[hypothesis]``; the rest of the package does not.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from typing import Any

import numpy as np
import pandas as pd

from viscy_sampling_testkit.tables._sizes import parse_weights

try:
    from hypothesis import strategies as st
except ImportError as error:
    raise ImportError(
        "viscy_sampling_testkit.strategies needs hypothesis; install viscy-sampling-testkit[hypothesis]"
    ) from error

# The simplest label comes first, because hypothesis shrinks to it.
_EXPERIMENTS: tuple[Hashable, ...] = ("a", "b", "1", 1, ("a", "b"))
_CONDITIONS: tuple[Hashable, ...] = ("x", "y", 0, "0")
# These include values that differ only by floating-point error, and times before infection.
_HOURS = st.sampled_from([0.0, 1.0, 0.1, 0.2, 0.30000000000000004, 2.5, -3.0, 48.0])
_WEIGHTS = st.sampled_from([1.0, 2.0, 0.0, 1 / 3, 50.0])


def anchor_tables(
    *,
    experiments: Sequence[Hashable] = _EXPERIMENTS,
    conditions: Sequence[Hashable] = _CONDITIONS,
    hours: st.SearchStrategy[float] = _HOURS,
    max_strata: int = 8,
    max_rows_per_stratum: int = 25,
) -> st.SearchStrategy[pd.DataFrame]:
    """Return a strategy of small anchor tables with every kind of imbalance, label, column and index.

    Experiments may lack conditions, have a single row, or share no time with each other. Labels may be tuples, or
    distinct values with the same text. Columns may hold objects, strings, or categoricals with unused levels. An index
    may repeat labels. Examples shrink to few rows in order, with the first labels and times, plain columns and a plain
    index.

    Parameters
    ----------
    experiments, conditions : sequence, optional
        The labels to draw from, the simplest first. Some of the defaults are distinct values with the same text.
    hours : strategy of float, optional
        The times to draw from; a table has at most eight distinct times.
    max_strata : int, default 8
        Largest number of strata (experiment x condition) with rows.
    max_rows_per_stratum : int, default 25
        Largest number of rows in a stratum.

    Returns
    -------
    hypothesis.strategies.SearchStrategy
        A strategy of data frames of shape (n_anchors, 3): ``experiment``, ``condition``, ``hours_post_infection``
        (float, hours).

    Raises
    ------
    TypeError
        If `experiments` or `conditions` is a string.
    ValueError
        If `experiments` or `conditions` is empty or repeats a label.

    Examples
    --------
    >>> from hypothesis import find
    >>> find(anchor_tables(), lambda table: len(table) >= 2)
      experiment condition  hours_post_infection
    0          a         x                   0.0
    1          a         x                   0.0
    """
    parse_weights("experiments", experiments)
    parse_weights("conditions", conditions)
    return _anchor_tables(experiments, conditions, hours, max_strata, max_rows_per_stratum)


@st.composite
def _anchor_tables(
    draw: st.DrawFn,
    experiments: Sequence[Hashable],
    conditions: Sequence[Hashable],
    hours: st.SearchStrategy[float],
    max_strata: int,
    max_rows_per_stratum: int,
) -> pd.DataFrame:
    stratum = st.tuples(st.integers(0, len(experiments) - 1), st.integers(0, len(conditions) - 1))
    sizes = draw(st.dictionaries(stratum, st.integers(1, max_rows_per_stratum), min_size=1, max_size=max_strata))
    strata = np.repeat(np.array(list(sizes)), list(sizes.values()), axis=0)
    order = _shuffle(len(strata), draw(st.integers(0, 2**16)))
    # Only a few distinct times, so that often all rows, or most of them, have the same time.
    times = st.sampled_from(draw(st.lists(hours, min_size=1, max_size=8)))
    table = pd.DataFrame(
        {
            "experiment": draw(_columns([experiments[i] for i in strata[order, 0]])),
            "condition": draw(_columns([conditions[i] for i in strata[order, 1]])),
            "hours_post_infection": draw(st.lists(times, min_size=len(strata), max_size=len(strata))),
        }
    )
    return table.set_axis(draw(_indexes(len(table))), axis=0)


def _shuffle(n: int, seed: int) -> np.ndarray:
    """Return an order of n rows, shape (n,). Seed 0, to which hypothesis shrinks, keeps them in order."""
    return np.random.default_rng(seed).permutation(n) if seed else np.arange(n)


def _columns(labels: list[Hashable]) -> st.SearchStrategy[pd.Series]:
    """Return a strategy of columns with these labels, in every dtype that can hold them."""
    objects = pd.Series(labels, dtype=object)
    # Not pandas.unique, which treats tuples as table rows.
    levels = pd.Index(["unused", *reversed(dict.fromkeys(labels)), ("un", "used")], dtype=object, tupleize_cols=False)
    forms = [st.just(objects), st.builds(objects.astype, st.just(pd.CategoricalDtype(levels)))]
    if all(isinstance(label, str) for label in labels):
        forms.insert(1, st.builds(objects.astype, st.just(pd.StringDtype("python"))))
    return st.one_of(forms)


def _indexes(n: int) -> st.SearchStrategy[pd.Index]:
    """Return a strategy of indexes: the row numbers, two other unique indexes, and one with duplicates."""
    rows = np.arange(n)
    return st.sampled_from(
        [pd.RangeIndex(n), pd.Index(rows + 5), pd.Index(rows % 7), "row" + pd.Index(rows).astype(str)]
    )


@st.composite
def sampler_options(
    draw: st.DrawFn, table: pd.DataFrame, *, max_batch_size: int = 24, all_options: bool = False
) -> dict[str, Any]:
    """Return a strategy of options for a batch sampler that are valid for the table.

    Parameters
    ----------
    table : pandas.DataFrame
        Shape (n_anchors, n_columns), with labels in ``experiment`` and ``condition``.
    max_batch_size : int, default 24
        Largest batch size. A batch size larger than the table implies ``drop_last=False``.
    all_options : bool, default False
        Whether to draw ``split_batches``, ``anchors_per_condition`` (None, or 1 to the batch size), ``epoch_batches``
        (None, or up to 6, if the table fills a batch), ``distinct_by`` (None, a column of the table, or two of them),
        ``locality`` (1 to 8) and ``place_by`` (like ``distinct_by``) as well.

    Returns
    -------
    hypothesis.strategies.SearchStrategy
        A strategy of dicts with ``batch_size``, ``experiment_aware``, ``leaky``, ``experiment_weights`` (None, a
        string, or a number for each experiment of the table), ``condition_balanced``, ``condition_ratio`` (None, or a
        number for each condition), ``temporal_enrichment``, ``temporal_window_hours``, ``temporal_global_fraction``,
        ``seed`` and ``drop_last``. Some numbers may be 0, but every experiment has a condition that can be drawn. An
        option may have no effect: a leak with a single experiment, or weights if ``experiment_aware`` is False.

    Examples
    --------
    >>> from hypothesis import find
    >>> table = pd.DataFrame({"experiment": ["a", "b"], "condition": ["x", "x"]})
    >>> find(sampler_options(table), lambda options: isinstance(options["experiment_weights"], dict))["batch_size"]
    1
    """
    batch_size = draw(st.integers(1, max_batch_size))
    schemes = st.sampled_from([None, "proportional", "sqrt", "uniform"])
    options = {
        "batch_size": batch_size,
        "experiment_aware": draw(st.booleans()),
        "leaky": draw(st.sampled_from([0.0, 0.25, 0.05, 1 / 3, 0.9])),
        "experiment_weights": draw(schemes | _weights(table["experiment"])),
        "condition_balanced": draw(st.booleans()),
        "condition_ratio": draw(st.none() | _ratios(table)),
        "temporal_enrichment": draw(st.booleans()),
        "temporal_window_hours": draw(st.sampled_from([0.0, 0.1, 0.5, 100.0])),
        "temporal_global_fraction": draw(st.sampled_from([0.0, 0.3, 0.99, 1.0])),
        "seed": draw(st.integers(0, 2**70)),
        "drop_last": draw(st.booleans()) and batch_size <= len(table),
    }
    return options | draw(_more_options(table, batch_size)) if all_options else options


def _more_options(table: pd.DataFrame, batch_size: int) -> st.SearchStrategy[dict[str, Any]]:
    """Return a strategy of the options of steps, choice, values, runs and the length of an epoch."""
    columns = [["hours_post_infection"], ["condition"], ["experiment", "hours_post_infection"]]
    given = [None, *(by[0] if len(by) == 1 else by for by in columns if set(by) <= set(table.columns))]
    return st.fixed_dictionaries(
        {
            "split_batches": st.booleans(),
            "anchors_per_condition": st.none() | st.integers(1, batch_size),
            "epoch_batches": st.none() | st.integers(1, 6) if batch_size <= len(table) else st.none(),
            "distinct_by": st.sampled_from(given),
            "locality": st.sampled_from([1, 2, 3, 8]),
            "place_by": st.sampled_from(given),
        }
    )


def _weights(labels: pd.Series) -> st.SearchStrategy[dict[Hashable, float]]:
    """Return a strategy of dicts with a number for each label, not all of them 0."""
    each = st.fixed_dictionaries(dict.fromkeys(labels, _WEIGHTS))
    return each.map(lambda weights: weights if any(weights.values()) else dict.fromkeys(weights, 1.0))


def _ratios(table: pd.DataFrame) -> st.SearchStrategy[dict[Hashable, float]]:
    """Return a strategy of dicts with a number for each condition; no experiment has only conditions with 0."""
    conditions_by_experiment: dict[Hashable, set[Hashable]] = {}
    for experiment, condition in zip(table["experiment"], table["condition"], strict=True):
        conditions_by_experiment.setdefault(experiment, set()).add(condition)

    def make_drawable(ratio: dict[Hashable, float]) -> dict[Hashable, float]:
        is_drawable = all(any(ratio[label] for label in labels) for labels in conditions_by_experiment.values())
        return ratio if is_drawable else {condition: share or 1.0 for condition, share in ratio.items()}

    return _weights(table["condition"]).map(make_drawable)
