"""The anchor index: columns as codes, rows sorted once, and temporal windows as slices."""

import datetime
from collections import Counter

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from viscy_data import FlexibleBatchSampler
from viscy_data._table.columns import Codes, constant_codes, label_codes, time_codes
from viscy_data._table.tables import as_table
from viscy_data.index import AnchorIndex
from viscy_sampling_testkit import AWKWARD_TABLES, assert_positions


def encode(values, by="x"):
    return label_codes(as_table(pd.DataFrame({"x": values})), "condition", by)


# columns


@pytest.mark.parametrize(
    ("values", "labels"),
    [
        (["b", "a", "b"], ("a", "b")),
        ([3, 1, 2], (1, 2, 3)),
        ([True, False, True], (False, True)),
        ([1.5, -0.5, 1.5], (-0.5, 1.5)),
        (pd.Categorical(["b", "a"], categories=["unused", "b", "a"]), ("a", "b")),
        (pd.array([2, 1], dtype="Int64"), (1, 2)),
        (pd.array(["b", "a"], dtype="string"), ("a", "b")),
        (pd.Series(["b", "a"], dtype="string[pyarrow]"), ("a", "b")),
        (pd.Series([2, 1], dtype="int64[pyarrow]"), (1, 2)),
        (pd.Series([1, "1", "a"], dtype=object), (1, "1", "a")),
        (pd.Series([("b", 1), ("a", 2)], dtype=object), (("a", 2), ("b", 1))),
    ],
)
def test_labels_are_the_distinct_values_in_order(values, labels):
    codes = encode(values)
    assert codes.labels == labels
    assert [codes.labels[code] for code in codes.codes] == [label for label in pd.Series(values)]  # noqa: C416
    assert all(not isinstance(label, np.generic) for label in codes.labels)


def test_labels_are_values_not_text():
    frame = pd.DataFrame({"a": ["a|b", "a"], "b": ["c", "b|c"]})
    assert label_codes(as_table(frame), "condition", ("a", "b")).labels == (("a", "b|c"), ("a|b", "c"))


def test_dates_are_labels():
    days = pd.to_datetime(["2026-01-02", "2026-01-01"])
    assert encode(days).labels == (pd.Timestamp("2026-01-01"), pd.Timestamp("2026-01-02"))
    assert encode([datetime.date(2026, 1, 2)]).labels == (datetime.date(2026, 1, 2),)


@given(st.lists(st.tuples(st.integers(0, 4), st.sampled_from("xyz"), st.booleans()), min_size=1, max_size=30))
def test_combinations_of_columns_are_those_that_occur(rows):
    frame = pd.DataFrame(rows, columns=["a", "b", "c"])
    codes = label_codes(as_table(frame), "experiment", ("a", "b", "c"))
    assert codes.labels == tuple(sorted(set(rows)))
    assert [codes.labels[code] for code in codes.codes] == rows


@pytest.mark.parametrize(("n_labels", "dtype"), [(256, np.uint8), (257, np.uint16), (70_000, np.uint32)])
def test_codes_have_the_smallest_type_that_holds_them(n_labels, dtype):
    assert encode(np.arange(n_labels)).codes.dtype == dtype


@pytest.mark.parametrize("dtype", [float, "float32", "float16", int, "Int32", "Float64", "double[pyarrow]"])
def test_times_can_have_any_numeric_type(dtype):
    frame = pd.DataFrame({"t": pd.Series([4, 2, 2, 0]).astype(dtype)})
    codes = time_codes(as_table(frame), "t")
    assert list(codes.labels) == [0.0, 2.0, 4.0]
    assert codes.codes.tolist() == [2, 1, 1, 0]


@pytest.mark.parametrize(
    ("dtype", "plain"),
    [
        ("float16", "float16"),
        ("float32", "float32"),
        ("Float32", "float32"),
        ("float[pyarrow]", "float32"),
        ("float64", "float64"),
        ("Int64", "float64"),
    ],
)
def test_the_tolerance_of_times_follows_their_type(dtype, plain):
    frame = pd.DataFrame({"t": pd.Series([4, 2, 2, 0]).astype(dtype)})
    assert time_codes(as_table(frame), "t").tolerance == 4 * np.finfo(plain).eps


# index


def random_codes(rng, n, n_labels):
    return Codes(tuple(range(n_labels)), rng.integers(0, n_labels, n).astype(np.uint16))


@settings(deadline=None)
@given(
    n=st.integers(1, 300),
    shape=st.tuples(st.integers(1, 5), st.integers(1, 4), st.sampled_from([1, 7, 300, 40_000])),
    seed=st.integers(0, 10**6),
)
def test_every_pool_is_a_slice_of_the_sorted_rows(n, shape, seed):
    rng = np.random.default_rng(seed)
    group, condition, time = (random_codes(rng, n, size) for size in shape)
    time = Codes(np.sort(rng.normal(size=shape[2])), time.codes)
    index = AnchorIndex.from_codes(group, condition, time)
    assert len(index) == n
    axes = [axis.codes[index.order] for axis in (group, condition, time)]
    keys = list(zip(*axes, index.order, strict=True))
    assert keys == sorted(keys)
    for g in range(shape[0]):
        for c in range(shape[1]):
            start, size = index.stratum_start[g, c], index.stratum_size[g, c]
            expected = np.flatnonzero((group.codes == g) & (condition.codes == c))
            assert sorted(index.order[start : start + size]) == expected.tolist()
    times, start = index.times_of_groups()
    for g in range(shape[0]):
        assert times[start[g] : start[g + 1]].tolist() == sorted(set(time.codes[group.codes == g].tolist()))
    g, t = rng.integers(0, shape[0]), rng.integers(0, shape[2])
    starts, sizes = index.window(np.array([g]), np.array([t]), 0.4)
    near = np.abs(time.labels[time.codes] - time.labels[t]) <= 0.4
    for c in range(shape[1]):
        rows = index.order[starts[0, c] : starts[0, c] + sizes[0, c]]
        assert sorted(rows) == np.flatnonzero(near & (group.codes == g) & (condition.codes == c)).tolist()


def test_a_window_includes_times_that_differ_from_its_edge_only_by_rounding():
    """With a half-width of 0.1 around 0.2, the edge 0.1 + 0.2 differs from 0.3 in floating point and is included."""
    frame = pd.DataFrame({"t": [0.1, 0.2, 0.1 + 0.2, 0.4]})
    off = Codes((None,), np.zeros(4, np.uint8))
    index = AnchorIndex.from_codes(off, off, time_codes(as_table(frame), "t"))
    start, size = index.window(np.array([0]), np.array([1]), 0.1)
    assert (start[0, 0], size[0, 0]) == (0, 3)


def test_a_window_does_not_widen_when_another_time_is_far_away():
    frame = pd.DataFrame({"t": [0.0, 0.5, 1.0, 1e16]})
    off = Codes((None,), np.zeros(4, np.uint8))
    index = AnchorIndex.from_codes(off, off, time_codes(as_table(frame), "t"))
    start, size = index.window(np.array([0]), np.array([1]), 0.25)
    assert (start[0, 0], size[0, 0]) == (1, 1)


def test_combinations_of_many_wide_columns_do_not_overflow():
    rng = np.random.default_rng(0)
    frame = pd.DataFrame({f"c{i}": rng.permutation(20_000) for i in range(5)})
    codes = label_codes(as_table(frame), "experiment", tuple(frame))
    assert codes.labels == tuple(sorted(zip(*(frame[name].tolist() for name in frame), strict=True)))


def test_too_many_pairs_of_group_and_condition_raise_an_error():
    rng = np.random.default_rng(0)
    with pytest.raises(ValueError, match=r"at most 16777216 pairs of group and condition, got 5000 groups x 5000"):
        AnchorIndex.from_codes(random_codes(rng, 9, 5000), random_codes(rng, 9, 5000), random_codes(rng, 9, 1))


def test_the_digest_depends_on_the_content():
    rng = np.random.default_rng(0)
    axes = [random_codes(rng, 50, size) for size in (3, 2, 5)]
    digest = AnchorIndex.from_codes(*axes).digest
    assert AnchorIndex.from_codes(*axes).digest == digest
    changed = axes[1].codes.copy()
    changed[30] = 1 - changed[30]
    assert AnchorIndex.from_codes(axes[0], Codes((0, 1), changed), axes[2]).digest != digest
    assert AnchorIndex.from_codes(axes[0], Codes(("0", "1"), axes[1].codes), axes[2]).digest != digest


@settings(deadline=None)
@given(
    n=st.integers(1, 200),
    shape=st.tuples(st.integers(1, 3), st.integers(1, 3), st.sampled_from([1, 5, 40, 300])),
    seed=st.integers(0, 10**6),
)
def test_without_times_the_rows_of_a_stratum_are_in_order_of_their_values(n, shape, seed):
    rng = np.random.default_rng(seed)
    group, condition, value = (random_codes(rng, n, size) for size in shape)
    index = AnchorIndex.from_codes(group, condition, constant_codes(n), value)
    values = index.values
    assert values is not None
    assert values.value_code.tolist() == value.codes[index.order].tolist()
    assert index.value_codes(np.arange(n)).tolist() == index.value_codes(slice(0, n)).tolist()
    stratum = (group.codes * shape[1] + condition.codes)[index.order].tolist()
    rows = Counter(zip(stratum, values.value_code.tolist(), strict=True))
    keys = [(s, rows[s, v], v, row) for s, v, row in zip(stratum, values.value_code, index.order, strict=True)]
    assert keys == sorted(keys)
    assert values.values_of_stratum.ravel().tolist() == [
        len({v for t, v in rows if t == s}) for s in range(shape[0] * shape[1])
    ]
    stops = np.append(values.class_start[1:], n)
    for start, stop, length in zip(values.class_start, stops, values.class_length, strict=True):
        assert {(s, length) for s, length, *_ in keys[start:stop]} == {(stratum[start], length)}


def test_with_times_the_rows_stay_in_order_of_time():
    rng = np.random.default_rng(0)
    axes = [random_codes(rng, 300, size) for size in (3, 2, 9)]
    value = random_codes(rng, 300, 20)
    plain = AnchorIndex.from_codes(*axes)
    index = AnchorIndex.from_codes(*axes, value, time_by="hours")
    assert index.order.tolist() == plain.order.tolist()
    assert index.values is not None
    assert index.values.value_code.tolist() == value.codes[index.order].tolist()
    assert index.values.values_of_stratum.max() <= 20
    assert index.digest != plain.digest


# awkward tables


@pytest.mark.parametrize("name", AWKWARD_TABLES)
def test_awkward_tables_are_sampled_like_any_other(name):
    table = AWKWARD_TABLES[name]()
    sampler = FlexibleBatchSampler(table, 8, leaky=0.25, temporal_enrichment=True)
    batches = list(sampler)
    assert_positions(batches, len(table))
    assert {len(batch) for batch in batches} == {8}


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"experiment_aware": False, "condition_balanced": False},
        {"temporal_enrichment": True},
        {"temporal_enrichment": True, "temporal_global_fraction": 1.0},
        {"distinct_by": "lineage_id"},
        {"locality": 2, "place_by": "place"},
    ],
)
def test_the_axes_of_a_sampler_are_those_of_the_index_that_it_needs(options):
    names = ["experiment", "condition", "lineage_id", "place"]
    table = pd.DataFrame({name: list("abcdefgh") for name in names} | {"hours_post_infection": np.arange(8.0)})
    index = AnchorIndex.build(table, **AnchorIndex.axes_of(**options, batch_size=4))
    sampler = FlexibleBatchSampler(index, batch_size=4, **options)
    assert sampler.batch(0) == FlexibleBatchSampler(table, batch_size=4, **options).batch(0)
