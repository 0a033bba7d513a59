"""Batches are grouped, balanced and enriched by any columns, whose values have labels."""

from dataclasses import asdict, replace

import numpy as np
import pandas as pd
import pytest

from viscy_data import FlexibleBatchSampler
from viscy_train.composition.diagnostics import diagnose
from viscy_train.composition.dry_run import dry_run
from viscy_train.composition.targets import target_composition
from viscy_train.config.schema import LossConfig, SamplerConfig
from viscy_train.errors import UserError
from viscy_train.loading.axes import add_labels, axis_names, label_of, label_plan
from viscy_train.loading.sampler import drop_excluded, make_sampler, training_options, validation_options


@pytest.fixture
def anchors(anchors_of):
    """Anchors of two experiments and conditions, with a marker, a dose that is a number, and an age in hours."""
    anchors = anchors_of({("a", "mock"): 60, ("a", "virus"): 60, ("b", "mock"): 60, ("b", "virus"): 60})
    number = np.arange(len(anchors))
    marker = pd.Categorical(np.where(number % 3 == 0, "DNA", "ER"))
    return anchors.assign(
        marker=marker,
        dose=np.where(number % 2 == 0, 0.5, 10.0),
        replicate=number % 4,
        control=number % 2 == 0,
        age=number % 7,
    )


@pytest.mark.parametrize(
    "options",
    [
        {"experiment_by": "marker"},
        {"experiment_by": ["experiment", "marker"]},
        {"condition_by": "dose"},
        {"condition_by": ["condition", "dose", "control"]},
        {"experiment_by": ["marker"], "condition_by": ["replicate"]},
        {"temporal_enrichment": True, "time_by": "age", "temporal_window_hours": 1.0},
        {"distinct_by": ["marker", "age"]},
    ],
)
def test_batches_are_those_of_the_sampler_with_the_same_names(anchors, options):
    config = SamplerConfig(batch_size=12, **options)
    plain = {name: by[0] if isinstance(by, list) and len(by) == 1 else by for name, by in options.items()}
    expected = FlexibleBatchSampler(anchors, **asdict(config) | plain, seed=3)
    sampler = make_sampler(anchors, config, 3)
    assert list(sampler) == list(expected)
    assert sampler.state_dict() == expected.state_dict()


@pytest.mark.parametrize(
    ("place_by", "expected"),
    [
        (None, ["experiment", "position", "t"]),
        ("well", ["experiment", "well"]),
        (["t", "position"], ["t", "experiment", "position"]),
    ],
)
def test_locality_sorts_by_position_and_frame_unless_columns_are_given(anchors, place_by, expected):
    anchors = anchors.assign(well="A/1")
    config = SamplerConfig(batch_size=12, locality=4, place_by=place_by)
    sampler = make_sampler(anchors, config, 3)
    assert (sampler.locality, sampler.place_by) == (4, tuple(expected))
    assert list(sampler) == list(FlexibleBatchSampler(anchors, 12, locality=4, place_by=expected, seed=3))
    of_channels = make_sampler(anchors.assign(channel="DNA"), SamplerConfig(batch_size=12, locality=4), 3)
    assert of_channels.place_by == ("experiment", "position", "t", "channel")
    assert make_sampler(anchors[["experiment", "condition", "hours_post_infection"]], config_of(4), 3).place_by is None
    options = validation_options(config, anchors)
    assert (options.locality, options.place_by) == (4, place_by)


def config_of(locality):
    return SamplerConfig(batch_size=12, locality=locality)


def test_places_must_be_columns_without_missing_values_where_they_are_used(anchors):
    with pytest.raises(UserError, match=r"data.sampler.place_by must name columns .*, got 'wel'"):
        make_sampler(anchors, SamplerConfig(batch_size=12, locality=4, place_by="wel"), 3)
    missing = anchors.assign(row=np.where(np.arange(len(anchors)) < 3, np.nan, 1.0))
    with pytest.raises(UserError, match=r"data.sampler.place_by must name columns without missing values: 3 of"):
        make_sampler(missing, SamplerConfig(batch_size=12, locality=4, place_by="row"), 3)
    with pytest.raises(UserError, match=r"data\.sampler: locality must be at least 1, got 0"):
        make_sampler(anchors, config_of(0), 3)


@pytest.mark.parametrize(
    ("column", "full"),
    [
        ("well", ["experiment", "well"]),
        ("position", ["experiment", "position"]),
        ("track_id", ["experiment", "position", "track_id"]),
    ],
)
@pytest.mark.parametrize("option", ["experiment_by", "condition_by", "distinct_by"])
def test_equal_names_of_different_experiments_are_different(anchors, option, column, full):
    anchors = anchors.assign(well="A/1")
    config, qualified = (SamplerConfig(batch_size=12, **{option: by}) for by in (column, full))
    assert list(make_sampler(anchors, config, 3)) == list(make_sampler(anchors, qualified, 3))
    assert axis_names(config) == axis_names(qualified)
    pd.testing.assert_frame_equal(add_labels(anchors, config), add_labels(anchors, qualified))
    if option != "distinct_by":
        axis = option.removesuffix("_by")
        assert add_labels(anchors, config)[axis].nunique() == len(anchors[full].drop_duplicates())


def test_the_weights_of_wells_name_their_experiments(anchors):
    anchors = anchors.assign(well="A/1")
    config = SamplerConfig(batch_size=12, experiment_by="well", experiment_weights={"a | A/1": 0, "b | A/1": 1})
    rows = drop_excluded(config, add_labels(anchors, config), np.arange(len(anchors)))
    assert set(anchors["experiment"].iloc[rows]) == {"b"}
    batches = list(make_sampler(anchors, config, 3))
    assert all(set(anchors["experiment"].iloc[rows]) == {"b"} for rows in batches)


def test_columns_that_are_qualified_already_stay_in_their_order(anchors):
    labeled = add_labels(anchors.assign(well="A/1"), SamplerConfig(condition_by=["well", "experiment"]))
    assert set(labeled["condition"]) == {"A/1 | a", "A/1 | b"}


def test_the_labels_of_several_columns_are_joined(anchors):
    labeled = add_labels(
        anchors, SamplerConfig(experiment_by=["experiment", "marker"], condition_by="dose", time_by="age")
    )
    assert sorted(labeled["experiment"].unique()) == ["a | DNA", "a | ER", "b | DNA", "b | ER"]
    assert labeled["experiment"].iloc[0] == f"{anchors['experiment'].iloc[0]} | {anchors['marker'].iloc[0]}"
    assert sorted(labeled["condition"].unique()) == ["0.5", "10"]
    assert labeled["hours_post_infection"].tolist() == anchors["age"].tolist()
    assert axis_names(SamplerConfig(experiment_by=["experiment", "marker"])) == ["experiment | marker", "condition"]


def test_a_table_with_the_default_columns_is_not_copied(anchors):
    assert add_labels(anchors, SamplerConfig(experiment_by=["experiment"])) is anchors


@pytest.mark.parametrize(
    ("value", "label"), [(2.0, "2"), (0.1, "0.1"), (3, "3"), (True, "true"), ("a", "a"), (("a", 1.5), "a | 1.5")]
)
def test_a_value_has_a_label(value, label):
    assert label_of(value) == label


def test_values_with_the_same_label_are_refused():
    anchors = pd.DataFrame({"a": ["x | y", "x"], "b": ["z", "y | z"]})
    with pytest.raises(UserError, match=r"different values of a, b must not have the same label, 'x \| y \| z'"):
        add_labels(anchors, SamplerConfig(condition_by=["a", "b"]))


@pytest.mark.parametrize(
    ("by", "weights", "excluded"),
    [
        ("marker", {"DNA": 1, "ER": 0}, {"ER"}),
        (["experiment", "marker"], {"a | DNA": 2, "...": 1, "b | ER": 0}, {"b | ER"}),
        ("dose", {"0.5": 0, "10.0": 1}, {"0.5"}),
        ("replicate", {"0": 0, "...": 1}, {"0"}),
        ("control", {"true": 0, "false": 1}, {"true"}),
    ],
)
def test_the_keys_of_weights_are_labels(anchors, by, weights, excluded):
    config = SamplerConfig(batch_size=12, experiment_by=by, experiment_weights=weights)
    labels = add_labels(anchors, config)["experiment"].to_numpy()
    drawn = {label for batch in make_sampler(anchors, config, 0) for label in labels[batch]}
    assert drawn == set(labels) - excluded


def test_an_unknown_label_is_refused_with_the_nearest(anchors):
    config = SamplerConfig(batch_size=12, condition_by="marker", condition_ratio={"DNS": 1, "...": 1})
    with pytest.raises(
        UserError, match=r"condition_ratio must name labels of the table, got 'DNS'; did you mean 'DNA'"
    ):
        make_sampler(anchors, config, 0)


@pytest.mark.parametrize("option", ["experiment_by", "condition_by", "distinct_by"])
def test_a_column_that_does_not_exist_is_refused_with_the_nearest(anchors, option):
    with pytest.raises(
        UserError, match=rf"data.sampler.{option} must name columns .*experiment, .* got 'markr'; did you mean 'marker'"
    ):
        make_sampler(anchors, SamplerConfig(**{option: ["experiment", "markr"]}), 0)


def test_a_missing_value_of_a_used_column_is_refused_with_its_experiments(anchors):
    lacking = anchors.assign(dose=anchors["dose"].where(anchors["experiment"] == "b"))
    message = r"data.sampler.condition_by .* 120 of 240 anchors have no value of 'dose' \(a: 120 of 120\); give"
    for options in ({"condition_by": "dose"}, {"condition_by": ["condition", "dose"]}):
        with pytest.raises(UserError, match=message):
            make_sampler(lacking, SamplerConfig(batch_size=12, **options), 0)
    unused = SamplerConfig(batch_size=12, condition_by="dose", condition_balanced=False)
    make_sampler(lacking, unused, 0)
    with pytest.raises(UserError, match=message):
        dry_run(lacking, unused, seed=0, loss=LossConfig(positives="condition"))


def test_missing_values_are_counted_by_experiment(anchors):
    is_known = (anchors["experiment"] == "b") & (np.arange(len(anchors)) % 4 > 0)
    lacking = anchors.assign(dose=anchors["dose"].where(is_known))
    with pytest.raises(UserError, match=r"150 of 240 anchors have no value of 'dose' \(a: 120 of 120, b: 30 of 120\)"):
        make_sampler(lacking, SamplerConfig(batch_size=12, condition_by="dose"), 0)
    many = anchors.assign(experiment=[f"e{number % 30}" for number in range(len(anchors))], dose=np.nan)
    with pytest.raises(UserError, match=r"\(e0: 8 of 8, .* and \d+ more\); give them the key 'dose'"):
        make_sampler(many, SamplerConfig(batch_size=12, condition_by="dose"), 0)


def test_times_that_are_not_numbers_are_refused_whether_batches_are_enriched_or_not(anchors):
    lacking = anchors.assign(age=np.where(anchors["experiment"] == "b", anchors["age"], np.nan))
    for is_enriched in (False, True):
        options = SamplerConfig(batch_size=12, time_by="marker", temporal_enrichment=is_enriched)
        with pytest.raises(UserError, match=r"data.sampler.time_by must name a column of numbers, got 'marker'"):
            dry_run(anchors, options, seed=0)
        with pytest.raises(UserError, match=r"data.sampler.time_by .* have no value of 'age'"):
            dry_run(lacking, replace(options, time_by="age"), seed=0)


@pytest.mark.parametrize("option", ["experiment_by", "condition_by", "distinct_by"])
@pytest.mark.parametrize("value", [[], [""], [5], {"a": 1}])
def test_an_axis_needs_names_of_columns(option, value):
    with pytest.raises(UserError, match=rf"data.sampler.{option} must name columns"):
        SamplerConfig(**{option: value})


def test_a_plan_has_labels(anchors):
    config = SamplerConfig(
        batch_size=12, experiment_by=["experiment", "marker"], condition_by="dose", condition_ratio={"0.5": 3, "10": 1}
    )
    planned = label_plan(make_sampler(anchors, config, 0).planned())
    assert planned.options["condition_ratio"] == {"0.5": 0.75, "10": 0.25}
    assert planned.strata.index.names == ["group", "condition"]
    labeled = add_labels(anchors, config)
    targets = target_composition(labeled, planned)
    assert set(targets.index) == {(group, dose) for group in labeled["experiment"].unique() for dose in ("0.5", "10")}
    assert targets["target"].sum() == pytest.approx(1)
    np.testing.assert_allclose(targets["target"].groupby(level=1).sum(), [0.75, 0.25])
    assert planned.batch_shares("a | ER").sum() == pytest.approx(1)


def test_a_dry_run_checks_and_names_the_columns(anchors):
    config = SamplerConfig(batch_size=12, experiment_by=["experiment", "marker"], condition_by="dose", leaky=0.25)
    result = dry_run(anchors, config, seed=0)
    assert [check.name for check in result.checks] == ["the batch's own group", "condition 0.5", "condition 10"]
    assert all(check.matched for check in result.checks)
    assert ("b | DNA", "10") in result.strata.index
    uneven = anchors[(anchors["marker"] == "ER") | (anchors["dose"] == 10)].reset_index(drop=True)
    sentences = diagnose(dry_run(uneven, config, seed=0))
    assert any(sentence.startswith("group 'a | DNA' has only condition '10'") for sentence in sentences)


def test_a_dry_run_without_axes_needs_no_columns(anchors):
    config = SamplerConfig(batch_size=12, experiment_aware=False, condition_balanced=False, experiment_by="marker")
    assert dry_run(anchors, config, seed=0).checks == []


def test_options_for_training_and_validation_follow_the_labels(anchors):
    config = SamplerConfig(batch_size=12, condition_by="dose", condition_ratio={"0.5": 0, "10": 1})
    labeled = add_labels(anchors, config)
    rows = drop_excluded(config, labeled, np.arange(len(anchors)))
    assert set(anchors["dose"].iloc[rows]) == {10.0}
    of_table = {name: set(labeled[name].unique()) for name in ("experiment", "condition")}
    trained = of_table | {"condition": {"10"}}
    assert training_options(config, of_table, trained).condition_ratio == {"10": 1}
    assert validation_options(config, labeled.iloc[rows]).condition_ratio == {"10": 1}
