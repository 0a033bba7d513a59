"""Distinct values: no two rows of a batch share a value of `distinct_by` while a pool of one of them has another."""

import logging
from collections import Counter

import numpy as np
import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from viscy_data import FlexibleBatchSampler
from viscy_data._compose import block, distinct

HOURS = "hours_post_infection"


@pytest.fixture(autouse=True, scope="module")
def _quiet():
    """Silence the warnings about small pools; the tests of warnings set the level again."""
    logging.getLogger("viscy_data").setLevel(logging.ERROR)
    yield
    logging.getLogger("viscy_data").setLevel(logging.NOTSET)


def make_lineages(*strata, n_times=10):
    """Make a table of strata (experiment, condition, rows of each lineage); lineages have numbers of their own."""
    rows, lineage = [], 0
    for experiment, condition, lengths in strata:
        for length in lengths:
            rows += [(experiment, condition, time % n_times, f"cell {lineage}") for time in range(length)]
            lineage += 1
    return pd.DataFrame(rows, columns=["experiment", "condition", HOURS, "lineage"])


# the law


@st.composite
def cases(draw):
    n = draw(st.integers(4, 60))
    seed = draw(st.integers(0, 2**20))
    rng = np.random.default_rng(seed)
    n_values = draw(st.sampled_from([1, 2, 4, 10, 60]))
    value = rng.integers(0, n_values, n)
    if draw(st.booleans()):
        value[: n // 2] = 0  # one value with half of the rows
    table = pd.DataFrame(
        {
            "experiment": rng.integers(0, draw(st.integers(1, 3)), n),
            "condition": rng.integers(0, draw(st.integers(1, 3)), n),
            HOURS: rng.integers(0, 5, n) * 0.5,
            "lineage": value,
            "plate": rng.integers(0, 2, n),
        }
    )
    if draw(st.booleans()):  # a value belongs to one group and one condition
        table["lineage"] = table["lineage"] * 9 + table["experiment"] * 3 + table["condition"]
    batch_size = draw(st.integers(1, min(n, 16)))
    options = {
        "batch_size": batch_size,
        "leaky": draw(st.sampled_from([0.0, 0.3, 0.8])),
        "experiment_aware": draw(st.booleans()),
        "condition_balanced": draw(st.booleans()),
        "temporal_enrichment": draw(st.booleans()),
        "temporal_global_fraction": draw(st.sampled_from([0.0, 0.4, 1.0])),
        "temporal_window_hours": draw(st.sampled_from([0.0, 0.5])),
        "experiment_weights": draw(st.sampled_from([None, "uniform"])),
        "anchors_per_condition": draw(st.sampled_from([None, 1, max(1, batch_size // 2)])),
        "epoch_batches": draw(st.sampled_from([None, 2])),
        "drop_last": draw(st.booleans()),
        "seed": seed,
    }
    return table, options, draw(st.sampled_from(["lineage", ("lineage", "plate")]))


def assert_law(rows, parts, leak, values):
    """Check the slots of batches against their pools by plain counting."""
    index = values.index
    stops = np.cumsum(parts.slots.reshape(len(rows), -1), axis=1)
    for batch, slots in enumerate(rows):
        codes = index.values.value_code[slots]
        count = Counter(codes.tolist())
        for slot, code in enumerate(codes.tolist()):
            part = int((stops[batch] <= slot).sum())
            start, size, own = (getattr(parts, name)[batch].ravel()[part] for name in ("start", "size", "own"))
            pool = leak.rows(start + np.arange(size), np.full(size, own)).tolist()
            assert slots[slot] in pool
            lacking = [row for row in pool if index.values.value_code[row] not in count]
            assert count[code] == 1 or not lacking, (batch, slot, code, lacking)


@pytest.fixture
def checked(monkeypatch):
    """Check the law after rows are replaced; return the numbers of batches that were checked."""
    sizes = []

    def replace_repeats(rows, parts, leak, values, key):
        distinct.replace_repeats(rows, parts, leak, values, key)
        assert_law(rows, parts, leak, values)
        sizes.append(len(rows))

    monkeypatch.setattr(block, "replace_repeats", replace_repeats)
    return sizes


@settings(max_examples=100, deadline=None, suppress_health_check=list(HealthCheck))
@given(case=cases())
def test_no_value_is_repeated_while_a_pool_has_another(checked, case):
    table, options, by = case
    sampler = FlexibleBatchSampler(table, distinct_by=by, **options)
    plain = FlexibleBatchSampler(table, **options)
    checked.clear()
    for epoch in (0, 1):
        for k in range(sampler.planned().n_batches + 1):
            batch, other = sampler.batch(k, epoch), plain.batch(k, epoch)
            assert len(batch) == len(other)
            counted = ["condition"] if options["condition_balanced"] else []
            counted += ["experiment"] if options["experiment_aware"] and not options["leaky"] else []
            for column in counted:
                assert Counter(table[column].iloc[batch]) == Counter(table[column].iloc[other])
    assert sum(checked) > 0
