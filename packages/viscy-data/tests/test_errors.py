"""Errors and warnings: invalid input is reported before the first batch, with the rule, the value and the remedy."""

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from torch.utils.data import SequentialSampler

from viscy_data import FlexibleBatchSampler


def make_table(n=60, **columns):
    row = np.arange(n)
    table = {
        "experiment": np.where(row % 3 == 0, "day1", "day2"),
        "condition": np.where(row % 2 == 0, "mock", "infected"),
        "hours_post_infection": row // 6 * 0.5,
    }
    return pd.DataFrame({**table, **columns})


def with_missing(column, rows=(4, 7)):
    table = make_table()
    table[column] = table[column].astype(object if column != "hours_post_infection" else float)
    table.loc[list(rows), column] = np.nan
    return table


def with_infinite_times():
    table = make_table()
    table.loc[[5, 9], "hours_post_infection"] = [np.inf, -np.inf]
    return table


def arrow_nan():
    return pd.Series(pd.arrays.ArrowExtensionArray(pa.array([float("nan"), 1.0] * 30)))


def nullable_nan():
    return pd.Series(pd.arrays.FloatingArray(np.array([np.nan, 1.0] * 30), np.zeros(60, bool)))


def arrow_lists():
    return pd.Series(pd.arrays.ArrowExtensionArray(pa.array([[1], [2]] * 30)))


ON = {"temporal_enrichment": True}
INVALID_TABLES = [
    ("a list", [1, 2], {}, TypeError, "must be a DataFrame of pandas or polars, .* got list; convert it"),
    ("a sampler", SequentialSampler([1, 2]), {}, TypeError, r"use_distributed_sampler=False"),
    ("an empty table", make_table(0), {}, ValueError, "at least one row"),
    ("no experiment", make_table().drop(columns="experiment"), {}, ValueError, "experiment_aware=True.*condition"),
    ("no condition", make_table().drop(columns="condition"), {}, ValueError, "condition_balanced=True.*experiment"),
    ("no time", make_table().drop(columns="hours_post_infection"), ON, ValueError, "temporal_enrichment=True needs"),
    ("a duplicate column", pd.concat([make_table(), make_table()], axis=1), {}, ValueError, "has it 2 times"),
    ("missing experiment", with_missing("experiment"), {}, ValueError, "got 2 of 60, first at positions 4, 7"),
    ("missing condition", with_missing("condition", [3]), {}, ValueError, "got 1 of 60, first at position 3;"),
    ("missing time", with_missing("hours_post_infection"), ON, ValueError, "got 2 of 60, first at positions 4, 7"),
    ("infinite times", with_infinite_times(), ON, ValueError, "must be finite, got 2 .* positions 5, 9"),
    ("times as text", make_table(hours_post_infection="1 h"), ON, TypeError, "must hold numbers"),
    (
        "complex times",
        make_table(hours_post_infection=np.arange(60) * 1j),
        ON,
        TypeError,
        "must hold numbers.*complex128",
    ),
    ("Arrow NaN", make_table(condition=arrow_nan()), {}, ValueError, "got 30 of 60, first at positions 0, 2, 4, 6, 8"),
    ("Arrow NaN time", make_table(hours_post_infection=arrow_nan()), ON, ValueError, "no missing values.*got 30 of 60"),
    ("nullable NaN", make_table(condition=nullable_nan()), {}, ValueError, "got 30 of 60, first at positions 0, 2, 4"),
    (
        "nullable NaN time",
        make_table(hours_post_infection=nullable_nan()),
        ON,
        ValueError,
        "missing.*got 30 of 60, first",
    ),
    (
        "lists",
        make_table(condition=pd.Series([[1], [2]] * 30)),
        {},
        TypeError,
        "'condition' must hold text.*object",
    ),
    ("complex labels", make_table(condition=np.arange(60) % 2 * 1j), {}, TypeError, "'condition' must hold text"),
    (
        "Arrow lists",
        make_table(condition=arrow_lists()),
        {},
        TypeError,
        "'condition' must hold text, .* got dtype list",
    ),
    ("times as bool", make_table(hours_post_infection=True), ON, TypeError, "must hold numbers"),
]


@pytest.mark.parametrize(
    ("table", "options", "error", "message"), [case[1:] for case in INVALID_TABLES], ids=[c[0] for c in INVALID_TABLES]
)
def test_an_invalid_table_raises_an_error(table, options, error, message):
    with pytest.raises(error, match=message):
        FlexibleBatchSampler(table, **{"batch_size": 6, **options})


RATIO = {"mock": 1, "infected": 1}
INVALID_OPTIONS = [
    ({"batch_size": 0}, ValueError, "batch_size must be at least 1, got 0"),
    ({"batch_size": -3}, ValueError, "batch_size must be at least 1, got -3"),
    ({"batch_size": 2.0}, TypeError, "batch_size must be an integer, got 2.0"),
    ({"batch_size": True}, TypeError, "batch_size must be an integer"),
    ({"batch_size": 2**40, "drop_last": False}, ValueError, "batch_size must be at most 1073741824"),
    ({"num_replicas": 10**30, "rank": 0}, ValueError, "num_replicas must be at most"),
    ({"leaky": 10**400}, ValueError, r"leaky must be in \[0, 1\), got 1000"),
    ({"temporal_window_hours": 10**400}, ValueError, "temporal_window_hours must be finite"),
    ({"batch_size": 61}, ValueError, "batch_size must be at most the number of anchors.*got 61 for 60"),
    ({"leaky": 1.0}, ValueError, r"leaky must be in \[0, 1\), got 1.0"),
    ({"leaky": 1.5}, ValueError, r"leaky must be in \[0, 1\), got 1.5"),
    ({"leaky": -0.1}, ValueError, r"leaky must be in \[0, 1\), got -0.1"),
    ({"leaky": float("nan")}, ValueError, r"leaky must be in \[0, 1\), got nan"),
    ({"leaky": "a lot"}, TypeError, "leaky must be a number"),
    ({"temporal_global_fraction": 1.1}, ValueError, r"temporal_global_fraction must be in \[0, 1\], got 1.1"),
    ({"temporal_global_fraction": -1}, ValueError, r"temporal_global_fraction must be in \[0, 1\], got -1"),
    ({"temporal_window_hours": -2.0}, ValueError, "temporal_window_hours must be finite and at least 0"),
    ({"temporal_window_hours": float("nan")}, ValueError, "temporal_window_hours must be finite"),
    ({"temporal_window_hours": float("inf")}, ValueError, "temporal_window_hours must be finite"),
    ({"experiment_weights": "evenly"}, ValueError, "experiment_weights must be None or 'proportional'"),
    ({"experiment_weights": [1, 2]}, TypeError, "experiment_weights must be .* got list"),
    ({"experiment_weights": {}}, ValueError, "at least one key a weight above 0"),
    ({"experiment_weights": {"day1": 0, "day2": 0}}, ValueError, "at least one key a weight above 0"),
    ({"experiment_weights": {"day1": -1, "day2": 1}}, ValueError, r"experiment_weights\['day1'\] must be"),
    ({"experiment_weights": {"day1": float("nan"), "day2": 1}}, ValueError, r"experiment_weights\['day1'\] must be"),
    ({"experiment_weights": {"day1": float("inf"), "day2": 1}}, ValueError, r"experiment_weights\['day1'\] must be"),
    ({"experiment_weights": {"day1": "1", "day2": 1}}, TypeError, r"experiment_weights\['day1'\] must be a number"),
    ({"experiment_weights": {"day1": 1, "dya2": 1}}, ValueError, "got 'dya2'; did you mean 'day2'"),
    ({"experiment_weights": {"day1": 1}}, ValueError, "'day2' left out; give a weight of 0 to exclude"),
    ({"condition_ratio": "equal"}, ValueError, "condition_ratio must be None or a mapping"),
    ({"condition_ratio": {**RATIO, 7: 1}}, ValueError, "condition_ratio must name labels of the table, got 7"),
    ({"condition_ratio": {"mock": 1}}, ValueError, "'infected' left out"),
    ({"condition_ratio": {"mock": 0, "infected": 0}}, ValueError, "at least one key"),
    ({"condition_ratio": {"mock": 0, "infected": 0, "...": 1}}, ValueError, "at least one label of the table"),
    ({"condition_ratio": {"...": 0}}, ValueError, "at least one key"),
    ({"condition_ratio": {"...": -1}}, ValueError, r"condition_ratio\['...'\] must be"),
    ({"experiment_weights": {"dya2": 1, "...": 1}}, ValueError, "got 'dya2'; did you mean 'day2'"),
    ({"experiment_weights": {"day1": 1}}, ValueError, r"or one to all others with the key '\.\.\.'"),
    ({"num_replicas": 2}, ValueError, "together or not at all, got num_replicas=2, rank=None"),
    ({"rank": 0}, ValueError, "together or not at all"),
    ({"num_replicas": 0, "rank": 0}, ValueError, "num_replicas must be at least 1, got 0"),
    ({"num_replicas": 2, "rank": 2}, ValueError, r"rank must be in \[0, num_replicas\), got 2 of 2"),
    ({"num_replicas": 2, "rank": -1}, ValueError, "rank must be at least 0, got -1"),
    ({"seed": -1}, ValueError, "seed must be at least 0, got -1"),
    ({"seed": 0.5}, TypeError, "seed must be an integer"),
    ({"experiment_aware": 1}, TypeError, "experiment_aware must be True or False, got 1"),
    ({"condition_balanced": None}, TypeError, "condition_balanced must be True or False"),
    ({"drop_last": "no"}, TypeError, "drop_last must be True or False"),
    ({"even_batches": 0}, TypeError, "even_batches must be True or False"),
    ({"experiment_by": 3}, TypeError, "experiment_by must be the name of a column"),
    ({"experiment_by": []}, ValueError, "experiment_by must name at least one column"),
    ({"condition_by": ["condition", "condition"]}, ValueError, "condition_by must name .* none twice"),
    ({"time_by": None}, TypeError, "time_by must be the name of one column"),
]


@pytest.mark.parametrize(("options", "error", "message"), INVALID_OPTIONS, ids=[str(c[0]) for c in INVALID_OPTIONS])
def test_an_invalid_option_raises_an_error(options, error, message):
    with pytest.raises(error, match=message):
        FlexibleBatchSampler(make_table(), **{"batch_size": 6, **options})


@pytest.mark.parametrize("epoch", [-1, 1.0, "2", None])
def test_set_epoch_accepts_only_a_non_negative_integer(epoch):
    with pytest.raises((TypeError, ValueError), match="epoch must be"):
        FlexibleBatchSampler(make_table(), 6).set_epoch(epoch)


@pytest.mark.parametrize(("k", "epoch"), [(-1, 0), (0.5, 0), (0, -2)])
def test_batch_accepts_only_non_negative_integers(k, epoch):
    with pytest.raises((TypeError, ValueError), match="must be"):
        FlexibleBatchSampler(make_table(), 6).batch(k, epoch)


def test_a_weight_of_zero_excludes_on_purpose():
    sampler = FlexibleBatchSampler(make_table(), 6, leaky=0.5, experiment_weights={"day1": 0, "day2": 1})
    assert {make_table()["experiment"][p] for batch in sampler for p in batch} == {"day2"}


def test_three_dots_stand_for_all_labels_that_are_not_named():
    table = make_table(condition=np.repeat(["mock", "infected", "dead"], 20))
    for named in ({"mock": 2, "infected": 1, "dead": 1}, {"mock": 2, "...": 1}, {"dead": 1, "...": 1, "mock": 2}):
        sampler = FlexibleBatchSampler(table, 8, condition_ratio=named, experiment_weights={"day2": 1, "...": 0})
        rows = table.iloc[[position for batch in sampler for position in batch]]
        assert set(rows["experiment"]) == {"day2"}
        assert rows["condition"].value_counts(normalize=True).to_dict() == {"mock": 0.5, "infected": 0.25, "dead": 0.25}


def test_three_dots_that_are_a_label_of_the_table_stand_for_that_label_only():
    table = make_table(condition=["mock", "..."] * 30)
    sampler = FlexibleBatchSampler(table, 8, condition_ratio={"mock": 3, "...": 1})
    assert table["condition"][next(iter(sampler))].value_counts().to_dict() == {"mock": 6, "...": 2}
    with pytest.raises(ValueError, match="'mock' left out"):
        FlexibleBatchSampler(table, 8, condition_ratio={"...": 1})


def test_a_ratio_that_empties_a_group_raises_an_error():
    table = make_table(condition=np.where(np.arange(60) % 3 == 0, "mock", "infected"))
    with pytest.raises(ValueError, match="must leave every group anchors to draw, got none for 'day1'"):
        FlexibleBatchSampler(table, 6, condition_ratio={"mock": 0, "infected": 1})


def test_one_and_text_one_are_different_keys():
    table = make_table(experiment=pd.Series([1, "1", 1] * 20, dtype=object))
    sampler = FlexibleBatchSampler(table, 6, experiment_weights={1: 1, "1": 0})
    assert {type(table["experiment"][p]) for batch in sampler for p in batch} == {int}
    with pytest.raises(ValueError, match="'1' left out"):
        FlexibleBatchSampler(table, 6, experiment_weights={1: 1})


def test_keys_of_several_columns_stay_apart_where_their_text_would_not():
    first, second = ["a|b", "a"] * 30, ["c", "b|c"] * 30
    table = make_table(well=first, site=second)
    sampler = FlexibleBatchSampler(
        table, 6, experiment_by=["well", "site"], experiment_weights={("a|b", "c"): 1, ("a", "b|c"): 0}
    )
    assert {table["well"][p] for batch in sampler for p in batch} == {"a|b"}


def test_too_many_groups_and_conditions_raise_an_error():
    row = np.arange(5000)
    table = pd.DataFrame({"experiment": row, "condition": row})
    with pytest.raises(ValueError, match="5000 groups x 5000 conditions; name coarser columns"):
        FlexibleBatchSampler(table, 6)


def test_groups_that_are_too_small_log_one_warning_and_raise_no_error(collect_warnings):
    table = pd.concat([make_table(60), make_table(4, experiment="tiny"), make_table(3, experiment="tinier")])
    (message,) = collect_warnings(table, 20)
    assert message.startswith("2 of 4 groups have fewer anchors than they need for a batch of 20: sampling with replac")


def test_a_table_with_enough_anchors_logs_no_warning(collect_warnings):
    assert collect_warnings(make_table(), 6, leaky=0.3, temporal_enrichment=True) == []


INEFFECTIVE = [
    ({"experiment_aware": False, "experiment_weights": "sqrt"}, "experiment_weights has no effect"),
    ({"condition_balanced": False, "condition_ratio": RATIO}, "condition_ratio has no effect"),
    ({"temporal_enrichment": True, "temporal_global_fraction": 1.0}, "temporal_enrichment has no effect"),
]


@pytest.mark.parametrize(("options", "text"), INEFFECTIVE)
def test_an_option_that_has_no_effect_logs_a_warning(collect_warnings, options, text):
    (message,) = collect_warnings(make_table(), 6, **options)
    assert text in message


def test_a_table_with_too_many_rows_raises_an_error(monkeypatch):
    monkeypatch.setattr("viscy_data._table.tables.MAX_ANCHORS", 59)
    with pytest.raises(ValueError, match="at most 59 rows, got 60; split the table"):
        FlexibleBatchSampler(make_table(), batch_size=6)


def test_a_column_can_have_a_missing_name():
    table = make_table()
    table.insert(0, pd.NA, 1)
    assert len(FlexibleBatchSampler(table, batch_size=6)) == 10


def test_sparse_times_are_accepted():
    table = make_table()
    sparse = table.assign(hours_post_infection=pd.arrays.SparseArray(table["hours_post_infection"]))
    options = {"batch_size": 6, "temporal_enrichment": True}
    assert list(FlexibleBatchSampler(sparse, **options)) == list(FlexibleBatchSampler(table, **options))


def test_the_number_of_a_batch_has_an_upper_bound():
    sampler = FlexibleBatchSampler(make_table(), batch_size=6)
    assert len(sampler.batch(2**48)) == 6
    with pytest.raises(ValueError, match="k must be at most 281474976710656"):
        sampler.batch(2**63)
