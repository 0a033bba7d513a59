"""Drawn tables have the traits that samplers mishandle, drawn options are valid for them, and both shrink well."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import Phase, find, given, settings
from hypothesis import strategies as st

from viscy_sampling_testkit.strategies import anchor_tables, sampler_options

QUICK = settings(max_examples=100, deadline=None, database=None)
SEARCH = settings(max_examples=2000, deadline=None, database=None)
COLUMNS = ["experiment", "condition", "hours_post_infection"]

OPTIONS = {
    "batch_size",
    "experiment_aware",
    "leaky",
    "experiment_weights",
    "condition_balanced",
    "condition_ratio",
    "temporal_enrichment",
    "temporal_window_hours",
    "temporal_global_fraction",
    "seed",
    "drop_last",
}


# To find out whether a trait occurs, no example needs to shrink.
WITHOUT_SHRINKING = settings(SEARCH, phases=[Phase.generate])


def find_any(strategy, condition):
    return find(strategy, condition, settings=WITHOUT_SHRINKING)


def find_smallest(strategy, condition):
    return find(strategy, condition, settings=SEARCH)


def with_options(tables, **limits):
    return tables.flatmap(lambda table: st.tuples(st.just(table), sampler_options(table, **limits)))


@QUICK
@given(table=anchor_tables())
def test_drawn_table_is_a_complete_anchor_table(table):
    assert list(table) == COLUMNS
    assert 1 <= len(table) <= 200
    assert not table.isna().any(axis=None)
    assert np.isfinite(table["hours_post_infection"]).all()


@QUICK
@given(
    table=anchor_tables(experiments=["x"], conditions=[1, 2], hours=st.just(5.0), max_strata=2, max_rows_per_stratum=3)
)
def test_drawn_table_respects_the_arguments(table):
    assert set(table["experiment"]) == {"x"}
    assert set(table["condition"]) <= {1, 2}
    assert set(table["hours_post_infection"]) == {5.0}
    assert table["condition"].value_counts().max() <= 3


@pytest.mark.slow
def test_smallest_table_has_one_plain_row():
    table = find_smallest(anchor_tables(), lambda table: True)
    pd.testing.assert_frame_equal(
        table, pd.DataFrame([("a", "x", 0.0)], columns=COLUMNS).astype({"experiment": object, "condition": object})
    )


@pytest.mark.slow
def test_smallest_table_with_two_groups_has_two_rows_and_the_first_two_labels():
    table = find_smallest(anchor_tables(), lambda table: table["experiment"].nunique() == 2)
    assert table["experiment"].tolist() == ["a", "b"]
    assert table["condition"].tolist() == ["x", "x"]


@pytest.mark.parametrize(
    "trait",
    [
        lambda table: len({1, "1"} & set(table["experiment"])) == 2,
        lambda table: ("a", "b") in set(table["experiment"]),
        lambda table: pd.crosstab(*(table[c].map(repr) for c in COLUMNS[:2])).eq(0).any(axis=None),
        lambda table: table["condition"].dtype == "category" and len(table["condition"].cat.categories) > 4,
        lambda table: table["experiment"].dtype == "string",
        lambda table: table.index.has_duplicates,
        lambda table: isinstance(table.index[0], str),
        lambda table: not table["experiment"].map(repr).is_monotonic_increasing,
        lambda table: len(table) > 50 and table["hours_post_infection"].nunique() == 1,
    ],
)
def test_tables_of_every_trait_are_drawn(trait):
    assert trait(find_any(anchor_tables(), trait))


@pytest.mark.slow
@QUICK
@given(drawn=with_options(anchor_tables()))
def test_drawn_options_are_valid_for_their_table(drawn):
    table, options = drawn
    assert set(options) == OPTIONS
    assert options["batch_size"] >= 1
    assert options["batch_size"] <= len(table) or not options["drop_last"]
    assert 0 <= options["leaky"] < 1
    assert 0 <= options["temporal_global_fraction"] <= 1
    assert 0 <= options["temporal_window_hours"] < np.inf
    weights, ratio = options["experiment_weights"], options["condition_ratio"]
    if isinstance(weights, dict):
        assert set(weights) == set(table["experiment"])
        assert max(weights.values()) > 0
    if ratio is not None:
        assert set(ratio) == set(table["condition"])
        conditions = table.groupby(table["experiment"].map(repr))["condition"].agg(list)
        assert all(any(ratio[condition] > 0 for condition in own) for own in conditions)


def test_smallest_options_turn_everything_off():
    table = pd.DataFrame([("a", "x", 0.0)] * 30, columns=COLUMNS)
    options = find_smallest(sampler_options(table), lambda options: True)
    off = {"experiment_aware": False, "leaky": 0.0, "condition_balanced": False, "temporal_enrichment": False}
    plain = {"experiment_weights": None, "condition_ratio": None, "batch_size": 1, "seed": 0, "drop_last": False}
    assert options.items() >= (off | plain).items()


@pytest.mark.parametrize(
    "trait",
    [
        lambda options: options["leaky"] > 0.8,
        lambda options: options["experiment_weights"] == "sqrt",
        lambda options: (
            isinstance(options["experiment_weights"], dict) and 0.0 in options["experiment_weights"].values()
        ),
        lambda options: options["condition_ratio"] is not None and 0.0 in options["condition_ratio"].values(),
        lambda options: options["batch_size"] > 30,
        lambda options: options["drop_last"],
        lambda options: options["temporal_enrichment"] and options["temporal_global_fraction"] == 1.0,
    ],
)
def test_options_of_every_kind_are_drawn(trait):
    table = pd.DataFrame([("a", "x", 0.0), ("a", "y", 0.0), ("b", "x", 0.0)] * 20, columns=COLUMNS)
    assert trait(find_any(sampler_options(table, max_batch_size=40), trait))


@pytest.mark.parametrize("name", ["experiments", "conditions"])
def test_table_without_labels_raises(name):
    with pytest.raises(ValueError, match=f"{name} must name at least one label, got none"):
        anchor_tables(**{name: []})


@pytest.mark.slow
def test_package_imports_without_hypothesis_but_strategies_name_the_missing_extra(run_python):
    script = (
        "import sys\n"
        "sys.modules['hypothesis'] = None\n"
        "import viscy_sampling_testkit\n"
        "try:\n"
        "    import viscy_sampling_testkit.strategies\n"
        "except ImportError as error:\n"
        "    print(error)\n"
    )
    remedy = "viscy_sampling_testkit.strategies needs hypothesis; install viscy-sampling-testkit[hypothesis]\n"
    assert run_python("-c", script) == remedy


def test_further_options_are_drawn_on_request_and_valid():
    table = pd.DataFrame([("a", "x", 0.0)] * 30, columns=COLUMNS)
    names = {"split_batches", "anchors_per_condition", "epoch_batches", "distinct_by", "locality", "place_by"}

    @QUICK
    @given(options=sampler_options(table, all_options=True))
    def check(options):
        assert set(options) == OPTIONS | names
        assert 1 <= (options["anchors_per_condition"] or 1) <= options["batch_size"]
        assert (options["epoch_batches"] or 1) >= 1
        assert options["locality"] >= 1

    check()
    every = find_any(sampler_options(table, all_options=True), lambda options: all(options[name] for name in names))
    assert every["distinct_by"] is not None
