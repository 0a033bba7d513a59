"""Anchor tables have exactly the requested imbalance."""

import numpy as np
import pandas as pd
import pytest

from viscy_sampling_testkit import AWKWARD_TABLES, make_anchors


def test_table_has_plain_columns_and_a_plain_index():
    anchors = make_anchors(100)
    assert list(anchors) == ["experiment", "condition", "hours_post_infection", "track_id", "t", "y", "x"]
    assert anchors.index.equals(pd.RangeIndex(100))
    assert [anchors[c].dtype.kind for c in ("hours_post_infection", "track_id", "t", "y", "x")] == list("fiiff")
    assert all(isinstance(value, str) for column in ("experiment", "condition") for value in anchors[column])


def test_counts_follow_the_weights_up_to_rounding():
    anchors = make_anchors(1001, experiments={"a": 1, "b": 2, "c": 4}, conditions={"x": 0.9, "y": 0.1})
    assert anchors["experiment"].value_counts().to_dict() == {"a": 143, "b": 286, "c": 572}
    assert anchors["condition"].value_counts().to_dict() == {"x": 901, "y": 100}
    crossed = pd.crosstab(anchors["experiment"], anchors["condition"])
    assert crossed["y"].to_dict() == {"a": 14, "b": 29, "c": 57}


@pytest.mark.parametrize("n_anchors", [30, 31, 100, 997])
def test_every_experiment_and_condition_has_a_row_if_there_are_enough_rows(n_anchors):
    weights = {f"e{i}": 10.0**-i for i in range(6)}
    anchors = make_anchors(n_anchors, experiments=weights, conditions={f"c{i}": 10.0**-i for i in range(30)})
    assert len(anchors) == n_anchors
    assert anchors["experiment"].nunique() == 6
    assert anchors["condition"].nunique() == 30


def test_fewer_rows_than_experiments_leave_some_experiments_out():
    assert make_anchors(3, n_experiments=5)["experiment"].value_counts().to_dict() == {"exp0": 1, "exp1": 1, "exp2": 1}


def test_table_can_have_one_row():
    assert len(make_anchors(1)) == 1


@pytest.mark.parametrize("n_timepoints", [1, 2, 48, 200])
def test_rows_of_a_track_are_successive_frames_of_one_cell(n_timepoints):
    anchors = make_anchors(2000, n_experiments=3, n_timepoints=n_timepoints, seed=3)
    assert not anchors.duplicated(["experiment", "track_id", "t"]).any()
    assert anchors["t"].between(0, n_timepoints - 1).all()
    tracks = anchors.groupby("track_id")
    assert (tracks[["experiment", "condition"]].nunique() == 1).to_numpy().all()
    assert (tracks["t"].max() - tracks["t"].min() + 1 == tracks.size()).all()


def test_tracks_span_several_frames_and_stay_in_the_image():
    anchors = make_anchors(2000)
    assert anchors.groupby("track_id").size().mean() > 5
    assert ((anchors[["y", "x"]] >= 0) & (anchors[["y", "x"]] < 2048)).to_numpy().all()


def test_regular_times_are_half_hour_frames():
    anchors = make_anchors(5000, n_timepoints=10)
    assert set(anchors["hours_post_infection"]) == {0.5 * t for t in range(10)}
    assert (anchors["hours_post_infection"] == anchors["t"] * 0.5).all()


def test_all_frames_are_about_equally_frequent():
    counts = np.bincount(make_anchors(48_000, seed=1)["t"], minlength=48)
    assert counts.min() > 800
    assert counts.max() < 1200


def test_hours_sets_the_length_of_the_recording():
    assert make_anchors(1000, hours=20, n_timepoints=10)["hours_post_infection"].max() == 18.0


def test_irregular_times_all_differ_and_increase_along_a_track():
    anchors = make_anchors(1000, regular_times=False).sort_values(["track_id", "t"])
    assert anchors["hours_post_infection"].is_unique
    assert (anchors.groupby("track_id")["hours_post_infection"].diff().dropna() > 0).all()


def test_rows_are_shuffled():
    experiment = make_anchors(1000)["experiment"]
    assert (experiment != experiment.shift()).sum() > 300


def test_seed_determines_the_table():
    pd.testing.assert_frame_equal(make_anchors(100, seed=4), make_anchors(100, seed=4))
    assert not make_anchors(100, seed=4).equals(make_anchors(100, seed=5))


def test_labels_keep_their_type():
    assert make_anchors(10, conditions=[True, False])["condition"].dtype == bool
    assert set(make_anchors(10, conditions=[1, "1"])["condition"]) == {1, "1"}
    assert set(make_anchors(10, conditions=[("a", "b"), ("a", "c")])["condition"]) == {("a", "b"), ("a", "c")}


def test_million_rows_can_be_made():
    assert len(make_anchors(10**6)) == 10**6


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"n_anchors": 0}, ValueError, "n_anchors must be at least 1, got 0"),
        ({"n_anchors": 1.5}, TypeError, "n_anchors must be an integer, got 1.5"),
        ({"n_anchors": True}, TypeError, "n_anchors must be an integer, got True"),
        ({"n_experiments": 0}, ValueError, "n_experiments must be at least 1, got 0"),
        ({"n_timepoints": -1}, ValueError, "n_timepoints must be at least 1, got -1"),
        ({"seed": -1}, ValueError, "seed must be at least 0, got -1"),
        ({"hours": 0}, ValueError, "hours must be positive and finite, got 0"),
        ({"hours": float("nan")}, ValueError, "hours must be positive and finite, got nan"),
        ({"experiments": ["a"]}, TypeError, "experiments must map names to weights, got list"),
        ({"experiments": {}}, ValueError, "experiments must name at least one label"),
        ({"experiments": {"a": 0}}, ValueError, "experiments must have positive, finite weights"),
        ({"conditions": {"a": float("inf")}}, ValueError, "conditions must have positive, finite weights"),
        ({"conditions": []}, ValueError, "conditions must name at least one label, got none"),
        ({"conditions": "mock"}, TypeError, "conditions must be a sequence or a mapping .* 'mock'; put it in a list"),
        ({"conditions": ["a", "a"]}, ValueError, "conditions must name each label once"),
    ],
)
def test_invalid_argument_raises(options, error, message):
    with pytest.raises(error, match=message):
        make_anchors(**options)


@pytest.mark.parametrize("name", AWKWARD_TABLES)
def test_awkward_table_is_small_complete_and_reproducible(name):
    anchors = AWKWARD_TABLES[name]()
    assert 100 <= len(anchors) <= 600
    assert {"experiment", "condition", "hours_post_infection"} <= set(anchors)
    assert not anchors.isna().any(axis=None)
    pd.testing.assert_frame_equal(anchors, AWKWARD_TABLES[name]())


def _lacks_a_condition(anchors):
    return (pd.crosstab(anchors["experiment"], anchors["condition"]) == 0).any(axis=None)


@pytest.mark.parametrize(
    ("name", "trait"),
    [
        ("one_experiment", lambda a: a["experiment"].nunique() == 1),
        ("one_condition", lambda a: a["condition"].nunique() == 1),
        ("tiny_groups", lambda a: (a["experiment"].value_counts() <= 3).sum() >= 3),
        ("condition_missing_from_experiment", _lacks_a_condition),
        ("rare_condition", lambda a: (a["condition"] == "condition1").mean() == 0.01),
        ("many_conditions", lambda a: a["condition"].nunique() >= 20),
        ("irregular_times", lambda a: not (a["hours_post_infection"] / 0.5 % 1 == 0).any()),
        ("continuous_times", lambda a: a["hours_post_infection"].is_unique),
        ("duplicate_times", lambda a: a["hours_post_infection"].nunique() == 1),
        ("bursts", lambda a: a["hours_post_infection"].sort_values().diff().max() > 40),
        ("categorical_with_unused_levels", lambda a: len(a["condition"].cat.categories) > a["condition"].nunique()),
        ("nullable_dtypes", lambda a: a["condition"].dtype == "Int64"),
        ("object_strings", lambda a: a["condition"].dtype == object),
        ("duplicate_index", lambda a: a.index.has_duplicates),
        ("shuffled_index", lambda a: not a.index.is_monotonic_increasing and a.index.is_unique),
        ("text_index", lambda a: isinstance(a.index[0], str)),
        ("mixed_key_types", lambda a: set(a["condition"]) == {1, "1"}),
        ("boolean_condition", lambda a: a["condition"].dtype == bool),
        ("integer_experiment", lambda a: a["experiment"].dtype == "int64"),
        ("keys_with_separators", lambda a: (a["experiment"] + "|" + a["condition"]).nunique() == 3),
    ],
)
def test_awkward_table_has_its_trait(name, trait):
    assert trait(AWKWARD_TABLES[name]())


def test_awkward_tables_include_arrow_columns_if_pyarrow_is_installed():
    pytest.importorskip("pyarrow")
    anchors = AWKWARD_TABLES["arrow_dtypes"]()
    assert isinstance(anchors["hours_post_infection"].dtype, pd.ArrowDtype)
    assert anchors["condition"].dtype.storage == "pyarrow"


def test_awkward_tables_are_read_only():
    with pytest.raises(TypeError):
        AWKWARD_TABLES["mine"] = make_anchors  # ty: ignore[invalid-assignment]
