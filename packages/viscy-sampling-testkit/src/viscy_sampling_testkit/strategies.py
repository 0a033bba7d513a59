"""Hypothesis strategies: small tables that hold what samplers stumble over, and options that are valid for them.

Needs ``viscy-sampling-testkit[hypothesis]``; the rest of the package does not.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from typing import Any

import numpy as np
import pandas as pd

from viscy_sampling_testkit.tables._sizes import weights_of

try:
    from hypothesis import strategies as st
except ImportError as error:
    raise ImportError(
        "viscy_sampling_testkit.strategies needs hypothesis; install viscy-sampling-testkit[hypothesis]"
    ) from error

# The simplest label of each first: that is what hypothesis shrinks to.
_EXPERIMENTS: tuple[Hashable, ...] = ("a", "b", "1", 1, ("a", "b"))
_CONDITIONS: tuple[Hashable, ...] = ("x", "y", 0, "0")
# Among them sums that are equal only but for floating point noise, and times before infection.
_HOURS = st.sampled_from([0.0, 1.0, 0.1, 0.2, 0.30000000000000004, 2.5, -3.0, 48.0])
_WEIGHTS = st.sampled_from([1.0, 2.0, 0.0, 1 / 3, 50.0])


def anchor_tables(
    *,
    experiments: Sequence[Hashable] = _EXPERIMENTS,
    conditions: Sequence[Hashable] = _CONDITIONS,
    hours: st.SearchStrategy[float] = _HOURS,
    max_cells: int = 8,
    max_rows_a_cell: int = 25,
) -> st.SearchStrategy[pd.DataFrame]:
    """Return a strategy of anchor tables: few rows, with every kind of imbalance, label, column and index.

    Experiments lack conditions, have one row, share no time with each other; labels are equal as text, or tuples;
    columns are of objects, of strings or categoricals with unused levels; an index may have labels twice. What is
    found shrinks to few rows, in order, with the first labels and times, in plain columns with a plain index.

    Parameters
    ----------
    experiments, conditions : sequence, optional
        The labels to draw from, the simplest first. By default some are different values but equal as text.
    hours : strategy of float, optional
        The times to draw from; a table has at most eight of them.
    max_cells : int, default 8
        Largest number of (experiment, condition) that have rows.
    max_rows_a_cell : int, default 25
        Largest number of rows of each.

    Returns
    -------
    hypothesis.strategies.SearchStrategy
        Of data frames of shape (n_anchors, 3): ``experiment``, ``condition``, ``hours_post_infection`` (float, hours).

    Raises
    ------
    TypeError
        If `experiments` or `conditions` is a string.
    ValueError
        If one of them has no label, or one twice.

    Examples
    --------
    >>> from hypothesis import find
    >>> find(anchor_tables(), lambda table: len(table) >= 2)
      experiment condition  hours_post_infection
    0          a         x                   0.0
    1          a         x                   0.0
    """
    weights_of("experiments", experiments)
    weights_of("conditions", conditions)
    return _anchor_tables(experiments, conditions, hours, max_cells, max_rows_a_cell)


@st.composite
def _anchor_tables(
    draw: st.DrawFn,
    experiments: Sequence[Hashable],
    conditions: Sequence[Hashable],
    hours: st.SearchStrategy[float],
    max_cells: int,
    max_rows_a_cell: int,
) -> pd.DataFrame:
    cell = st.tuples(st.integers(0, len(experiments) - 1), st.integers(0, len(conditions) - 1))
    cells = draw(st.dictionaries(cell, st.integers(1, max_rows_a_cell), min_size=1, max_size=max_cells))
    held = np.repeat(np.array(list(cells)), list(cells.values()), axis=0)
    order = _order(len(held), draw(st.integers(0, 2**16)))
    # Of a few times, so that often all rows, or most, have the same.
    times = st.sampled_from(draw(st.lists(hours, min_size=1, max_size=8)))
    table = pd.DataFrame(
        {
            "experiment": draw(_columns([experiments[i] for i in held[order, 0]])),
            "condition": draw(_columns([conditions[i] for i in held[order, 1]])),
            "hours_post_infection": draw(st.lists(times, min_size=len(held), max_size=len(held))),
        }
    )
    return table.set_axis(draw(_indexes(len(table))), axis=0)


def _order(n: int, seed: int) -> np.ndarray:
    """Return an order of n rows, shape (n,); that of seed 0, to which hypothesis shrinks, is as they come."""
    return np.random.default_rng(seed).permutation(n) if seed else np.arange(n)


def _columns(labels: list[Hashable]) -> st.SearchStrategy[pd.Series]:
    """Return a strategy of columns of these labels: of objects, and of what else can hold them."""
    objects = pd.Series(labels, dtype=object)
    # Not by pandas.unique, to which tuples are rows of a table.
    levels = pd.Index(["unused", *reversed(dict.fromkeys(labels)), ("un", "used")], dtype=object, tupleize_cols=False)
    forms = [st.just(objects), st.builds(objects.astype, st.just(pd.CategoricalDtype(levels)))]
    if all(isinstance(label, str) for label in labels):
        forms.insert(1, st.builds(objects.astype, st.just(pd.StringDtype("python"))))
    return st.one_of(forms)


def _indexes(n: int) -> st.SearchStrategy[pd.Index]:
    """Return a strategy of indexes: that of positions, others that are unique, and one that is not."""
    rows = np.arange(n)
    return st.sampled_from(
        [pd.RangeIndex(n), pd.Index(rows + 5), pd.Index(rows % 7), "row" + pd.Index(rows).astype(str)]
    )


@st.composite
def sampler_options(draw: st.DrawFn, table: pd.DataFrame, *, max_batch_size: int = 24) -> dict[str, Any]:
    """Return a strategy of options of a batch sampler, always valid for the table.

    Parameters
    ----------
    table : pandas.DataFrame
        Shape (n_anchors, n_columns), with labels in ``experiment`` and ``condition``.
    max_batch_size : int, default 24
        Largest size of a batch. One that is larger than the table comes with ``drop_last=False``.

    Returns
    -------
    hypothesis.strategies.SearchStrategy
        Of dicts with ``batch_size``, ``experiment_aware``, ``leaky``, ``experiment_weights`` (None, a word, or a number
        for each experiment of the table), ``condition_balanced``, ``condition_ratio`` (None, or a number for each
        condition), ``temporal_enrichment``, ``temporal_window_hours``, ``temporal_global_fraction``, ``seed`` and
        ``drop_last``. Some numbers may be 0; every experiment keeps a condition to draw. An option may be without
        effect: a leak of a single experiment, weights where ``experiment_aware`` is False.

    Examples
    --------
    >>> from hypothesis import find
    >>> table = pd.DataFrame({"experiment": ["a", "b"], "condition": ["x", "x"]})
    >>> find(sampler_options(table), lambda options: isinstance(options["experiment_weights"], dict))["batch_size"]
    1
    """
    batch_size = draw(st.integers(1, max_batch_size))
    words = st.sampled_from([None, "proportional", "sqrt", "uniform"])
    return {
        "batch_size": batch_size,
        "experiment_aware": draw(st.booleans()),
        "leaky": draw(st.sampled_from([0.0, 0.25, 0.05, 1 / 3, 0.9])),
        "experiment_weights": draw(words | _weights(table["experiment"])),
        "condition_balanced": draw(st.booleans()),
        "condition_ratio": draw(st.none() | _ratios(table)),
        "temporal_enrichment": draw(st.booleans()),
        "temporal_window_hours": draw(st.sampled_from([0.0, 0.1, 0.5, 100.0])),
        "temporal_global_fraction": draw(st.sampled_from([0.0, 0.3, 0.99, 1.0])),
        "seed": draw(st.integers(0, 2**70)),
        "drop_last": draw(st.booleans()) and batch_size <= len(table),
    }


def _weights(labels: pd.Series) -> st.SearchStrategy[dict[Hashable, float]]:
    """Return a strategy of a number for each label, not all of them 0."""
    each = st.fixed_dictionaries(dict.fromkeys(labels, _WEIGHTS))
    return each.map(lambda weights: weights if any(weights.values()) else dict.fromkeys(weights, 1.0))


def _ratios(table: pd.DataFrame) -> st.SearchStrategy[dict[Hashable, float]]:
    """Return a strategy of a number for each condition, such that no experiment has only conditions of 0."""
    held: dict[Hashable, set[Hashable]] = {}
    for experiment, condition in zip(table["experiment"], table["condition"], strict=True):
        held.setdefault(experiment, set()).add(condition)

    def drawable(ratio: dict[Hashable, float]) -> dict[Hashable, float]:
        fit = all(any(ratio[condition] for condition in own) for own in held.values())
        return ratio if fit else {condition: share or 1.0 for condition, share in ratio.items()}

    return _weights(table["condition"]).map(drawable)
