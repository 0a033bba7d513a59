"""Distinct values: no two rows of a batch share a value of `distinct_by` while a pool of one of them has another."""

import logging
from collections import Counter

import numpy as np
import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from viscy_data import AnchorIndex, FlexibleBatchSampler
from viscy_data._compose import block, distinct
from viscy_sampling_testkit import assert_drawn_evenly, assert_uniform

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


@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
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


def test_a_slot_that_can_change_does_not_keep_a_value_for_one_that_cannot(checked):
    """The only row that may leak has the value of a primary slot, which has others to choose from."""
    table = make_lineages(("a", "x", [3] * 8), ("b", "x", [1]))
    table.loc[24, "lineage"] = "cell 0"
    sampler = FlexibleBatchSampler(table, 8, leaky=0.125, distinct_by="lineage", experiment_weights={"a": 1, "b": 1e-9})
    for k in range(100):
        assert table["lineage"].iloc[sampler.batch(k)].nunique() == 8
    assert sum(checked) == 100


def test_batches_that_have_all_values_of_their_pools_repeat_them(checked):
    table = make_lineages(("a", "x", [20] * 3), ("b", "x", [30] * 2), n_times=5)
    for options in ({}, {"temporal_enrichment": True, "temporal_window_hours": 1.0}, {"leaky": 0.3}):
        for batch in FlexibleBatchSampler(table, 10, distinct_by="lineage", **options):
            assert len(set(batch)) == 10
    assert sum(checked) > 0


def test_a_value_of_which_a_pool_has_one_row_in_many_is_used(checked):
    """A random draw seldom has the second value, so all rows of the pool are looked through."""
    table = make_lineages(("a", "x", [5000, 1]))
    for options in ({}, {"temporal_enrichment": True, "temporal_global_fraction": 0.9}):
        sampler = FlexibleBatchSampler(table, 2, distinct_by="lineage", **options)
        assert all(5000 in sampler.batch(k) for k in range(20)) or "temporal_enrichment" in options
    assert sum(checked) > 0


# coverage and chances


@pytest.mark.parametrize("options", [{}, {"condition_balanced": False}, {"epoch_batches": 7}, {"drop_last": False}])
def test_a_stratum_is_drawn_without_replacement(options):
    rng = np.random.default_rng(1)
    lengths = [rng.integers(1, 12, 60).tolist() for _ in range(4)]
    names = [("a", "x"), ("a", "y"), ("b", "x"), ("b", "y")]
    table = make_lineages(*((*name, rows) for name, rows in zip(names, lengths, strict=True)))
    table = table.sample(frac=1, random_state=0).reset_index(drop=True)
    columns = ["experiment", "condition"] if options.get("condition_balanced", True) else ["experiment"]
    strata = list(zip(*(table[name] for name in columns), strict=True))
    sampler = FlexibleBatchSampler(table, 24, distinct_by="lineage", **options)
    n_epochs = -(-len(table) // 24 // 7) if "epoch_batches" in options else 1
    batches = [batch for epoch in range(n_epochs) for batch in (sampler.batch(k, epoch) for k in range(len(sampler)))]
    for stop in (5, len(batches) // 2, len(batches)):
        assert_drawn_evenly(batches[:stop], strata)
    assert all(table["lineage"].iloc[batch].nunique() == len(batch) for batch in batches)


def test_a_value_with_too_many_rows_does_not_keep_others_from_being_drawn():
    """Half of the rows have one value, which every batch has once; the others have the rest of the slots."""
    table = make_lineages(("a", "x", [400] + [5] * 80))
    sampler = FlexibleBatchSampler(table, 16, condition_balanced=False, distinct_by="lineage")
    drawn = np.bincount(np.concatenate(list(sampler)), minlength=800)
    assert drawn[:400].sum() == len(sampler) == 50
    assert (drawn[400:] > 0).mean() > 0.95


@pytest.mark.parametrize("enriched", [False, True])
def test_every_row_is_equally_likely_at_every_slot(enriched):
    """Lineages have equally many rows. Chi-square with a false alarm rate of 1e-6 a slot; one batch of each epoch."""
    table = make_lineages(("a", "x", [3] * 12), n_times=3)
    options = {"temporal_enrichment": enriched, "temporal_window_hours": 9.0, "condition_balanced": False}
    sampler = FlexibleBatchSampler(table, 5, distinct_by="lineage", as_arrays=True, **options)
    drawn = np.array([sampler.batch(2, epoch) for epoch in range(600)])
    assert_uniform(np.bincount(drawn.ravel(), minlength=36))
    for slot in (0, 4):
        assert_uniform(np.bincount(drawn[:, slot], minlength=36))


def test_without_enrichment_rows_of_long_and_short_lineages_are_equally_likely():
    table = make_lineages(("a", "x", [1, 2, 3, 4, 5, 6] * 6))
    sampler = FlexibleBatchSampler(table, 9, condition_balanced=False, distinct_by="lineage", as_arrays=True)
    drawn = np.array([sampler.batch(3, epoch) for epoch in range(800)])
    assert_uniform(np.bincount(drawn.ravel(), minlength=126))


def test_lineages_meet_different_lineages_within_an_epoch():
    """In the passes of an epoch, one lineage is in batches with more than half of the others."""
    table = make_lineages(("a", "x", [20] * 100))
    sampler = FlexibleBatchSampler(table, 16, condition_balanced=False, distinct_by="lineage")
    lineage = table["lineage"].to_numpy()
    met = {name for batch in sampler for name in lineage[batch] if "cell 7" in lineage[batch]}
    assert len(met) > 55


# everything else stays


def test_ranks_and_resumed_runs_share_the_sequence():
    table = make_lineages(("a", "x", [7] * 30), ("b", "x", [9] * 30))
    options = {"distinct_by": "lineage", "leaky": 0.2, "temporal_enrichment": True}
    single = FlexibleBatchSampler(table, 12, **options)
    expected = [single.batch(k, 0) for k in range(len(single))]
    assert list(single) == expected
    ranks = [list(FlexibleBatchSampler(table, 12, num_replicas=2, rank=rank, **options)) for rank in range(2)]
    assert [batch for step in zip(*ranks, strict=True) for batch in step][: len(expected)] == expected
    first = FlexibleBatchSampler(table, 12, **options)
    iterator = iter(first)
    drawn = [next(iterator) for _ in range(5)]
    resumed = FlexibleBatchSampler(table, 12, **options)
    resumed.load_state_dict(first.state_dict())
    assert drawn + list(resumed) == expected


def test_a_state_of_other_values_is_refused():
    table = make_lineages(("a", "x", [4] * 10))
    state = FlexibleBatchSampler(table, 8, distinct_by="lineage").state_dict()
    other = table.assign(lineage=table["lineage"].to_numpy()[::-1])
    other.loc[0, "lineage"] = "cell 3"
    with pytest.raises(ValueError, match="valid_anchors differs"):
        FlexibleBatchSampler(other, 8, distinct_by="lineage").load_state_dict(state)
    with pytest.raises(ValueError, match="valid_anchors differs"):
        FlexibleBatchSampler(table, 8).load_state_dict(state)


@pytest.mark.parametrize("dtype", ["category", "string", "string[pyarrow]", object])
def test_the_type_of_the_column_does_not_matter(dtype):
    table = make_lineages(("a", "x", [4] * 30))
    expected = list(FlexibleBatchSampler(table, 8, distinct_by="lineage"))
    assert list(FlexibleBatchSampler(table.astype({"lineage": dtype}), 8, distinct_by="lineage")) == expected


# errors and warnings


def test_the_column_must_exist_and_have_no_missing_values():
    table = make_lineages(("a", "x", [4] * 10))
    with pytest.raises(ValueError, match=r"distinct_by needs exactly one column 'track', .* or set distinct_by=None"):
        FlexibleBatchSampler(table, 8, distinct_by="track")
    table.loc[3, "lineage"] = None
    with pytest.raises(ValueError, match=r"must have no missing values \(distinct_by uses it\), got 1 of 40"):
        FlexibleBatchSampler(table, 8, distinct_by="lineage")
    with pytest.raises(ValueError, match=r"distinct_by needs exactly one column 'track'"):
        AnchorIndex.build(table, distinct_by=["condition", "track"])


def test_groups_with_few_values_are_counted(collect_warnings):
    logging.getLogger("viscy_data").setLevel(logging.NOTSET)
    table = make_lineages(("a", "x", [9] * 3), ("b", "x", [9] * 8))
    (message,) = collect_warnings(table, 8, distinct_by="lineage")
    assert message == (
        "1 of 2 groups have fewer values of distinct_by='lineage' than they need for a batch of 8: batches repeat "
        "values (first: 'a')"
    )
    assert collect_warnings(table, 3, distinct_by="lineage") == []
    logging.getLogger("viscy_data").setLevel(logging.ERROR)
