"""The planned composition: target shares of an epoch and of a batch, and the options as resolved."""

import tracemalloc
from collections import Counter

import numpy as np
import pandas as pd
import pytest

from viscy_data import AnchorIndex, FlexibleBatchSampler, PlannedComposition
from viscy_sampling_testkit import assert_mean_counts

STRATA = {
    ("a", "drug"): 10,
    ("a", "mock"): 30,
    ("b", "mock"): 20,
    ("c", "drug"): 20,
    ("c", "mock"): 20,
}


def make_table(strata=STRATA):
    """Make a table with the given number of anchors of each (experiment, condition)."""
    rows = [stratum for stratum, n in strata.items() for _ in range(n)]
    table = pd.DataFrame(rows, columns=["experiment", "condition"])
    return table.assign(hours_post_infection=np.arange(len(table)) % 5 * 0.5)


def plan(strata=STRATA, **options):
    return FlexibleBatchSampler(make_table(strata), **{"batch_size": 20} | options).planned()


def assert_strata(series, expected):
    """Assert that a series has the expected share for each stratum, 0 for those left out."""
    assert series.to_dict() == pytest.approx(dict.fromkeys(series.index, 0.0) | expected)


# what is planned for a batch


def test_a_batch_is_split_over_the_conditions_of_its_group():
    planned = plan()
    assert isinstance(planned, PlannedComposition)
    assert_strata(planned.batch_shares("a"), {("a", "drug"): 0.5, ("a", "mock"): 0.5})
    assert_strata(planned.batch_shares("b"), {("b", "mock"): 1.0})


def test_a_ratio_sets_the_shares_of_the_conditions_and_an_absent_one_gives_its_share_away():
    planned = plan(condition_ratio={"mock": 1, "drug": 3})
    assert_strata(planned.batch_shares("a"), {("a", "drug"): 0.75, ("a", "mock"): 0.25})
    assert_strata(planned.batch_shares("b"), {("b", "mock"): 1.0})


def test_a_leak_comes_from_the_other_groups_in_proportion_to_their_rows_of_each_condition():
    planned = plan(leaky=0.2)
    expected = {
        ("a", "drug"): 0.4,
        ("a", "mock"): 0.4,
        ("b", "mock"): 0.1 * 20 / 40,
        ("c", "drug"): 0.1,
        ("c", "mock"): 0.1 * 20 / 40,
    }
    assert_strata(planned.batch_shares("a"), expected)


def test_a_leak_without_balance_comes_from_all_other_rows_alike():
    planned = plan(leaky=0.2, condition_balanced=False)
    expected = {("a", None): 0.8, ("b", None): 0.2 * 20 / 60, ("c", None): 0.2 * 40 / 60}
    assert planned.batch_shares("a").to_list() == pytest.approx(list(expected.values()))


def test_nothing_leaks_from_a_group_of_weight_0():
    planned = plan(leaky=0.2, experiment_weights={"a": 1, "b": 1, "c": 0})
    # of the drug, no other group has a row that may leak: the mock cells take its share
    assert_strata(planned.batch_shares("a"), {("a", "drug"): 0.4, ("a", "mock"): 0.4, ("b", "mock"): 0.2})


def test_enrichment_changes_no_share():
    options = {"leaky": 0.25, "condition_ratio": {"mock": 2, "drug": 1}}
    enriched = plan(**options, temporal_enrichment=True, temporal_global_fraction=0.0)
    pd.testing.assert_series_equal(enriched.batch_shares("c"), plan(**options).batch_shares("c"))


def test_the_only_group_need_not_be_named():
    planned = plan(experiment_aware=False)
    assert planned.batch_shares().to_list() == pytest.approx([0.5, 0.5])
    alone = plan({("a", "mock"): 30, ("a", "drug"): 10})
    pd.testing.assert_series_equal(alone.batch_shares(), alone.batch_shares("a"))


@pytest.mark.parametrize(
    ("group", "message"),
    [
        (None, "group must be given if there is more than one, got None; pass one of 'a', 'c'"),
        ("aa", r"group must be a label of the table, got 'aa'; did you mean 'a'\? The labels are 'a', 'b', 'c'"),
        ("b", "group must have batches, but experiment_weights gives 'b' the weight 0; pass one of 'a', 'c'"),
        (["a"], r"group must be a label of the table, got \['a'\]"),
    ],
)
def test_a_group_that_has_no_plan_is_an_error(group, message):
    planned = plan(experiment_weights={"a": 1, "b": 0, "c": 1})
    with pytest.raises(ValueError, match=message):
        planned.batch_shares(group)


# what is planned for an epoch


def test_strata_are_in_the_order_of_the_index_and_have_at_least_one_anchor():
    planned = plan()
    assert planned.strata.index.names == ["group", "condition"]
    assert planned.strata["anchors"].to_dict() == STRATA
    assert list(planned.strata.columns) == ["anchors", "table_share", "epoch_share"]
    assert planned.strata["anchors"].dtype == np.int64
    assert planned.strata["table_share"].to_list() == pytest.approx([n / 100 for n in STRATA.values()])


def test_by_default_groups_get_batches_in_proportion_to_their_rows():
    planned = plan()
    assert planned.group_shares.to_dict() == pytest.approx({"a": 0.4, "b": 0.2, "c": 0.4})
    assert planned.group_shares.index.name == "group"
    assert planned.strata["epoch_share"].to_list() == pytest.approx([0.2, 0.2, 0.2, 0.2, 0.2])


def test_changing_the_plan_does_not_change_the_sampler():
    sampler = FlexibleBatchSampler(make_table(), 20)
    batch, planned = sampler.batch(3), sampler.planned()
    planned.group_shares[:] = 0.0
    planned.strata["anchors"] = 0
    planned.options["batch_size"] = 1
    assert sampler.planned().group_shares.sum() == pytest.approx(1)
    assert sampler.batch(3, epoch=1) != batch == sampler.batch(3)


def test_a_group_of_weight_0_is_listed_with_a_share_of_0():
    planned = plan(experiment_weights={"a": 3, "b": 0, "c": 1})
    assert planned.group_shares.to_dict() == pytest.approx({"a": 0.75, "b": 0.0, "c": 0.25})
    assert planned.strata["epoch_share"].to_list() == pytest.approx([0.375, 0.375, 0.0, 0.125, 0.125])


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"leaky": 0.3},
        {"leaky": 0.3, "condition_balanced": False},
        {"leaky": 0.3, "experiment_aware": False},
        {"leaky": 0.3, "experiment_weights": "uniform", "condition_ratio": {"mock": 0, "drug": 1, "dye": 2}},
        {"leaky": 0.3, "experiment_weights": {"a": 1, "b": 0, "c": 2, "d": 0}},
        {"leaky": 0.3, "experiment_weights": "sqrt", "temporal_enrichment": True},
    ],
)
def test_an_epoch_is_the_mean_of_its_batches(options):
    strata = {
        ("a", "dye"): 7,
        ("b", "drug"): 5,
        ("b", "mock"): 9,
        ("c", "drug"): 100,
        ("c", "mock"): 3,
        ("d", "dye"): 2,
    }
    planned = plan(strata, **options)
    mean = sum(
        share * planned.batch_shares(None if len(planned.group_shares) == 1 else group).to_numpy()
        for group, share in planned.group_shares.items()
        if share
    )
    np.testing.assert_allclose(planned.strata["epoch_share"], mean, atol=1e-12)
    assert planned.strata["epoch_share"].sum() == pytest.approx(1, abs=1e-12)


@pytest.mark.parametrize(("drop_last", "n_batches"), [(True, 5), (False, 6)])
def test_an_epoch_has_the_batches_of_all_ranks(drop_last, n_batches):
    planned = plan(STRATA | {("d", "mock"): 3}, drop_last=drop_last, num_replicas=2, rank=0)
    assert planned.n_batches == n_batches


def test_thousands_of_groups_need_no_table_of_groups_by_groups():
    n_groups, n_conditions = 3000, 20
    row = np.arange(n_groups * n_conditions)
    table = pd.DataFrame({"experiment": row // n_conditions, "condition": row % n_conditions})
    sampler = FlexibleBatchSampler(table, 32, leaky=0.5)
    tracemalloc.start()
    try:
        planned = sampler.planned()
        shares = planned.batch_shares(7)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 1000 * len(row) < 8 * n_groups**2
    assert shares.sum() == pytest.approx(1)
    assert planned.strata["epoch_share"].to_numpy() == pytest.approx(1 / len(row))


# what the batches hold


def stratum_codes(table, planned):
    """Return which of the planned strata each row of a table is of, shape (n_rows,)."""
    by = {"experiment": planned.options["experiment_by"], "condition": planned.options["condition_by"]}
    labels = [table[name] if column else [None] * len(table) for name, column in by.items()]
    return planned.strata.index.get_indexer(pd.MultiIndex.from_arrays(labels))


@pytest.mark.slow
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"condition_ratio": {"mock": 1, "drug": 2.5}},
        {"experiment_weights": "uniform", "temporal_enrichment": True},
        {"leaky": 0.25, "experiment_weights": {"a": 3, "b": 1, "c": 0}, "drop_last": False},
        {"leaky": 0.25, "condition_balanced": False},
        {"leaky": 0.25, "condition_ratio": {"mock": 1, "drug": 2.5}, "temporal_enrichment": True},
    ],
)
def test_batches_hold_what_is_planned(options):
    """Mean number of slots of each stratum in batches of each group; false alarm below 1e-6 in each case."""
    table, n_slots = make_table({stratum: 4 * n for stratum, n in STRATA.items()}), 20
    sampler = FlexibleBatchSampler(table, n_slots, seed=1, **options)
    planned = sampler.planned()
    batches = np.array([batch for k in range(2500) if len(batch := sampler.batch(k)) == n_slots])
    groups = np.array(
        [Counter(experiments).most_common(1)[0][0] for experiments in table["experiment"].to_numpy()[batches]]
    )
    strata = stratum_codes(table, planned)[batches]
    leak = n_slots * planned.options["leaky"]
    shares = planned.group_shares[planned.group_shares > 0]
    for group in shares.index:
        owners = planned.strata.index.get_level_values("group")
        for stratum, (owner, share) in enumerate(zip(owners, planned.batch_shares(group), strict=True)):
            # quotas are rounded to the floor or the ceiling; leaked rows are of any of the other groups
            counts, spread = (strata[groups == group] == stratum).sum(axis=1), leak if share and owner != group else 1
            assert_mean_counts(counts, share * n_slots, spread, false_alarm=1e-6 / (len(shares) * len(STRATA)))


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"experiment_aware": False, "condition_ratio": {"mock": 1, "drug": 4}},
        {"condition_balanced": False, "experiment_weights": "sqrt"},
        {"experiment_weights": {"a": 1, "b": 5, "c": 0}, "temporal_enrichment": True},
    ],
)
@pytest.mark.parametrize("drop_last", [True, False])
def test_an_epoch_holds_what_is_planned(options, drop_last):
    """Groups get their batches to within one, so that no stratum is off by more than the slots of two batches."""
    table, n_slots = make_table({stratum: 10 * n for stratum, n in STRATA.items()} | {("a", "mock"): 307}), 20
    sampler = FlexibleBatchSampler(table, n_slots, drop_last=drop_last, **options)
    planned = sampler.planned()
    drawn = np.concatenate(list(sampler))
    observed = np.bincount(stratum_codes(table, planned)[drawn], minlength=len(planned.strata))
    assert np.abs(observed - planned.strata["epoch_share"] * len(drawn)).max() <= 2 * n_slots


# labels


def test_an_axis_that_is_off_has_the_one_label_none():
    planned = plan(experiment_aware=False)
    assert planned.strata.loc[(None, "mock"), "anchors"] == 70
    assert list(planned.group_shares.index) == [None]
    assert plan(experiment_aware=False, condition_balanced=False).strata["anchors"].to_list() == [100]


def test_labels_of_several_columns_are_tuples():
    planned = plan(experiment_by=["experiment", "condition"], condition_by=["condition"])
    assert planned.strata.loc[(("a", "drug"), ("drug",)), "anchors"] == 10
    assert list(planned.group_shares.index) == [
        ("a", "drug"),
        ("a", "mock"),
        ("b", "mock"),
        ("c", "drug"),
        ("c", "mock"),
    ]
    assert planned.batch_shares(("c", "drug")).loc[(("c", "drug"), ("drug",))] == 1


def test_labels_keep_their_type():
    table = make_table().assign(
        experiment=lambda table: table["experiment"].map({"a": 1, "b": 2, "c": 3}).astype("int8")
    )
    planned = FlexibleBatchSampler(table, 20).planned()
    assert planned.batch_shares(1).loc[(1, "drug")] == 0.5
    assert planned.batch_shares(np.int64(1)).loc[(1, "drug")] == 0.5
    with pytest.raises(ValueError, match="group must be a label of the table, got '1'"):
        planned.batch_shares("1")


def test_an_index_has_the_plan_of_its_table():
    table = make_table()
    index = AnchorIndex.build(table, time_by=None)
    given, built = (FlexibleBatchSampler(anchors, 20, leaky=0.1).planned() for anchors in (table, index))
    pd.testing.assert_frame_equal(given.strata, built.strata)
    pd.testing.assert_series_equal(given.batch_shares("a"), built.batch_shares("a"))


# options


def test_options_are_resolved():
    planned = plan(leaky=0.25, experiment_weights={"a": 1, "b": 3, "c": 0}, condition_ratio={"mock": 1, "drug": 4})
    assert planned.options == {
        "batch_size": 20,
        "experiment_aware": True,
        "leaky": 0.25,
        "experiment_weights": {"a": 0.25, "b": 0.75, "c": 0.0},
        "condition_balanced": True,
        "condition_ratio": {"drug": 0.8, "mock": 0.2},
        "temporal_enrichment": False,
        "temporal_window_hours": None,
        "temporal_global_fraction": None,
        "drop_last": True,
        "anchors_per_condition": None,
        "epoch_batches": None,
        "distinct_by": None,
        "locality": 1,
        "place_by": None,
        "experiment_by": "experiment",
        "condition_by": "condition",
        "time_by": None,
    }


def test_defaults_are_filled_in():
    options = plan(temporal_enrichment=True, experiment_by=["experiment"]).options
    assert options["experiment_weights"] == pytest.approx({("a",): 0.4, ("b",): 0.2, ("c",): 0.4})
    assert options["condition_ratio"] == {"drug": 0.5, "mock": 0.5}
    assert (options["temporal_window_hours"], options["temporal_global_fraction"]) == (2.0, 0.3)
    assert (options["experiment_by"], options["time_by"]) == (("experiment",), "hours_post_infection")


@pytest.mark.parametrize(
    ("options", "resolved"),
    [
        (
            {"experiment_aware": False, "leaky": 0.5, "experiment_weights": {"a": 1}},
            {"experiment_aware": False, "leaky": 0.0, "experiment_weights": None, "experiment_by": None},
        ),
        ({"leaky": 0.5, "experiment_weights": {"a": 1, "b": 0, "c": 0}}, {"leaky": 0.0}),
        (
            {"condition_balanced": False, "condition_ratio": {"mock": 1}},
            {"condition_balanced": False, "condition_ratio": None, "condition_by": None},
        ),
        (
            {"temporal_enrichment": True, "temporal_global_fraction": 1.0},
            {"temporal_enrichment": False, "temporal_window_hours": None, "temporal_global_fraction": None},
        ),
    ],
)
def test_an_option_without_effect_is_resolved_to_none(options, resolved):
    planned = plan(**options).options
    assert {name: planned[name] for name in resolved} == resolved
