"""Each factory makes a table of any size with its trait, by the same signature and without a Python loop over rows."""

import sys

import numpy as np
import pandas as pd
import pytest

from viscy_sampling_testkit import (
    make_anchors,
    make_arrow_dtypes,
    make_balanced,
    make_bursts,
    make_colliding_keys,
    make_continuous_times,
    make_duplicate_times,
    make_irregular_times,
    make_missing_conditions,
    make_nullable_dtypes,
    make_odd_index,
    make_skewed,
    make_tiny_groups,
    make_unused_levels,
)

FACTORIES = {
    "anchors": make_anchors,
    "balanced": make_balanced,
    "skewed": make_skewed,
    "skewed over 1000 conditions": lambda n=1000, **seed: make_skewed(n, n_conditions=1000, **seed),
    "tiny groups": make_tiny_groups,
    "missing conditions": make_missing_conditions,
    "irregular times": make_irregular_times,
    "continuous times": make_continuous_times,
    "duplicate times": make_duplicate_times,
    "bursts": make_bursts,
    "unused levels": make_unused_levels,
    "nullable dtypes": make_nullable_dtypes,
    "arrow dtypes": make_arrow_dtypes,
    **{
        f"{kind} index": lambda n=1000, kind=kind, **seed: make_odd_index(n, kind=kind, **seed)
        for kind in ("duplicate", "shuffled", "text", "dates", "levels")
    },
    "keys of two types": make_colliding_keys,
    "keys with separators": lambda n=1000, **seed: make_colliding_keys(n, kind="separators", **seed),
}

every_factory = pytest.mark.parametrize("make", FACTORIES.values(), ids=FACTORIES.keys())


def strata_sizes(anchors):
    return pd.crosstab(anchors["experiment"], anchors["condition"])


def count_instructions(function, *args):
    """Count the Python bytecode instructions that a call executes."""
    n_instructions = 0

    def count(code, offset):
        nonlocal n_instructions
        n_instructions += 1

    monitor = sys.monitoring
    monitor.use_tool_id(monitor.PROFILER_ID, "instructions")
    try:
        monitor.register_callback(monitor.PROFILER_ID, monitor.events.INSTRUCTION, count)
        monitor.set_events(monitor.PROFILER_ID, monitor.events.INSTRUCTION)
        function(*args)
    finally:
        monitor.set_events(monitor.PROFILER_ID, 0)
        monitor.free_tool_id(monitor.PROFILER_ID)
    return n_instructions


@every_factory
@pytest.mark.parametrize("n_anchors", [30, 31, 1003])
def test_table_has_the_requested_rows_and_columns(make, n_anchors):
    anchors = make(n_anchors)
    assert len(anchors) == n_anchors
    assert list(anchors) == list(make_anchors(1))
    assert not anchors.isna().any(axis=None)


@every_factory
def test_seed_determines_the_table(make):
    pd.testing.assert_frame_equal(make(200, seed=4), make(200, seed=4))
    assert not make(200, seed=4).equals(make(200, seed=5))


@every_factory
def test_rows_need_no_python_loop(make):
    """Only the work of NumPy and pandas grows with the number of rows, so a million rows take about a second."""
    make(20_000)  # imports modules and fills the caches of pandas
    few, many = (count_instructions(make, n) for n in (2_000, 20_000))
    assert few > 100
    assert many < few + 9_000


def test_instruction_count_detects_a_loop_over_rows():
    few, many = (count_instructions(lambda n: [k for k in range(n)], n) for n in (2_000, 20_000))  # noqa: C416
    assert many > few + 18_000


@every_factory
def test_times_never_decrease_along_a_track(make):
    anchors = make(2000).reset_index(drop=True).sort_values(["track_id", "t"])
    hours = anchors["hours_post_infection"].astype(float)
    assert (hours.groupby(anchors["track_id"]).diff().dropna() >= 0).all()


def test_balanced_strata_differ_by_at_most_one_row():
    sizes = strata_sizes(make_balanced(1003, n_experiments=3, conditions=["a", "b", "c", "d"])).to_numpy()
    assert sizes.shape == (3, 4)
    assert sizes.max() - sizes.min() == 1


def test_skewed_table_has_99_rows_of_the_first_condition_per_row_of_the_second():
    assert make_skewed(1000)["condition"].value_counts().to_dict() == {"condition0": 990, "condition1": 10}


def test_frequency_falls_evenly_over_many_conditions():
    counts = make_skewed(100_000, n_conditions=1000, ratio=50)["condition"].value_counts().to_numpy()
    assert len(counts) == 1000
    assert counts[0] / counts[-1] == pytest.approx(50, rel=0.2)
    assert counts[0] / counts[500] == pytest.approx(50**0.5, rel=0.2)


def test_tiny_groups_have_one_to_three_rows_next_to_a_large_group():
    sizes = make_tiny_groups(1000, n_tiny=5)["experiment"].value_counts().to_dict()
    assert sizes == {"large": 991, "tiny0": 1, "tiny1": 2, "tiny2": 3, "tiny3": 1, "tiny4": 2}


def test_experiments_lack_one_condition_or_all_but_one():
    sizes = strata_sizes(make_missing_conditions(1000, n_experiments=5, conditions=["a", "b", "c"])) > 0
    assert sizes.sum(axis=1).tolist() == [3, 2, 1, 2, 1]
    assert sizes.any(axis=0).all()


def test_irregular_frames_differ_between_experiments_and_are_unevenly_spaced():
    anchors = make_irregular_times(2000, n_timepoints=10)
    frames = [set(own) for _, own in anchors.groupby("experiment")["hours_post_infection"]]
    assert [len(own) for own in frames] == [10, 10]
    assert not frames[0] & frames[1]
    gaps = np.diff(sorted(frames[0]))
    assert gaps.max() > 2 * gaps.min()


def test_continuous_times_all_differ():
    assert make_continuous_times(5000)["hours_post_infection"].is_unique


@pytest.mark.parametrize("n_times", [1, 3])
def test_duplicate_times_have_the_requested_number_of_times(n_times):
    assert make_duplicate_times(500, n_times=n_times)["hours_post_infection"].nunique() == n_times


def test_bursts_are_minutes_long_and_days_apart():
    hours = np.sort(make_bursts(1000, n_bursts=4)["hours_post_infection"])
    gaps = np.diff(hours)
    assert np.sort(gaps)[-4:].tolist() == pytest.approx([0.0, 48, 48, 48], abs=0.25)
    assert len(set(hours)) == 1000


def test_unused_levels_are_first_and_last():
    anchors = make_unused_levels(200)
    for column in ("experiment", "condition"):
        levels = list(anchors[column].cat.categories)
        assert set(levels) - set(anchors[column]) == {levels[0], levels[-1]}
        assert levels != sorted(levels)


def test_nullable_columns_have_pandas_nullable_dtypes():
    dtypes = make_nullable_dtypes(100).dtypes.astype(str).to_dict()
    expected = {"experiment": "string", "condition": "Int64", "hours_post_infection": "Float64", "track_id": "Int64"}
    assert dtypes | expected == dtypes


def test_arrow_columns_are_of_both_kinds():
    anchors = make_arrow_dtypes(100)
    assert isinstance(anchors["experiment"].dtype, pd.ArrowDtype)
    assert isinstance(anchors["hours_post_infection"].dtype, pd.ArrowDtype)
    assert anchors["condition"].dtype == pd.StringDtype("pyarrow")


def test_arrow_columns_without_pyarrow_are_an_error_with_a_remedy(monkeypatch):
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(ImportError, match="make_arrow_dtypes needs pyarrow; install it with `pip install pyarrow`"):
        make_arrow_dtypes(100)


@pytest.mark.parametrize(
    ("kind", "trait"),
    [
        ("duplicate", lambda index: index.has_duplicates and index.nunique() == 7),
        ("shuffled", lambda index: set(index) == set(range(100)) and not index.is_monotonic_increasing),
        ("text", lambda index: index.is_unique and isinstance(index[0], str)),
        ("dates", lambda index: isinstance(index, pd.DatetimeIndex)),
        ("levels", lambda index: index.nlevels == 2 and index.has_duplicates),
    ],
)
def test_odd_index_is_of_the_requested_kind(kind, trait):
    assert trait(make_odd_index(100, kind=kind).index)


def test_keys_of_two_types_have_equal_text():
    anchors = make_colliding_keys(200)
    assert set(anchors["condition"]) == {1, "1"}
    assert len(set(anchors["experiment"])) == 2 * anchors["experiment"].astype(str).nunique()


def test_keys_with_separators_are_equal_once_joined():
    anchors = make_colliding_keys(200, kind="separators")
    pairs = {(e, c) for e, c in zip(anchors["experiment"], anchors["condition"], strict=True)}
    assert pairs == {("a|b", "c"), ("a", "b|c"), ("a_b", "c"), ("a", "b_c")}


@pytest.mark.parametrize(
    ("make", "options", "error", "message"),
    [
        (make_balanced, {"n_anchors": 0}, ValueError, "n_anchors must be at least 1, got 0"),
        (make_balanced, {"n_anchors": 1e6}, TypeError, "n_anchors must be an integer, got 1000000.0"),
        (make_balanced, {"n_experiments": 0}, ValueError, "n_experiments must be at least 1, got 0"),
        (make_balanced, {"conditions": "ab"}, TypeError, "conditions must be a sequence .* put it in a list"),
        (make_skewed, {"n_conditions": 0}, ValueError, "n_conditions must be at least 1, got 0"),
        (make_skewed, {"ratio": 0.5}, ValueError, "ratio must be at least 1 and finite, got 0.5"),
        (make_skewed, {"ratio": float("inf")}, ValueError, "ratio must be at least 1 and finite, got inf"),
        (make_tiny_groups, {"n_tiny": 0}, ValueError, "n_tiny must be at least 1, got 0"),
        (
            make_tiny_groups,
            {"n_anchors": 9, "n_tiny": 5},
            ValueError,
            "n_anchors must be at least 11, .* 9 rows in 5 tiny groups and 2 in the large one, got 9",
        ),
        (make_missing_conditions, {"n_experiments": 1}, ValueError, "n_experiments must be at least 2, got 1"),
        (make_missing_conditions, {"conditions": ["a"]}, ValueError, "conditions must name at least two labels"),
        (make_irregular_times, {"n_timepoints": 0}, ValueError, "n_timepoints must be at least 1, got 0"),
        (make_duplicate_times, {"n_times": 0}, ValueError, "n_times must be at least 1, got 0"),
        (make_bursts, {"n_bursts": -1}, ValueError, "n_bursts must be at least 1, got -1"),
        (make_odd_index, {"kind": "none"}, ValueError, "kind must be one of 'duplicate', .*, got 'none'"),
        (make_colliding_keys, {"kind": "none"}, ValueError, "kind must be one of 'types', 'separators', got 'none'"),
        (make_bursts, {"seed": -1}, ValueError, "seed must be at least 0, got -1"),
    ],
)
def test_invalid_argument_raises(make, options, error, message):
    with pytest.raises(error, match=message):
        make(**options)
