"""The awkward tables: small anchor tables, each with one trait that batch samplers are known to mishandle."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Mapping
from types import MappingProxyType

import pandas as pd

from viscy_sampling_testkit.tables.anchors import make_anchors
from viscy_sampling_testkit.tables.columns import (
    make_arrow_dtypes,
    make_colliding_keys,
    make_nullable_dtypes,
    make_odd_index,
    make_unused_levels,
)
from viscy_sampling_testkit.tables.composition import make_missing_conditions, make_skewed, make_tiny_groups
from viscy_sampling_testkit.tables.times import (
    make_bursts,
    make_continuous_times,
    make_duplicate_times,
    make_irregular_times,
)


def _awkward_tables() -> Mapping[str, Callable[[], pd.DataFrame]]:
    tables: dict[str, Callable[[], pd.DataFrame]] = {
        "one_experiment": lambda: make_anchors(120, n_experiments=1),
        "one_condition": lambda: make_anchors(120, conditions=["uninfected"]),
        "tiny_groups": lambda: make_tiny_groups(130),
        "condition_missing_from_experiment": lambda: make_missing_conditions(240),
        "rare_condition": lambda: make_skewed(600),
        "many_conditions": lambda: make_anchors(480, conditions=range(24)),
        "irregular_times": lambda: make_irregular_times(200),
        "continuous_times": lambda: make_continuous_times(200),
        "duplicate_times": lambda: make_duplicate_times(120),
        "bursts": lambda: make_bursts(240),
        "categorical_with_unused_levels": lambda: make_unused_levels(160),
        "nullable_dtypes": lambda: make_nullable_dtypes(160),
        "object_strings": lambda: make_anchors(160).astype({"experiment": object, "condition": object}),
        "duplicate_index": lambda: make_odd_index(160),
        "shuffled_index": lambda: make_odd_index(160, kind="shuffled"),
        "text_index": lambda: make_odd_index(160, kind="text"),
        "mixed_key_types": lambda: make_colliding_keys(240),
        "boolean_condition": lambda: make_anchors(240, conditions=[False, True]),
        "integer_experiment": lambda: make_anchors(240, experiments={20260101: 1, 20260102: 1, -1: 1}),
        "keys_with_separators": lambda: make_colliding_keys(200, kind="separators"),
    }
    if importlib.util.find_spec("pyarrow"):
        tables["arrow_dtypes"] = lambda: make_arrow_dtypes(160)
    return MappingProxyType(tables)


AWKWARD_TABLES = _awkward_tables()
"""Read-only mapping from a name to a function without arguments that makes the table.

Every table has 100 to 600 rows and the columns of `make_anchors`; a sampler with a batch size from 8 to 32 should work
on it. ``arrow_dtypes`` is included if pyarrow is installed.
"""
