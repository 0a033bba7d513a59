"""The awkward tables: small anchor tables, each with one trait that batch samplers are known to stumble over."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Hashable, Mapping
from types import MappingProxyType

import numpy as np
import pandas as pd

from viscy_sampling_testkit.anchors import make_anchors


def _of_sizes(sizes: Mapping[tuple[str, str], int]) -> pd.DataFrame:
    """Return a shuffled table with the given number of rows for each (experiment, condition)."""
    anchors = make_anchors(
        sum(sizes.values()), experiments={f"{e}/{c}": n for (e, c), n in sizes.items()}, n_timepoints=12
    )
    cell = anchors["experiment"].map({f"{e}/{c}": i for i, (e, c) in enumerate(sizes)}).to_numpy(int)
    anchors["experiment"] = np.array([e for e, _ in sizes], object)[cell]
    anchors["condition"] = np.array([c for _, c in sizes], object)[cell]
    return anchors


def _relabelled(column: str, labels: list[Hashable], dtype: str | None = None) -> pd.DataFrame:
    """Return a plain table in which a column holds these labels instead."""
    anchors = make_anchors(240, n_experiments=len(labels), conditions=range(len(labels)))
    codes = pd.factorize(anchors[column], sort=True)[0]
    values = np.empty(len(labels), object)
    values[:] = labels
    anchors[column] = pd.Series(values[codes], dtype=dtype or object)
    if column == "experiment":
        anchors["condition"] = np.where(anchors["condition"] == 0, "uninfected", "infected")
    return anchors


def _one_experiment() -> pd.DataFrame:
    return make_anchors(120, n_experiments=1)


def _one_condition() -> pd.DataFrame:
    return make_anchors(120, conditions=["uninfected"])


def _tiny_groups() -> pd.DataFrame:
    tiny = {(f"tiny{i}", c): 1 for i in range(3) for c in ("uninfected", "infected")[: 1 + i % 2]}
    return _of_sizes({("large", "uninfected"): 60, ("large", "infected"): 60, **tiny, ("three", "infected"): 3})


def _condition_missing_from_experiment() -> pd.DataFrame:
    return _of_sizes({("exp0", "uninfected"): 80, ("exp0", "infected"): 40, ("exp1", "uninfected"): 80})


def _rare_condition() -> pd.DataFrame:
    return make_anchors(600, conditions={"uninfected": 99, "infected": 1})


def _many_conditions() -> pd.DataFrame:
    return make_anchors(480, conditions=[f"drug{i:02d}" for i in range(24)])


def _irregular_times() -> pd.DataFrame:
    return make_anchors(200, regular_times=False)


def _duplicate_times() -> pd.DataFrame:
    return make_anchors(120).assign(hours_post_infection=12.0)


def _bursts() -> pd.DataFrame:
    # Times within minutes of 2, 20 and 70 hours, with nothing between.
    anchors = make_anchors(240, regular_times=False)
    start = np.array([2.0, 20.0, 70.0])[np.arange(len(anchors)) % 3]
    return anchors.assign(hours_post_infection=start + anchors["hours_post_infection"] / 240)


def _categorical_with_unused_levels() -> pd.DataFrame:
    anchors = make_anchors(160)
    for column in ("experiment", "condition"):
        levels = ["never drawn", *sorted(set(anchors[column]), reverse=True), "nor this"]
        anchors[column] = pd.Categorical(anchors[column], categories=levels)
    return anchors


def _nullable_dtypes() -> pd.DataFrame:
    anchors = make_anchors(160, conditions=[0, 1])
    python_strings = pd.StringDtype("python")
    return anchors.astype({"experiment": python_strings, "condition": "Int64", "hours_post_infection": "Float64"})


def _arrow_dtypes() -> pd.DataFrame:
    dtypes = {
        "experiment": "string[pyarrow]",
        "condition": "string[pyarrow]",
        "hours_post_infection": "double[pyarrow]",
    }
    return make_anchors(160).astype(dtypes)


def _object_strings() -> pd.DataFrame:
    return make_anchors(160).astype({"experiment": object, "condition": object})


def _duplicate_index() -> pd.DataFrame:
    anchors = make_anchors(160)
    return anchors.set_index(pd.Index(np.arange(len(anchors)) % 7))


def _text_index() -> pd.DataFrame:
    anchors = make_anchors(160)
    return anchors.set_index(pd.Index([f"cell {i}" for i in range(len(anchors))]))


def _mixed_key_types() -> pd.DataFrame:
    return _relabelled("condition", [1, "1"])


def _boolean_condition() -> pd.DataFrame:
    return _relabelled("condition", [False, True], "bool")


def _integer_experiment() -> pd.DataFrame:
    return _relabelled("experiment", [20260101, 20260102, -1], "int64")


def _keys_with_separators() -> pd.DataFrame:
    # Pairs that are equal once their parts are joined by a separator.
    return _of_sizes({("a|b", "c"): 50, ("a", "b|c"): 50, ("a_b", "c"): 50, ("a", "b_c"): 50})


def _awkward_tables() -> Mapping[str, Callable[[], pd.DataFrame]]:
    tables = [
        _one_experiment,
        _one_condition,
        _tiny_groups,
        _condition_missing_from_experiment,
        _rare_condition,
        _many_conditions,
        _irregular_times,
        _duplicate_times,
        _bursts,
        _categorical_with_unused_levels,
        _nullable_dtypes,
        _object_strings,
        _duplicate_index,
        _text_index,
        _mixed_key_types,
        _boolean_condition,
        _integer_experiment,
        _keys_with_separators,
    ]
    if importlib.util.find_spec("pyarrow"):
        tables.append(_arrow_dtypes)
    return MappingProxyType({table.__name__.removeprefix("_"): table for table in tables})


AWKWARD_TABLES = _awkward_tables()
"""Read-only mapping of name to a function without arguments that makes the table.

Every table has at most 600 rows, at least 100, and the columns of `make_anchors`; a sampler with a batch size from 8
to 32 is expected to work on it. ``arrow_dtypes`` is there where pyarrow is installed.
"""
