"""Bad input is answered before the first batch, by the rule, the value and the remedy."""

import logging

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from torch.utils.data import SequentialSampler

from viscy_data import FlexibleBatchSampler
from viscy_data.sampler import FlexibleBatchSampler as SameFlexibleBatchSampler


def anchors(n=60, **columns):
    row = np.arange(n)
    table = {
        "experiment": np.where(row % 3 == 0, "day1", "day2"),
        "condition": np.where(row % 2 == 0, "mock", "infected"),
        "hours_post_infection": row // 6 * 0.5,
    }
    return pd.DataFrame({**table, **columns})


def with_missing(column, rows=(4, 7)):
    table = anchors()
    table[column] = table[column].astype(object if column != "hours_post_infection" else float)
    table.loc[list(rows), column] = np.nan
    return table


def with_infinite_times():
    table = anchors()
    table.loc[[5, 9], "hours_post_infection"] = [np.inf, -np.inf]
    return table


def arrow_nan():
    return pd.Series(pd.arrays.ArrowExtensionArray(pa.array([float("nan"), 1.0] * 30)))


def nullable_nan():
    return pd.Series(pd.arrays.FloatingArray(np.array([np.nan, 1.0] * 30), np.zeros(60, bool)))


def arrow_lists():
    return pd.Series(pd.arrays.ArrowExtensionArray(pa.array([[1], [2]] * 30)))


ON = {"temporal_enrichment": True}
TABLES = [
    ("a list", [1, 2], {}, TypeError, "must be a DataFrame of pandas or polars, .* got list; convert it"),
    ("a sampler", SequentialSampler([1, 2]), {}, TypeError, r"use_distributed_sampler=False"),
    ("an empty table", anchors(0), {}, ValueError, "at least one row"),
    ("no experiment", anchors().drop(columns="experiment"), {}, ValueError, "experiment_aware=True needs.*condition"),
    ("no condition", anchors().drop(columns="condition"), {}, ValueError, "condition_balanced=True needs.*experiment"),
    ("no time", anchors().drop(columns="hours_post_infection"), ON, ValueError, "temporal_enrichment=True needs"),
    ("two of a name", pd.concat([anchors(), anchors()], axis=1), {}, ValueError, "has it 2 times"),
    ("missing experiment", with_missing("experiment"), {}, ValueError, "got 2 of 60, first at positions 4, 7"),
    ("missing condition", with_missing("condition", [3]), {}, ValueError, "got 1 of 60, first at position 3;"),
    ("missing time", with_missing("hours_post_infection"), ON, ValueError, "got 2 of 60, first at positions 4, 7"),
    ("infinite times", with_infinite_times(), ON, ValueError, "must be finite, got 2 .* positions 5, 9"),
    ("times as text", anchors(hours_post_infection="1 h"), ON, TypeError, "must hold numbers"),
    ("complex times", anchors(hours_post_infection=np.arange(60) * 1j), ON, TypeError, "must hold numbers.*complex128"),
    ("Arrow NaN", anchors(condition=arrow_nan()), {}, ValueError, "got 30 of 60, first at positions 0, 2, 4, 6, 8"),
    ("Arrow NaN time", anchors(hours_post_infection=arrow_nan()), ON, ValueError, "no missing values.*got 30 of 60"),
    ("nullable NaN", anchors(condition=nullable_nan()), {}, ValueError, "got 30 of 60, first at positions 0, 2, 4"),
    ("nullable NaN time", anchors(hours_post_infection=nullable_nan()), ON, ValueError, "missing.*got 30 of 60, first"),
    (
        "lists",
        anchors(condition=pd.Series([[1], [2]] * 30)),
        {},
        TypeError,
        "'condition' must hold text.*object",
    ),
    ("complex labels", anchors(condition=np.arange(60) % 2 * 1j), {}, TypeError, "'condition' must hold text"),
    ("Arrow lists", anchors(condition=arrow_lists()), {}, TypeError, "'condition' must hold text, .* got dtype list"),
    ("times as bool", anchors(hours_post_infection=True), ON, TypeError, "must hold numbers"),
]


@pytest.mark.parametrize(
    ("table", "options", "error", "message"), [case[1:] for case in TABLES], ids=[c[0] for c in TABLES]
)
def test_a_table_that_cannot_be_used_is_refused(table, options, error, message):
    with pytest.raises(error, match=message):
        FlexibleBatchSampler(table, **{"batch_size": 6, **options})


RATIO = {"mock": 1, "infected": 1}
OPTIONS = [
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


@pytest.mark.parametrize(("options", "error", "message"), OPTIONS, ids=[str(case[0]) for case in OPTIONS])
def test_an_option_that_makes_no_sense_is_refused(options, error, message):
    with pytest.raises(error, match=message):
        FlexibleBatchSampler(anchors(), **{"batch_size": 6, **options})


@pytest.mark.parametrize("epoch", [-1, 1.0, "2", None])
def test_set_epoch_takes_a_non_negative_integer(epoch):
    with pytest.raises((TypeError, ValueError), match="epoch must be"):
        FlexibleBatchSampler(anchors(), 6).set_epoch(epoch)


@pytest.mark.parametrize(("k", "epoch"), [(-1, 0), (0.5, 0), (0, -2)])
def test_batch_takes_non_negative_integers(k, epoch):
    with pytest.raises((TypeError, ValueError), match="must be"):
        FlexibleBatchSampler(anchors(), 6).batch(k, epoch)


def test_a_weight_of_zero_excludes_on_purpose():
    sampler = FlexibleBatchSampler(anchors(), 6, leaky=0.5, experiment_weights={"day1": 0, "day2": 1})
    assert {anchors()["experiment"][p] for batch in sampler for p in batch} == {"day2"}


def test_a_ratio_that_empties_a_group_is_refused():
    table = anchors(condition=np.where(np.arange(60) % 3 == 0, "mock", "infected"))
    with pytest.raises(ValueError, match="must leave every group anchors to draw, got none for 'day1'"):
        FlexibleBatchSampler(table, 6, condition_ratio={"mock": 0, "infected": 1})


def test_one_and_text_one_are_different_keys():
    table = anchors(experiment=pd.Series([1, "1", 1] * 20, dtype=object))
    sampler = FlexibleBatchSampler(table, 6, experiment_weights={1: 1, "1": 0})
    assert {type(table["experiment"][p]) for batch in sampler for p in batch} == {int}
    with pytest.raises(ValueError, match="'1' left out"):
        FlexibleBatchSampler(table, 6, experiment_weights={1: 1})


def test_keys_of_several_columns_stay_apart_where_their_text_would_not():
    first, second = ["a|b", "a"] * 30, ["c", "b|c"] * 30
    table = anchors(well=first, site=second)
    sampler = FlexibleBatchSampler(
        table, 6, experiment_by=["well", "site"], experiment_weights={("a|b", "c"): 1, ("a", "b|c"): 0}
    )
    assert {table["well"][p] for batch in sampler for p in batch} == {"a|b"}


def test_too_many_groups_and_conditions_are_refused():
    row = np.arange(5000)
    table = pd.DataFrame({"experiment": row, "condition": row})
    with pytest.raises(ValueError, match="5000 groups x 5000 conditions; name coarser columns"):
        FlexibleBatchSampler(table, 6)


def warnings_of(caplog, *args, **options):
    with caplog.at_level(logging.WARNING, logger="viscy_data.sampler"):
        FlexibleBatchSampler(*args, **options)
    return [record.getMessage() for record in caplog.records]


def test_a_group_that_is_too_small_is_one_warning_and_no_error(caplog):
    table = pd.concat([anchors(60), anchors(4, experiment="tiny"), anchors(3, experiment="tinier")])
    (message,) = warnings_of(caplog, table, 20)
    assert message.startswith("2 of 4 groups have fewer anchors than they need for a batch of 20: sampling with replac")


def test_a_table_that_suffices_is_no_warning(caplog):
    assert warnings_of(caplog, anchors(), 6, leaky=0.3, temporal_enrichment=True) == []


@pytest.mark.parametrize("options", [{"experiment_by": "one"}, {"experiment_aware": False}])
def test_a_leak_that_is_impossible_is_one_warning(caplog, options):
    (message,) = warnings_of(caplog, anchors(one=0), 6, leaky=0.2, **options)
    assert message.startswith("leaky=0.2 has no effect")


INEFFECTIVE = [
    ({"experiment_aware": False, "experiment_weights": "sqrt"}, "experiment_weights has no effect"),
    ({"condition_balanced": False, "condition_ratio": RATIO}, "condition_ratio has no effect"),
    ({"temporal_enrichment": True, "temporal_global_fraction": 1.0}, "temporal_enrichment has no effect"),
]


@pytest.mark.parametrize(("options", "text"), INEFFECTIVE)
def test_an_option_that_cannot_take_effect_says_so(caplog, options, text):
    (message,) = warnings_of(caplog, anchors(), 6, **options)
    assert text in message


def test_columns_are_needed_only_while_their_axis_is_on():
    table = anchors().drop(columns=["experiment", "condition", "hours_post_infection"]).assign(other=1)
    sampler = FlexibleBatchSampler(table, 6, experiment_aware=False, condition_balanced=False)
    assert sorted(position for batch in sampler for position in batch) == list(range(60))


def test_the_frame_is_not_modified():
    table = anchors().set_index(np.arange(60)[::-1])
    copy = table.copy(deep=True)
    list(FlexibleBatchSampler(table, 6, leaky=0.2, temporal_enrichment=True))
    pd.testing.assert_frame_equal(table, copy)


def test_the_sampler_is_importable_from_both_places():
    assert FlexibleBatchSampler is SameFlexibleBatchSampler


def test_a_table_too_long_for_its_positions_is_refused(monkeypatch):
    monkeypatch.setattr("viscy_data._table.tables.MAX_ANCHORS", 59)
    with pytest.raises(ValueError, match="at most 59 rows, got 60; split the table"):
        FlexibleBatchSampler(anchors(), batch_size=6)


def test_a_column_may_have_a_name_that_is_missing():
    table = anchors()
    table.insert(0, pd.NA, 1)
    assert len(FlexibleBatchSampler(table, batch_size=6)) == 10


def test_sparse_times_are_times():
    table = anchors()
    sparse = table.assign(hours_post_infection=pd.arrays.SparseArray(table["hours_post_infection"]))
    options = {"batch_size": 6, "temporal_enrichment": True}
    assert list(FlexibleBatchSampler(sparse, **options)) == list(FlexibleBatchSampler(table, **options))


def test_the_number_of_a_batch_has_a_bound():
    sampler = FlexibleBatchSampler(anchors(), batch_size=6)
    assert len(sampler.batch(2**48)) == 6
    with pytest.raises(ValueError, match="k must be at most 281474976710656"):
        sampler.batch(2**63)
