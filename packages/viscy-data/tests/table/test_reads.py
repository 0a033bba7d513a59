"""Construction reads a table once: its size, and each column of an axis that is on."""

from collections import Counter

import numpy as np
import pandas as pd
import pytest

from viscy_data import AnchorIndex, FlexibleBatchSampler
from viscy_data._table import tables

TABLE = pd.DataFrame(
    {
        "experiment": ["monday", "tuesday"] * 20,
        "condition": ["mock"] * 40,
        "hours_post_infection": np.arange(40) * 0.5,
    }
)
TIME = "hours_post_infection"


@pytest.fixture
def checked(monkeypatch):
    """Count calls of `check_table`."""
    calls, check = [], tables.check_table
    monkeypatch.setattr(tables, "check_table", lambda anchors: calls.append(anchors) or check(anchors))
    return calls


@pytest.mark.parametrize(
    ("options", "columns"),
    [
        ({}, ["experiment", "condition"]),
        ({"experiment_aware": False}, ["condition"]),
        ({"temporal_enrichment": True}, ["experiment", "condition", TIME]),
        ({"temporal_enrichment": True, "temporal_global_fraction": 1.0}, ["experiment", "condition", TIME]),
        ({"experiment_by": ("experiment", "condition")}, ["experiment", "condition", "condition"]),
    ],
)
def test_a_sampler_checks_its_table_once_and_reads_each_column_of_its_axes_once(options, columns, checked):
    reads = Counter()
    source = tables.as_table(TABLE)
    table = tables.Table(source.names, source.n_rows, lambda name: reads.update([name]) or source.column(name))
    FlexibleBatchSampler(table, 8, **options)
    assert reads == Counter(columns)
    assert len(checked) == 1


def test_an_index_is_not_checked_again(checked):
    index = AnchorIndex.build(TABLE, time_by=None)
    FlexibleBatchSampler(index, 8)
    assert len(checked) == 1


def test_times_are_checked_where_enrichment_has_no_effect():
    broken = TABLE.assign(hours_post_infection=np.inf)
    with pytest.raises(ValueError, match="times must be finite, got 40 infinite values"):
        FlexibleBatchSampler(broken, 8, temporal_enrichment=True, temporal_global_fraction=1.0)
