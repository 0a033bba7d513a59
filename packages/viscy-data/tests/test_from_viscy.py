"""from_viscy: the arguments of VisCy's sampler, translated into those of FlexibleBatchSampler."""

import inspect
import logging
from typing import Any

import numpy as np
import pandas as pd
import pytest

from viscy_data import AnchorIndex, FlexibleBatchSampler, from_viscy

ROW = np.arange(480)
TABLE = pd.DataFrame(
    {
        "experiment": np.where(ROW % 3 == 0, "a", "b"),
        "condition": np.where(ROW % 4 == 0, "mock", "drug"),
        "marker": np.where(ROW % 5 < 2, "TOMM20", "SEC61B"),
        "perturbation": np.where(ROW % 2 == 0, "mock", "drug"),
        "plate": ROW // 240,
        "hours_post_perturbation": ROW % 48 * 0.5,
        "hours_post_infection": ROW % 24 * 1.0,
    }
)
ARGUMENTS = [
    "valid_anchors",
    "batch_size",
    "batch_group_by",
    "leaky",
    "group_weights",
    "stratify_by",
    "temporal_enrichment",
    "temporal_window_hours",
    "temporal_global_fraction",
    "num_replicas",
    "rank",
    "seed",
    "drop_last",
]
OFF: dict[str, Any] = {"experiment_aware": False, "condition_balanced": False, "time_by": "hours_post_perturbation"}


def assert_same_sampler(sampler, **options):
    """Assert that a sampler has the batches and the plan of one that is constructed with our options."""
    expected: Any = FlexibleBatchSampler(TABLE, **{"num_replicas": 1} | options)
    assert type(sampler) is FlexibleBatchSampler
    assert list(sampler) == list(expected)
    assert sampler.planned().options == expected.planned().options
    assert (sampler.rank, sampler.num_replicas) == (expected.rank, expected.num_replicas)


def group_weights(**options):
    """Return the weights of the groups as the sampler uses them."""
    return from_viscy(TABLE, 16, **{"stratify_by": None} | options).planned().group_shares.to_dict()


@pytest.fixture
def collect_messages(caplog):
    """Return the warnings that are logged while a sampler is constructed."""

    def collect_messages(**options):
        caplog.clear()
        with caplog.at_level(logging.WARNING, logger="viscy_data.sampler"):
            from_viscy(TABLE, 16, **options)
        return caplog.messages

    return collect_messages


def test_the_arguments_have_the_order_and_the_defaults_of_viscy():
    parameters = list(inspect.signature(from_viscy).parameters.values())
    assert [parameter.name for parameter in parameters[: len(ARGUMENTS)]] == ARGUMENTS
    defaults = [128, None, 0.0, None, "perturbation", False, 2.0, 0.3, 1, 0, 0, True]
    assert [parameter.default for parameter in parameters[1 : len(ARGUMENTS)]] == defaults


TRANSLATED = {
    "nothing": ({}, {"experiment_aware": False, "condition_by": "perturbation"}),
    "batch_size": ({"batch_size": 24, "stratify_by": None}, OFF | {"batch_size": 24}),
    "batch_group_by": (
        {"batch_group_by": "marker", "stratify_by": None},
        OFF | {"experiment_aware": True, "experiment_by": "marker"},
    ),
    "batch_group_by with one column in a list": (
        {"batch_group_by": ["marker"], "stratify_by": None},
        OFF | {"experiment_aware": True, "experiment_by": "marker"},
    ),
    "batch_group_by with two columns": (
        {"batch_group_by": ["marker", "plate"], "stratify_by": None},
        OFF | {"experiment_aware": True, "experiment_by": ("marker", "plate")},
    ),
    "batch_group_by with no column": ({"batch_group_by": [], "stratify_by": None}, OFF),
    "stratify_by": ({"stratify_by": "condition"}, OFF | {"condition_balanced": True}),
    "stratify_by with two columns": (
        {"stratify_by": ["condition", "marker"]},
        OFF | {"condition_balanced": True, "condition_by": ("condition", "marker")},
    ),
    "stratify_by with no column": ({"stratify_by": ()}, OFF),
    "leaky": (
        {"batch_group_by": "marker", "stratify_by": None, "leaky": 0.25},
        OFF | {"experiment_aware": True, "experiment_by": "marker", "leaky": 0.25},
    ),
    "group_weights": (
        {"batch_group_by": "marker", "stratify_by": None, "group_weights": {"TOMM20": 3, "SEC61B": 1}},
        OFF
        | {"experiment_aware": True, "experiment_by": "marker", "experiment_weights": {"TOMM20": 3.0, "SEC61B": 1.0}},
    ),
    "temporal_enrichment": (
        {
            "stratify_by": None,
            "temporal_enrichment": True,
            "temporal_window_hours": 3.0,
            "temporal_global_fraction": 0.1,
        },
        OFF | {"temporal_enrichment": True, "temporal_window_hours": 3.0, "temporal_global_fraction": 0.1},
    ),
    "num_replicas and rank": (
        {"stratify_by": None, "num_replicas": 3, "rank": 2},
        OFF | {"num_replicas": 3, "rank": 2},
    ),
    "seed": ({"stratify_by": None, "seed": 42}, OFF | {"seed": 42}),
    "drop_last": ({"stratify_by": None, "drop_last": False}, OFF | {"drop_last": False}),
    "other options": (
        {"stratify_by": None, "num_replicas": 2, "rank": 1, "even_batches": False, "time_by": "hours_post_infection"},
        OFF | {"num_replicas": 2, "rank": 1, "even_batches": False},
    ),
    "experiment_aware": (
        {"experiment_aware": True, "condition_balanced": False},
        {"condition_balanced": False},
    ),
    "condition_balanced": (
        {"experiment_aware": False, "condition_balanced": True},
        {"experiment_aware": False},
    ),
    "the earlier version, other axes on": (
        {"condition_ratio": {"mock": 3, "drug": 1}},
        {"condition_ratio": {"mock": 3, "drug": 1}},
    ),
    "the earlier version, weights and times": (
        {"experiment_weights": {"a": 1, "b": 1}, "temporal_enrichment": True},
        {"experiment_weights": {"a": 1, "b": 1}, "temporal_enrichment": True},
    ),
}


@pytest.mark.parametrize(("arguments", "options"), TRANSLATED.values(), ids=TRANSLATED.keys())
def test_an_argument_is_translated(arguments, options):
    assert_same_sampler(from_viscy(TABLE, **{"batch_size": 16} | arguments), **{"batch_size": 16} | options)


def test_arguments_may_be_positional():
    sampler = from_viscy(
        TABLE, 16, "marker", 0.25, {"TOMM20": 1, "SEC61B": 1}, ["condition"], True, 4.0, 0.5, 2, 1, 7, False
    )
    assert_same_sampler(
        sampler,
        batch_size=16,
        experiment_by="marker",
        leaky=0.25,
        experiment_weights={"TOMM20": 1, "SEC61B": 1},
        temporal_enrichment=True,
        temporal_window_hours=4.0,
        temporal_global_fraction=0.5,
        num_replicas=2,
        rank=1,
        seed=7,
        drop_last=False,
        time_by="hours_post_perturbation",
    )


def test_ranks_are_looked_up_if_they_are_none(monkeypatch):
    monkeypatch.setattr("viscy_data._sharding.rank_and_world_size", lambda: (1, 4))
    default, looked_up = from_viscy(TABLE, 16), from_viscy(TABLE, 16, num_replicas=None, rank=None)
    assert (default.rank, default.num_replicas) == (0, 1)
    assert (looked_up.rank, looked_up.num_replicas) == (1, 4)


def test_an_index_may_take_the_place_of_the_table():
    index = AnchorIndex.build(TABLE, experiment_by=["marker", "plate"], condition_by="perturbation", time_by=None)
    arguments: Any = {"batch_group_by": ["marker", "plate"], "group_weights": {"TOMM20|0": 1, "...": 2}}
    assert list(from_viscy(index, 16, **arguments)) == list(from_viscy(TABLE, 16, **arguments))


# keys of group_weights


def test_the_texts_of_several_columns_may_be_joined():
    weights: Any = {"TOMM20|0": 1, "TOMM20|1": 1, ("SEC61B", 0): 2, "SEC61B|1": 0}
    expected = {("TOMM20", 0): 0.25, ("TOMM20", 1): 0.25, ("SEC61B", 0): 0.5, ("SEC61B", 1): 0.0}
    assert group_weights(batch_group_by=["marker", "plate"], group_weights=weights) == expected


def test_the_text_of_a_number_names_its_group():
    assert group_weights(batch_group_by="plate", group_weights={"0": 3, "1": 1}) == {0: 0.75, 1: 0.25}


def test_a_label_comes_before_a_text():
    table = TABLE.assign(plate=np.array([1, "1"], object)[ROW % 2])
    sampler = from_viscy(table, 16, "plate", group_weights={"1": 3, 1: 1}, stratify_by=None)
    assert sampler.planned().group_shares.to_dict() == {1: 0.25, "1": 0.75}


def test_a_label_that_contains_the_separator_is_a_label():
    table = TABLE.assign(marker=np.array(["x|y", "z"])[ROW % 2])
    sampler = from_viscy(table, 16, "marker", group_weights={"x|y": 3, "z": 1}, stratify_by=None)
    assert sampler.planned().group_shares.to_dict() == {"x|y": 0.75, "z": 0.25}


def test_the_text_of_two_groups_raises_an_error():
    table = TABLE.assign(first=np.array(["x|y", "x"])[ROW % 2], second=np.array(["z", "y|z"])[ROW % 2])
    arguments: Any = {"batch_group_by": ["first", "second"], "stratify_by": None}
    with pytest.raises(ValueError, match=r"got 'x\|y\|z', the text of .*use these labels as keys"):
        from_viscy(table, 16, group_weights={"x|y|z": 1}, **arguments)
    sampler = from_viscy(table, 16, group_weights={("x|y", "z"): 1, ("x", "y|z"): 3}, **arguments)
    assert sorted(sampler.planned().group_shares) == [0.25, 0.75]


def test_joined_keys_are_accepted_here_and_nowhere_else():
    with pytest.raises(ValueError, match=r"experiment_weights must name labels of the table, got 'TOMM20\|0'"):
        FlexibleBatchSampler(
            TABLE,
            16,
            experiment_by=["marker", "plate"],
            experiment_weights={"TOMM20|0": 1, "TOMM20|1": 1, "SEC61B|0": 1, "SEC61B|1": 1},
        )


def test_groups_that_are_left_out_have_no_batches_and_a_warning_names_them(collect_messages):
    arguments: Any = {"batch_group_by": "marker", "group_weights": {"TOMM20": 2}, "stratify_by": None}
    assert group_weights(**arguments) == {"TOMM20": 1.0, "SEC61B": 0.0}
    assert collect_messages(**arguments) == [
        "group_weights leaves out 'SEC61B': weight 0, so that they have no batches"
    ]
    with_others = arguments | {"group_weights": {"TOMM20": 2, "...": 2}}
    assert group_weights(**with_others) == {"TOMM20": 0.5, "SEC61B": 0.5}
    assert collect_messages(**with_others) == []


def test_weights_without_groups_have_no_effect_and_log_a_warning(collect_messages):
    assert collect_messages(group_weights={"x": 1}) == ["group_weights has no effect: batches are not grouped"]


INVALID = {
    "an unknown group": (
        {"batch_group_by": "marker", "group_weights": {"TOM20": 1}},
        ValueError,
        "group_weights must name groups of the table, got 'TOM20'; did you mean 'TOMM20'",
    ),
    "a group named twice": (
        {"batch_group_by": "plate", "group_weights": {0: 1, "0": 1}},
        ValueError,
        "group_weights must name each group once, got '0' for 0",
    ),
    "a negative weight": (
        {"batch_group_by": "marker", "group_weights": {"TOMM20": -1}},
        ValueError,
        r"group_weights\['TOMM20'\] must be finite and at least 0",
    ),
    "weights in a list": ({"batch_group_by": "marker", "group_weights": [1]}, TypeError, "group_weights must be"),
    "no such column of groups": ({"batch_group_by": "well"}, ValueError, "'well'"),
    "no such column of strata": ({"stratify_by": ["well"]}, ValueError, "'well'"),
    "a number in place of a column": ({"batch_group_by": 3}, TypeError, "batch_group_by must be the name of a column"),
    "a column named twice": ({"stratify_by": ["marker"] * 2}, ValueError, "stratify_by must name at least one column"),
    "our name of a column": ({"experiment_by": "marker"}, TypeError, "columns as batch_group_by, got experiment_by"),
    "both versions": (
        {"experiment_aware": True, "stratify_by": "condition"},
        TypeError,
        "arguments of one version of VisCy, .* write batch_group_by='experiment' for experiment_aware=True",
    ),
    "a flag that is not one": ({"experiment_aware": 1}, TypeError, "experiment_aware must be True or False"),
    "an option that is unknown": ({"patch_size": 3}, TypeError, "patch_size"),
    "a rank outside": ({"rank": 1}, ValueError, "got 1 of 1"),
}


@pytest.mark.parametrize(("arguments", "error", "message"), INVALID.values(), ids=INVALID.keys())
def test_an_invalid_argument_raises_an_error(arguments, error, message):
    with pytest.raises(error, match=message):
        from_viscy(TABLE, 16, **arguments)


@pytest.mark.parametrize(
    ("arguments", "name"),
    [({}, "stratify_by"), ({"stratify_by": [], "batch_group_by": ["marker", "perturbation"]}, "batch_group_by")],
)
def test_a_missing_column_is_reported_under_the_name_of_viscy(arguments, name):
    table = TABLE.drop(columns="perturbation")
    with pytest.raises(ValueError, match=f"{name} must name columns of the table, got 'perturbation', which it lacks"):
        from_viscy(table, 16, **arguments)
    with pytest.raises(ValueError, match=rf"switch it off with {name}=\[\]"):
        from_viscy(table, 16, **arguments)


def test_the_column_of_times_is_that_of_the_version():
    table = TABLE.drop(columns=["hours_post_perturbation", "hours_post_infection"])
    with pytest.raises(ValueError, match="'hours_post_perturbation'"):
        from_viscy(table, 16, temporal_enrichment=True)
    with pytest.raises(ValueError, match="'hours_post_infection'"):
        from_viscy(table, 16, experiment_aware=True, temporal_enrichment=True)


def test_the_global_slots_come_from_all_times_and_conditions_keep_their_shares():
    """VisCy's sampler draws them from outside the window, and enrichment replaces its balance."""
    sampler = from_viscy(TABLE, 16, temporal_enrichment=True, temporal_window_hours=1.0)
    for k in range(20):
        assert TABLE["perturbation"].iloc[sampler.batch(k)].value_counts().to_dict() == {"mock": 8, "drug": 8}
